"""What carries `batches_core` over a network, one module a transport.

Import the one you want: `transports.httpx` today. Each needs the extra of its name.
"""
