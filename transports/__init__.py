"""What carries `batches_core` over a network, one module a transport.

`transports.httpx`, `transports.trio` and `transports.h11` each have a client with the same methods
and the same behaviour. Import the one you want; each needs the extra of its name.
`transports.emulator` serves the emulator, and the package `batches_core_pytest` gives it to tests.
"""
