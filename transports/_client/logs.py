"""What the clients log: the events of calls, and each transport's exchanges and connections.

Knows which event is worth which level; nothing of who reads the log. Events are logged as
``transports.client``, exchanges under the name of the transport's own module. Of a URL the path is
logged and no query, which can be a credential, and of a link away from the API the host alone.
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
# Without it Python prints warnings itself where the user has not configured any logging.
logging.getLogger("transports").addHandler(logging.NullHandler())


def logged(on_event: OnEvent) -> OnEvent:
    """Give a function that logs an event, and then calls `on_event` with it."""

    def log_and_tell(event: Event) -> None:
        log_event(event)
        on_event(event)

    return log_and_tell


def log_event(event: Event) -> None:
    """Log an event; one that is not known here is passed over, as results are."""
    match event:
        case RetryScheduled(error=error, retry=retry, delay=delay):
            # One failure passes; from the second in a row on it is an outage.
            level = logging.INFO if retry == 1 else logging.WARNING
            _logger.log(level, "retry %d in %.1f s: %s", retry, delay, error)
        case ResultsInterrupted(error=error, delivered=delivered, delay=delay):
            _logger.warning(
                "the results broke off after %d items and are read again in %.1f s: %s",
                delivered,
                delay,
                error,
            )
        case SettlingStarted(error=error, settle_time=settle_time):
            _logger.warning(
                "it is not known whether a batch was created; looking for it in the list for up to "
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
    """Log that a response has begun."""
    if logger.isEnabledFor(logging.DEBUG):
        path = "/…" if request.cross_origin else request.target.partition("?")[0]
        logger.debug("%s %s%s: %d", request.method, request.authority, path, status)


def log_reconnect(logger: logging.Logger, request: Request, error: TransportError) -> None:
    """Log that a kept connection had died, and another one is opened in its stead."""
    logger.debug(
        "a kept connection to %s had died, reconnecting: %s", request.authority, error.reason
    )
