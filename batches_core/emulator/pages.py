"""The order of a list of batches, and one page of it.

`endpoints` decides which batches the list contains.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal, TypeAlias
from urllib.parse import parse_qs, urlsplit

from .batch import EmulatedBatch
from .refusals import bad_request

#: Which of two batches with equal ``created_at`` comes first; the service's rule is not documented.
Ties: TypeAlias = Literal["newest", "oldest", "id"]
TIES = ("newest", "oldest", "id")

_LIMIT = re.compile(r"[0-9]{1,4}")
_DEFAULT_LIMIT = 20
_MAX_LIMIT = 1000


def newest_first(batches: Iterable[EmulatedBatch], ties: Ties) -> list[EmulatedBatch]:
    """Return batches newest first; `batches` are in the order of their creation."""
    ordered = list(batches)
    if ties == "newest":
        ordered.reverse()
    elif ties == "id":
        ordered.sort(key=lambda batch: batch.id, reverse=True)
    # Compare the texts, not the times: they show microseconds, so times that differ by less are
    # equal. The sort is stable, so it keeps the order of batches with equal texts.
    ordered.sort(key=lambda batch: batch.created_at_text, reverse=True)
    return ordered


def cut_page(ordered: list[EmulatedBatch], url: str) -> tuple[list[EmulatedBatch], bool]:
    """Return the page of an ordered list that a URL's query asks for, and whether more follow.

    With ``before_id`` the page ends right before that batch, and "more" are those before the page.

    Raises:
        RefusedError: the limit is not a number from 1 to 1000, a cursor is not in the list, or
            there are two cursors (400).
    """
    query = {name: values[-1] for name, values in parse_qs(urlsplit(url).query).items()}
    text = query.get("limit", str(_DEFAULT_LIMIT))
    if not _LIMIT.fullmatch(text) or not 1 <= int(text) <= _MAX_LIMIT:
        raise bad_request(f"limit: Input should be an integer from 1 to {_MAX_LIMIT}")
    limit = int(text)
    places = {batch.id: place for place, batch in enumerate(ordered)}
    # What the service does with two cursors, or with an unknown id, is not documented.
    if "after_id" in query and "before_id" in query:
        raise bad_request("after_id and before_id cannot be used together")
    for name in ("after_id", "before_id"):
        if name in query and query[name] not in places:
            raise bad_request(f"{name}: Batch `{query[name]}` was not found.")
    if "before_id" in query:
        end = places[query["before_id"]]
        start = max(0, end - limit)
        has_more = start > 0
    else:
        start = places[query["after_id"]] + 1 if "after_id" in query else 0
        end = start + limit
        has_more = end < len(ordered)
    return ordered[start:end], has_more
