"""Read the requests of a job, and read them again whenever they are needed.

`interface` is what the runner uses, and `opening` chooses the input for the caller's requests.
`jsonl` leaves the requests in the caller's file. `spooled` copies the requests of any other source
to the folder of the job. The sources are in `sources` and `parquet`.
"""
