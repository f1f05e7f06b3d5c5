"""The rooms behind `batches_jobs.engines.temporal`."""
