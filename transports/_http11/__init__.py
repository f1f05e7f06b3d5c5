"""HTTP/1.1 over sockets, for `transports.h11`, `transports.trio` and `transports.asyncio`."""
