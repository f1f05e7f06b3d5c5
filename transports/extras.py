"""What is said if a library is missing that an extra of this package brings."""

from __future__ import annotations


def missing(library: str, extra: str) -> ModuleNotFoundError:
    """Build the error of a module that cannot be imported without this library."""
    return ModuleNotFoundError(
        f"{library} is not installed: pip install 'batches-core[{extra}]'", name=library
    )
