"""The files behind `transports.files` and `download`: requests to send, and received results."""
