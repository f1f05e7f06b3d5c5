"""Storage that several machines share: a folder, or a bucket of objects."""
