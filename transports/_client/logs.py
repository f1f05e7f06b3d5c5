"""Log the events of calls, and each transport's exchanges and reconnects.

This module chooses the level of each record. Events are logged under the name
``transports.client``. Exchanges and reconnects are logged under the name of the transport, such as
``transports.h11``.

The host and path of a URL are logged, but not its query, which can be a credential. If a URL leaves
the API's origin, its path is not logged either.
"""

from __future__ import annotations

import logging

from batches_core import (
    BatchCreated,
    BatchState,
    CreateMarked,
    Event,
    PageReceived,
    Request,
    ResultsInterrupted,
    RetryScheduled,
    SettlingStarted,
    TransportError,
)
from batches_core.lowlevel import quote

from .events import OnEvent

_logger = logging.getLogger("transports.client")
# Without a handler, Python prints warnings itself if the user has not configured logging.
logging.getLogger("transports").addHandler(logging.NullHandler())


def logged(on_event: OnEvent) -> OnEvent:
    """Return a function that logs an event and then calls `on_event` with it."""

    def log_and_call(event: Event) -> None:
        log_event(event)
        on_event(event)

    return log_and_call


def log_event(event: Event) -> None:
    """Log an event. Results and events of an unknown kind are not logged."""
    match event:
        case RetryScheduled(error=error, retry=retry, delay=delay):
            # A single failure is normal. Two in a row can be an outage.
            level = logging.INFO if retry == 1 else logging.WARNING
            _logger.log(level, "retry %d in %.1f s: %s", retry, delay, error)
        case ResultsInterrupted(error=error, delivered=delivered, delay=delay):
            _logger.warning(
                "the results were interrupted after %d items and are read again in %.1f s: %s",
                delivered,
                delay,
                error,
            )
        case SettlingStarted(error=error, settle_time=settle_time):
            _logger.warning(
                "it is unknown whether a batch was created; searching the list for it for up to "
                "%g s: %s",
                settle_time,
                error.reason,
            )
        case BatchCreated(batch=batch, adopted=True):
            _logger.info("adopted batch %s, found in the list", quote(batch.id))
        case BatchCreated(batch=batch):
            _logger.info("created batch %s", quote(batch.id))
        case CreateMarked(marker=marker):
            _logger.debug("a create of %d requests is about to be sent", marker.requests)
        case BatchState(batch=batch):
            _logger.debug("batch %s is %s", quote(batch.id), quote(batch.processing_status))
        case PageReceived(page=page):
            _logger.debug("received a page of %d batches", len(page.data))
        case _:
            pass


def log_exchange(logger: logging.Logger, request: Request, status: int) -> None:
    """Log the status of a response, when its head has arrived."""
    if logger.isEnabledFor(logging.DEBUG):
        path = "/…" if request.cross_origin else request.target.partition("?")[0]
        logger.debug("%s %s%s: %d", request.method, request.authority, path, status)


def log_reconnect(logger: logging.Logger, request: Request, error: TransportError) -> None:
    """Log that an idle connection was lost and a new one is opened for the request."""
    logger.debug(
        "an idle connection to %s was lost, reconnecting: %s", request.authority, error.reason
    )
