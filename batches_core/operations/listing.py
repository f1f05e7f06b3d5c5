"""The list of batches: one page, or page after page.

Knows how the pages follow one another. What a page's batches mean to a create whose answer was
lost is `settle`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from batches_core.call import request_json_and_head, request_json_with_retries, retried
from batches_core.context import Flow, OperationContext
from batches_core.errors import RemoteProtocolError
from batches_core.events import PageReceived
from batches_core.http import Request
from batches_core.models import Page

#: Builds the request for the page behind a cursor, or for the first one.
PageRequest: TypeAlias = Callable[[str | None], Request]

#: The response header that names the organization of the credential.
ORGANIZATION_HEADER = "anthropic-organization-id"


def list_page(context: OperationContext, request: Request) -> Flow[Page]:
    """Read one page of the list."""
    return (yield from request_json_with_retries(context, request, Page, "a page of batches"))


def _page_and_headers(
    context: OperationContext, request: Request
) -> Flow[tuple[Page, Mapping[str, str]]]:
    def attempt() -> Flow[tuple[Page, Mapping[str, str]]]:
        page, head = yield from request_json_and_head(context, request, Page, "a page of batches")
        return page, head.headers

    return (yield from retried(context, attempt))


class Pages:
    """Page after page of the list, each read when it is asked for.

    The walk ends with ``has_more: false``, an empty page or a null cursor. A cursor that comes
    again would lead round in a circle, and is an error instead.
    """

    def __init__(
        self,
        context: OperationContext,
        page_request: PageRequest,
        *,
        start: str | None = None,
        backwards: bool = False,
    ) -> None:
        self._context = context
        self._page_request = page_request
        self._backwards = backwards
        self._cursor = start
        self._seen = {start}
        self._ended = False
        self._is_circle = False
        #: Whether the service said that there is no page after the last one.
        self.is_complete = False
        #: The headers that the last page came with.
        self.headers: Mapping[str, str] = {}

    def next(self) -> Flow[Page | None]:
        """Read the next page; None where there is none."""
        if self._ended:
            return None
        if self._is_circle:
            raise RemoteProtocolError(
                f"the list of batches runs in a circle: its cursor {self._cursor!r} came a second "
                "time; what was listed is good, try the rest again later"
            )
        request = self._page_request(self._cursor)
        page, self.headers = yield from _page_and_headers(self._context, request)
        self._cursor = page.first_id if self._backwards else page.last_id
        self._ended = not page.has_more or not page.data or not self._cursor
        self.is_complete = not page.has_more
        self._is_circle = self._cursor in self._seen
        self._seen.add(self._cursor)
        return page


def list_all(pages: Pages) -> Flow[None]:
    """Read page after page, each when it is asked for."""
    while (page := (yield from pages.next())) is not None:
        yield PageReceived(page=page)
