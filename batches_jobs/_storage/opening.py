"""Opens shared storage by its path or URL."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import unquote, urlsplit

from batches_core import InvalidInputError

from .folder import FolderStorage
from .interface import Storage
from .objects import ObjectStorage
from .store_failures import failure_of

#: The schemes in which what is before the @ is a container, and no credential.
_CONTAINER_FIRST = frozenset({"abfs", "abfss"})


def open_storage(target: str | os.PathLike[str], **options: Any) -> Storage:
    """Open a folder by its path, or a bucket by its URL.

    ``s3://bucket/prefix``, ``gs://…``, ``az://…`` and ``memory:///`` need the extra ``storage``;
    `options` are those of obstore's ``from_url``. Credentials come from the environment. Anything
    else, also ``file:///path``, is a folder.

    Raises:
        InvalidInputError: the URL is unknown, or has a credential, or the extra is missing.
    """
    text = os.fspath(target)
    scheme, separator, rest = text.partition("://")
    if not separator:
        return FolderStorage(text)
    check_url(text)
    if scheme == "file":
        return FolderStorage(unquote(rest))
    try:
        from obstore.store import from_url  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise InvalidInputError(
            f"{scheme}:// needs obstore: install batches-core[storage]"
        ) from error
    try:
        return ObjectStorage(from_url(text, **options))
    except Exception as error:  # noqa: BLE001 - obstore raises several kinds
        raise InvalidInputError(
            f"{text} is no storage ({failure_of(str(error))[0]}): pass a path, or a URL such as "
            "s3://bucket/prefix"
        ) from None


def check_url(url: str) -> None:
    """Check that a URL of storage has no place for a credential. An error does not show the URL.

    Raises:
        InvalidInputError: it has a user, a password, a query or a fragment, or is no URL.
    """
    try:
        parts = urlsplit(url)
        is_container = parts.scheme in _CONTAINER_FIRST and parts.password is None
        has_user = "@" in parts.netloc and not is_container
    except ValueError:
        raise InvalidInputError(
            "the URL of the storage is malformed: pass one such as s3://bucket/prefix"
        ) from None
    if has_user or parts.query or parts.fragment:
        raise InvalidInputError(
            f"the {parts.scheme}:// URL has a user, a password or a query, which are not used: "
            "leave them out, and set the credentials in the environment"
        )
    if parts.scheme == "file" and parts.netloc not in {"", "localhost"}:
        raise InvalidInputError(
            f"{url} is on another machine: pass file:///PATH, or the path of a folder"
        )
