"""The transport over httpx or httpx2, behind `transports.httpx`."""
