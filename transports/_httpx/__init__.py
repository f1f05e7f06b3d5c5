"""The transport over httpx or httpx2."""
