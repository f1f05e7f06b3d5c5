"""The tests of jobs: of the machine, and of `batches_jobs`."""
