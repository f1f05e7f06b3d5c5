"""The endpoint that a request is for, by its method and path.

`endpoints` carries the request out.
"""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from batches_core.http import Request

from .refusals import RefusedError, bad_request, not_found


def read_route(request: Request) -> tuple[str, str]:
    """Return the route of a request, such as ``"get"``, and the batch id in its path or "".

    Raises:
        RefusedError: the URL is invalid (400), there is no such path (404), or the path does not
            allow the method (405).
    """
    try:
        url = urlsplit(request.url)
    except ValueError as error:
        raise bad_request(f"The URL cannot be read: {error}") from None
    id_ = ""
    match [unquote(part) for part in url.path.split("/")]:
        case ["", "v1", "messages", "batches"]:
            routes = {"POST": "create", "GET": "list"}
        case ["", "v1", "messages", "batches", id_]:
            routes = {"GET": "get", "DELETE": "delete"}
        case ["", "v1", "messages", "batches", id_, "cancel"]:
            routes = {"POST": "cancel"}
        case ["", "v1", "messages", "batches", id_, "results"]:
            routes = {"GET": "results"}
        case _:
            raise not_found("Not found")
    if request.method not in routes:
        raise RefusedError(405, "invalid_request_error", "Method Not Allowed")
    return routes[request.method], id_


def origin_of(request: Request) -> str:
    """Return the origin of a request's URL, such as ``https://host:8443``."""
    parts = urlsplit(request.url)
    return f"{parts.scheme}://{parts.netloc}"
