"""HTTP/1.1 on streams: the transport of the doors `h11`, `trio` and `asyncio`."""
