"""Opens shared storage by its path or URL."""

from __future__ import annotations

import os
from typing import Any

from batches_core import InvalidInputError

from .folder import FolderStorage
from .interface import Storage
from .objects import ObjectStorage


def open_storage(target: str | os.PathLike[str], **options: Any) -> Storage:
    """Open a folder by its path, or a bucket by its URL.

    ``s3://bucket/prefix``, ``gs://…``, ``az://…`` and ``memory:///`` need the extra ``storage``;
    `options` are those of obstore's ``from_url``. Credentials come from the environment. Anything
    else, also ``file:///path``, is a folder.

    Raises:
        InvalidInputError: the URL is unknown, or the extra is missing.
    """
    text = os.fspath(target)
    scheme, separator, rest = text.partition("://")
    if not separator:
        return FolderStorage(text)
    if scheme == "file":
        return FolderStorage(rest)
    try:
        from obstore.store import from_url  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise InvalidInputError(
            f"{scheme}:// needs obstore: install batches-core[storage]"
        ) from error
    try:
        return ObjectStorage(from_url(text, **options))
    except Exception as error:
        raise InvalidInputError(
            f"{text} is no storage ({str(error).partition(chr(10))[0]}): pass a path, or a URL "
            "such as s3://bucket/prefix"
        ) from error
