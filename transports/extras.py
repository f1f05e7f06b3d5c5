"""What is said if a library is missing that an extra of this package brings."""

from __future__ import annotations


def explain(error: ModuleNotFoundError, extra: str) -> None:
    """Raise an error that names the extra, if the library of that name is what is missing."""
    if error.name == extra:
        raise ModuleNotFoundError(
            f"{extra} is not installed: pip install 'batches-core[{extra}]'", name=extra
        ) from error
