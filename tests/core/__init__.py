"""The tests of `batches_core`, module by module."""
