"""A report of a job: one HTML page without scripts, with its charts as inline SVG.

`facts` and `answers` gather what it shows. `page` writes it, with the charts of `chunk_chart` and
`token_chart`.
"""
