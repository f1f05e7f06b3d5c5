"""The results of a job as a table: flat rows with the input's own columns, for other programs.

`results_table` makes the rows: `answers` reads their cells, `own_columns` those of the input.
`output` writes them to a file or stream, in the formats of `text_formats` and `parquet_format`.
"""
