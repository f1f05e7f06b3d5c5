"""The tests of `batches_core.emulator`."""
