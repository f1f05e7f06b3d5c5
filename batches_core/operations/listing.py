"""The list of batches: one page, or page after page.

`Pages` decides which page follows, and when the list ends. `settle` decides what the listed batches
mean to a create whose response was lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from batches_core.call import request_json_and_head, request_json_with_retries, with_retries
from batches_core.context import Flow, OperationContext
from batches_core.errors import RemoteProtocolError
from batches_core.events import PageReceived
from batches_core.http import Request
from batches_core.models import Page

#: Builds the request for the page after a cursor, or for the first page if the cursor is None.
PageRequest: TypeAlias = Callable[[str | None], Request]

#: The response header that names the organization of the credential.
ORGANIZATION_HEADER = "anthropic-organization-id"


def list_page(context: OperationContext, request: Request) -> Flow[Page]:
    """Read one page of the list."""
    return (yield from request_json_with_retries(context, request, Page, "a page of batches"))


def _read_page_and_headers(
    context: OperationContext, request: Request
) -> Flow[tuple[Page, Mapping[str, str]]]:
    def attempt() -> Flow[tuple[Page, Mapping[str, str]]]:
        page, head = yield from request_json_and_head(context, request, Page, "a page of batches")
        return page, head.headers

    return (yield from with_retries(context, attempt))


class Pages:
    """The pages of the list, each read when `next` asks for it.

    They end with ``has_more: false``, an empty page or a null cursor. A repeated cursor would make
    the list endless, and is an error.
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
        self._is_circular = False
        #: Whether the service said that no page follows the last one that was read.
        self.is_complete = False
        #: The headers of the response with the last page.
        self.headers: Mapping[str, str] = {}

    def next(self) -> Flow[Page | None]:
        """Read the next page, or return None at the end.

        Raises:
            RemoteProtocolError: the service repeated a cursor.
        """
        if self._ended:
            return None
        if self._is_circular:
            raise RemoteProtocolError(
                f"the list of batches repeats its cursor {self._cursor!r} and would never end; the "
                "batches so far are correct: list the rest again later"
            )
        request = self._page_request(self._cursor)
        page, self.headers = yield from _read_page_and_headers(self._context, request)
        self._cursor = page.first_id if self._backwards else page.last_id
        self._ended = not page.has_more or not page.data or not self._cursor
        self.is_complete = not page.has_more
        self._is_circular = self._cursor in self._seen
        self._seen.add(self._cursor)
        return page


def list_all(pages: Pages) -> Flow[None]:
    """Read page after page, each when the driver asks for it."""
    while (page := (yield from pages.next())) is not None:
        yield PageReceived(page=page)
