"""The operations on batches, one module each; `BatchesAPI` wires them to requests."""
