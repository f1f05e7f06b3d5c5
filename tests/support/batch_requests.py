"""Requests of a batch: their preparation, and the problems that are found in them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from batches_core import Body, InvalidInputError, RequestLike
from batches_core import requests as core_requests


def request_dict(custom_id: Any = "a", **params: Any) -> dict[str, Any]:
    return {"custom_id": custom_id, "params": params}


def prepare(requests: Any) -> tuple[Body, int]:
    """Prepare the requests of a batch; return the body of the create and their number."""
    prepared = core_requests.prepare(requests)
    return prepared.body, prepared.count


def body_of(*requests: RequestLike) -> bytes:
    """Prepare requests, check that each was counted, and return the body of the create."""
    body, count = prepare(requests)
    assert count == sum(1 for request in requests if request not in (b"\n", "\n"))
    return b"".join(body)


def expect_refusal(requests: Iterable[Any]) -> InvalidInputError:
    """Expect that requests cannot be prepared; return the error."""
    with pytest.raises(InvalidInputError) as caught:
        prepare(requests)
    return caught.value


def places_of(error: InvalidInputError) -> list[tuple[int | None, str | None]]:
    """Return the index and the field of each problem."""
    return [(problem.index, problem.field) for problem in error.problems]
