"""The version of this project. A constant: reading the metadata of a distribution would be I/O."""

__version__ = "0.3.0"
