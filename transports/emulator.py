"""A server for `batches_core.emulator`, for examples, tests and trying things out.

    python -m transports.emulator --port 8000 --speed 10

prints its base URL as its first line and serves until it is interrupted. ``--fault`` injects a
fault, ``--verbose`` logs requests; ``--help`` lists all options. In Python::

    with running_emulator() as base_url:
        ...

`batches_core.emulator.Emulator` makes the responses, and chooses the faults. This server sends them
over HTTP/1.1, with any number of connections in one thread. It is a test double: it speaks no TLS,
and by default it listens on the loopback address only.

Behind a proxy with TLS, clients use another origin. Pass it as `public_url`, or let the proxy set
the headers ``X-Forwarded-Proto`` and ``X-Forwarded-Host``: every ``results_url`` starts with it.
"""

from __future__ import annotations

import sys

from ._emulator.command import main
from ._emulator.server import EmulatorServer, running_emulator

__all__ = ["EmulatorServer", "main", "running_emulator"]

if __name__ == "__main__":
    sys.exit(main())
