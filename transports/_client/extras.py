"""The error for a missing library: it names the extra that installs the library."""

from __future__ import annotations


def explain(error: ModuleNotFoundError, extra: str) -> None:
    """Raise an error that names the extra, if `error` is about the library of the same name."""
    if error.name == extra:
        raise ModuleNotFoundError(
            f"{extra} is not installed: pip install 'batches-core[{extra}]'", name=extra
        ) from error
