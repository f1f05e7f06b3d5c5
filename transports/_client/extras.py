"""The error for a library that is missing because its extra was not installed."""

from __future__ import annotations


def explain(error: ModuleNotFoundError, extra: str) -> None:
    """Raise an error that names the extra, if the missing module is the library of that name."""
    if error.name == extra:
        raise ModuleNotFoundError(
            f"{extra} is not installed: pip install 'batches-core[{extra}]'", name=extra
        ) from error
