"""Clients for the Message Batches API over a network. `batches_core` is the protocol without I/O.

Import the transport that you want. Each needs an extra of this package:

- `transports.httpx`: a blocking client, and an async client on asyncio and trio; extra ``httpx`` or
  ``httpx2``;
- `transports.h11`: a blocking client on sockets; extra ``h11``;
- `transports.asyncio`: an async client on asyncio; extra ``h11``;
- `transports.trio`: an async client on trio; extra ``trio``.

All clients have the same methods and the same behaviour. `transports.files` reads requests and
results from files. `transports.emulator` is a server that emulates the service; the pytest plugin
`batches_core_pytest` starts one for each test that uses it.
"""
