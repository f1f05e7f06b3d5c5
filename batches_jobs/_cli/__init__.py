"""The command line ``batches``.

`main` is its entry point and names the verbs. It adds no rule of its own: `batches_jobs` runs jobs,
and the clients of `transports` make single requests.
"""
