"""The raw transports over HTTP/1.1, behind `transports.h11`, `.trio` and `.asyncio`."""
