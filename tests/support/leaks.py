"""What a test must not leave behind: secrets in a log, and open sockets."""

from __future__ import annotations

import os
import re
from pathlib import Path

#: A key as tests make them up, a credential behind its scheme, or the query of a URL.
_SECRET = re.compile(r"sk-[\w-]{3,}|Bearer \S|\?[\w.%-]+=")


def secrets_in(text: str) -> list[str]:
    """Return the parts of a text that must never be logged."""
    return _SECRET.findall(text)


def open_sockets() -> list[str]:
    """Return the name of each open socket of this process, once for each file descriptor."""
    targets = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            targets.append(os.readlink(descriptor))  # noqa: PTH115 - a socket's link is not a path
        except OSError:
            continue  # the descriptor of this listing itself
    return [target for target in targets if target.startswith("socket:")]
