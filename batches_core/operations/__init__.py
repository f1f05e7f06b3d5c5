"""The flows of the operations, and what they share; `BatchesAPI` connects them with requests."""
