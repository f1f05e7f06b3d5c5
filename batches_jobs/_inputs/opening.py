"""Choose the input for the requests that a caller passes."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping

from batches_core import BatchRequest, InvalidInputError, PreparedRequests, RequestsSource
from batches_core.jobs import Ids
from batches_jobs._folder import JobFolder
from transports.files import RequestsFile

from .interface import Input
from .jsonl import JSONLInput
from .sources import IterableSource, LinesSource, Source
from .spooled import SpooledInput


def open_input(requests: object, folder: JobFolder, *, job_id: str, ids: Ids = "keep") -> Input:
    """Return the input for `requests`.

    A path (str or Path) or a `RequestsFile` is a file of JSON lines, which is read in place. A
    `Source`, an open binary file, or any other iterable of requests is spooled.

    Raises:
        InvalidInputError: `requests` are none of these, or `ids` is unknown.
    """
    match requests:
        case RequestsFile():
            return JSONLInput(requests.path, folder, job_id=job_id, ids=ids)
        case str() | os.PathLike():
            return JSONLInput(requests, folder, job_id=job_id, ids=ids)
        case Source():
            source: Source = requests
        case io.RawIOBase() | io.BufferedIOBase():
            source = LinesSource(requests)
        case bytes() | bytearray() | Mapping() | BatchRequest():
            kind = type(requests).__name__
            raise InvalidInputError(
                f"requests must be a path or an iterable of requests, not {kind}: put a single "
                "request in a list"
            )
        case PreparedRequests() | RequestsSource():
            raise InvalidInputError(
                f"requests cannot be a {type(requests).__name__}, which is for one batch: pass the "
                "path or the requests themselves"
            )
        case Iterable():
            source = IterableSource(requests)
        case _:
            kind = type(requests).__name__
            raise InvalidInputError(
                f"requests must be a path or an iterable of requests, not {kind}: pass a list"
            )
    return SpooledInput(source, folder, job_id=job_id, ids=ids)
