"""Tests of `batches_core`, one file for each of its modules or operations."""
