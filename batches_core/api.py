"""The entry point: `BatchesAPI`, which makes the operations, one short method for each.

Each method checks its arguments and returns an operation. `endpoint` builds the requests. The
modules of `operations` define the *flows*, generators that decide what to send and when.
`operation` runs a flow.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, TypeVar

from .batch_request import RequestLike
from .context import Flow, OperationContext
from .decoding import RawDecoder, ResultDecoder, message_decoder
from .endpoint import Endpoint
from .errors import InvalidInputError, OutcomeUnknownError
from .http import Request
from .jsonl import MAX_LINE, LineDecoder
from .marker import CreateMarker
from .models import DeletedMessageBatch, Message, MessageBatch, Page
from .operation import Operation, StartFlow
from .operations import batch as batch_operations
from .operations import listing, results, settle, wait
from .operations.create import CreateOperation, CreatePlan, IfUnknown, IfUnmarked, mark
from .operations.delivered import Line
from .operations.ledger import CreateLedger
from .operations.settle import Settling, SettlingPolicy
from .redaction import hide
from .requests import PreparedRequests, RequestsSource, prepare
from .retry import Jitter, RetryPolicy, no_jitter
from .urls import path_segment
from .validation import check_callback, check_seconds

#: The default base URL: the service itself.
BASE_URL = "https://api.anthropic.com"
#: The default version of the API (``anthropic-version``). Under the newer ``2026-10-21`` the
#: service refuses a request with ``temperature``, ``top_p`` or ``top_k``.
VERSION = "2023-06-01"

T = TypeVar("T")
P = TypeVar("P", RetryPolicy, SettlingPolicy)

#: The largest page of the list, by the API's documentation.
_MAX_LIMIT = 1000
#: The size of the pages that are read for a marker and for settling. One such page usually holds
#: enough: every batch of the last 10 seconds (the clock slack), or every batch since the marker.
_SETTLING_LIMIT = 100


class BatchesAPI:
    """The Message Batches API for one credential; its methods make operations.

    - `api_key`, `auth_token`: the credential. Pass exactly one. The first is sent as ``x-api-key``,
      the second as ``authorization: Bearer``.
    - `base_url`: the address of the API; the service's by default.
    - `version`: the API's version (``anthropic-version``), `VERSION` by default.
    - `betas`: the names for ``anthropic-beta``; none by default.
    - `workspace_id`: the value of ``anthropic-workspace-id``; not sent by default.
    - `user_profile_id`: the value of ``anthropic-user-profile-id``, sent only with a create; not
      sent by default.
    - `retry`: how failures are retried; by default a `RetryPolicy()`, which allows 3 attempts.
    - `jitter`: a function that returns a number from 0 to 1, such as ``random.random``. It varies
      the delays, so that many clients do not retry or poll at the same time (see `RetryPolicy`). By
      default it returns 1, so delays do not vary: the core has no randomness.
    - `settling`: how the list is searched for the batch of a create whose response was lost; by
      default with a `SettlingPolicy()`, which allows 60 seconds.
    - `ledger`: the record of this process's own creates; by default a new `CreateLedger`. Pass the
      same one to every `BatchesAPI` of one base URL, credential and workspace.
    - `max_line`: the longest line of a results file in bytes, 64 MiB by default. A longer one
      becomes a `MalformedResultError`.
    - `trusted_hosts`: the other hosts from which results may be fetched; none by default. Each is a
      name, with a port unless it is the default one. They never receive the credential.
    - `allow_http`: whether plain http to another machine is accepted; False by default. Plain http
      to this machine always is.

    What all methods have in common:

    - `batch` is a batch's id, or a `MessageBatch`, of which only the id is used.
    - A method sends nothing. It returns an `Operation`, which a driver runs.
    - Errors that a method raises itself are marked "at once" below; all others are raised by
      `Operation.next_event`.
    - A failed attempt is retried as `retry` allows, after a `RetryScheduled` event. In the end any
      operation can raise `TransportError` (the network failed), `APIStatusError` (the service
      refused the request or failed) or `RemoteProtocolError` (the response breaks the protocol).

    Raises:
        InvalidInputError: there is no credential or there are two, or a value cannot be used.
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        auth_token: str | None = None,
        base_url: str = BASE_URL,
        version: str = VERSION,
        betas: Sequence[str] = (),
        workspace_id: str | None = None,
        user_profile_id: str | None = None,
        retry: RetryPolicy | None = None,
        jitter: Jitter = no_jitter,
        settling: SettlingPolicy | None = None,
        ledger: CreateLedger | None = None,
        max_line: int = MAX_LINE,
        trusted_hosts: Iterable[str] = (),
        allow_http: bool = False,
    ) -> None:
        # From here on, a traceback that shows local variables hides the credentials.
        api_key, auth_token = hide(api_key), hide(auth_token)
        # Set first, so that the repr works even if the construction fails.
        self.base_url = "not constructed"
        endpoint = Endpoint(
            api_key=api_key,
            auth_token=auth_token,
            base_url=base_url,
            version=version,
            betas=betas,
            workspace_id=workspace_id,
            user_profile_id=user_profile_id,
            trusted_hosts=trusted_hosts,
            allow_http=allow_http,
        )
        self._endpoint = endpoint
        self.base_url = endpoint.base_url
        #: Identifies the list of batches: a hash of the base URL, the workspace and the credential.
        self.scope = endpoint.scope
        self._retry = _check_policy("retry", retry, RetryPolicy)
        self._jitter = jitter
        self._settling_policy = _check_policy("settling", settling, SettlingPolicy)
        #: The record of this process's own creates.
        self.ledger = CreateLedger() if ledger is None else ledger
        if max_line < 1:
            raise InvalidInputError(
                f"max_line must be a number of bytes, 1 or more, not {max_line!r}"
            )
        self.max_line = max_line

    def __repr__(self) -> str:
        return f"{type(self).__name__}(base_url={self.base_url!r})"

    # --- operations ----------------------------------------------------------------------

    def create(
        self,
        requests: Iterable[RequestLike] | RequestsSource | PreparedRequests,
        *,
        if_unknown: IfUnknown = "raise",
        if_unmarked: IfUnmarked = "raise",
        settle_time: float | None = None,
        known_ids: Collection[str] = (),
        marker: CreateMarker | None = None,
    ) -> CreateOperation:
        """Create a batch, and never create it twice.

        - `requests`: 1 to 100,000 requests, at most 256,000,000 bytes as JSON. Each is a mapping, a
          `BatchRequest`, or one request as JSON (bytes or str), so an open file with a request on
          each line will do. A `RequestsSource` has its own body, such as a file that is never in
          memory whole. `params` are sent unchanged.
        - `if_unknown`: what to do if the response is lost: ``"raise"`` (the default) or
          ``"settle"``.
        - `if_unmarked`: what to do if the list cannot be read before the create: ``"raise"`` (the
          default), so that nothing is sent, or ``"send"``. A create that is sent without reading
          the list cannot be settled.
        - `settle_time`: how long a create may take to arrive and to be listed, in seconds; by
          default the settling policy's.
        - `known_ids`: the ids of batches that other processes created. The collection may grow: it
          is read again each time the list is read.
        - `marker`: the value of an earlier `mark` for as many requests. The list is then not read
          before the create. By default it is.

        The operation ends with the `MessageBatch`. Events: `CreateMarked` before the create is
        sent, `RetryScheduled`, `SettlingStarted`, and `BatchCreated` at the end.

        **Sending.** First, the operation reads the newest batches of the list. They are the
        *marker*: if the response is lost, only a batch that is not among them can be the create's.
        Then it sends the create. It retries only if the previous attempt certainly had no effect:
        its last byte never left, the service refused it, or settling proved that it made no batch.

        **If the response is lost**, nobody knows whether the batch exists. An unreadable response,
        a 408 and every server error except 529 count as lost too. With ``if_unknown="raise"`` the
        operation raises `OutcomeUnknownError`; pass that to `settle`. With ``"settle"`` it settles
        the outcome itself. It then reads the list again and again. A batch *fits* if

        - it has as many requests as the create,
        - it was not in the list before the create, and is not known to be another create's, and
        - it was made while the create could arrive: after the batches of the marker, and at most
          `settle_time` seconds after the loss of the response. Both limits are extended by 10
          seconds, because the service's clocks may differ.

        What fits decides the outcome:

        - **One batch fits.** It is adopted once it has been the only one for 10 seconds, unless
          another create of this process may have made it.
        - **No batch fits** for `settle_time` seconds. The create is sent again, if the retry policy
          has attempts left. This requires proof that the list is the right one: it shows a batch of
          the marker, or it was read to its end with the create's credential or workspace.
        - **Anything else** raises `OutcomeUnknownError`. Its `candidates` are the batches that may
          be the create's: several that fit, one that another create may have made, one that only
          the ``Date`` header's clock rules out, or none.

        **Limits.** The rule fails in two cases. Two processes that create batches of equal size in
        one workspace at the same time may adopt each other's: pass each other's ids as `known_ids`.
        A batch that arrives, or is listed, later than `settle_time` is not seen, so a second one
        may be created.

        If you stop driving the operation early, call its `interrupt` (see `CreateOperation`).

        Raises:
            InvalidInputError: at once; it lists every problem of the requests with its index. Also
                if the marker is of another number of requests, of another credential or
                destination, or was used before.
            OutcomeUnknownError: it is unknown whether the batch exists.
        """
        if if_unknown not in {"raise", "settle"}:
            raise InvalidInputError(f"if_unknown must be 'raise' or 'settle', not {if_unknown!r}")
        if if_unmarked not in {"raise", "send"}:
            raise InvalidInputError(f"if_unmarked must be 'raise' or 'send', not {if_unmarked!r}")
        prepared = prepare(requests)
        if marker is not None:
            self._check_marker(marker, prepared.count)
        settling = self._build_settling(settle_time, known_ids, is_fresh=True)
        pending = self.ledger.begin(prepared.count)
        plan = CreatePlan(
            request=self._endpoint.create_request(prepared.body),
            pending=pending,
            settling=settling,
            base_url=self.base_url,
            if_unknown=if_unknown,
            if_unmarked=if_unmarked,
            marker=marker,
        )
        return CreateOperation(plan, self._new_context())

    def mark(self, requests: int) -> Operation[CreateMarker]:
        """Read the marker for a create of this number of requests, and send nothing else.

        The operation ends with the `CreateMarker`. Event: `RetryScheduled`. Pass the marker to
        `create`, in this process or another. This is for programs that must store the marker before
        they begin the create, such as workflow engines. All others need not call it: `create` reads
        its own marker.

        A create that is sent more than an hour after its marker cannot be settled for certain.

        Raises:
            InvalidInputError: at once, if `requests` is not a positive int.
        """
        if type(requests) is not int or requests < 1:
            raise InvalidInputError(f"requests must be an int, 1 or more, not {requests!r}")
        pending = self.ledger.begin(requests)
        settling = self._build_settling(None, ())
        return self._operation(lambda context: mark(context, pending, settling, self.base_url))

    def settle(
        self,
        outcome: OutcomeUnknownError | CreateMarker,
        *,
        settle_time: float | None = None,
        known_ids: Collection[str] = (),
    ) -> Operation[MessageBatch | None]:
        """Find out whether a create whose response was lost made a batch.

        It works later and in another process too. `create` describes the rule and its limits.

        - `outcome`: the `OutcomeUnknownError` of the create, or its `CreateMarker`.
        - `settle_time`, `known_ids`: as for `create`.

        The operation ends with the `MessageBatch`, or with None if the list proves that there is
        none. After None, the requests can be sent again. Events: `RetryScheduled`, and
        `BatchCreated` if there is a batch.

        The marker of a process that died does not say when its create was abandoned. A batch that
        was made more than an hour after such a marker is neither adopted nor ruled out.

        Raises:
            InvalidInputError: at once, if the outcome has no marker, or the create was sent to
                another base URL or workspace. Later, if the create is still under way in this
                process.
            OutcomeUnknownError: it is still unknown whether the batch exists. Its `candidates` are
                the batches that may be the create's.
        """
        marker = outcome.marker if isinstance(outcome, OutcomeUnknownError) else outcome
        if not isinstance(marker, CreateMarker):
            raise InvalidInputError(
                "this outcome cannot be settled, because the list was not read before the create: "
                "look for the batch with list_all()"
                if isinstance(outcome, OutcomeUnknownError)
                else "settle() needs the OutcomeUnknownError of a create, or its marker, not "
                f"{type(outcome).__name__}"
            )
        self._check_destination(marker)
        settling = self._build_settling(settle_time, known_ids)
        return self._operation(lambda context: settle.settle_later(context, marker, settling))

    def get(self, batch: MessageBatch | str) -> Operation[MessageBatch]:
        """Read the current state of a batch.

        The operation ends with the `MessageBatch`. Event: `RetryScheduled`.

        Raises:
            InvalidInputError: at once, if `batch` is neither a `MessageBatch` nor an id.
        """
        request = self._endpoint.batch_request("GET", _id_of(batch))
        return self._operation(lambda context: batch_operations.get(context, request))

    def cancel(self, batch: MessageBatch | str) -> Operation[MessageBatch]:
        """Cancel the processing of a batch.

        The operation ends with the `MessageBatch`. Its status is ``canceling`` at first, and later
        ``ended``, with some of the results or none. A second cancel is harmless. Event:
        `RetryScheduled`.

        Raises:
            InvalidInputError: at once, if `batch` is neither a `MessageBatch` nor an id.
        """
        request = self._endpoint.batch_request("POST", _id_of(batch), "/cancel")
        return self._operation(lambda context: batch_operations.cancel(context, request))

    def delete(self, batch: MessageBatch | str) -> Operation[DeletedMessageBatch]:
        """Delete a batch that has ended, with its results.

        The operation ends with a `DeletedMessageBatch`. A 404 counts as success if an earlier
        attempt may have deleted the batch. Event: `RetryScheduled`.

        Raises:
            InvalidInputError: at once, if `batch` is neither a `MessageBatch` nor an id.
        """
        batch_id = _id_of(batch)
        request = self._endpoint.batch_request("DELETE", batch_id)
        return self._operation(
            lambda context: batch_operations.delete(context, request, batch_id=batch_id)
        )

    def list(
        self,
        *,
        limit: int | None = None,
        before_id: str | None = None,
        after_id: str | None = None,
    ) -> Operation[Page]:
        """Read one page of the list of batches, newest first.

        - `limit`: the size of the page, 1 to 1,000; by default the service's, which is 20.
        - `after_id`: read the page after this batch, with older ones.
        - `before_id`: read the page before this batch, with newer ones. Do not pass both.

        The operation ends with a `Page`. Event: `RetryScheduled`.

        Raises:
            InvalidInputError: at once, if an argument is invalid.
        """
        _check_page(limit, before_id, after_id)
        request = self._endpoint.page_request(limit, before_id, after_id)
        return self._operation(lambda context: listing.list_page(context, request))

    def list_all(
        self,
        *,
        limit: int | None = None,
        before_id: str | None = None,
        after_id: str | None = None,
    ) -> Operation[None]:
        """Read the list of batches page by page, each page only when the driver asks for it.

        - `limit`: the size of one page, 1 to 1,000; by default the service's, which is 20.
        - `after_id`: begin after this batch, and continue to the oldest.
        - `before_id`: begin before this batch, and continue to the newest. Do not pass both.

        By default the operation begins with the newest batch and continues to the oldest. Within a
        page the newest is first, in either direction.

        The operation ends with None. Events: `PageReceived` for each page, and `RetryScheduled`.

        Raises:
            InvalidInputError: at once, if an argument is invalid.
            RemoteProtocolError: the service repeated a cursor, so the list would never end.
        """
        _check_page(limit, before_id, after_id)
        backwards = before_id is not None

        def page_request(cursor: str | None) -> Request:
            before, after = (cursor, None) if backwards else (None, cursor)
            return self._endpoint.page_request(limit, before, after)

        def start(context: OperationContext) -> Flow[None]:
            first = before_id or after_id
            return listing.list_all(
                listing.Pages(context, page_request, start=first, backwards=backwards)
            )

        return self._operation(start)

    def wait_for(
        self,
        batch: MessageBatch | str,
        *,
        poll_interval: float = 30.0,
        timeout: float | None = None,
        max_outage: float = 600.0,
        until: Callable[[MessageBatch], bool] | None = None,
    ) -> Operation[MessageBatch]:
        """Poll a batch until it has ended.

        - `poll_interval`: the time between polls in seconds, 30 by default. The jitter shortens
          each interval by up to a fifth, so that many waits spread their polls.
        - `timeout`: how long to wait, in seconds; by default as long as it takes.
        - `max_outage`: how long polls may fail in a row, in seconds; 600 by default.
        - `until`: a function that accepts a `MessageBatch`. If it returns True, the wait is over,
          even if the batch has not ended.

        The operation ends with the `MessageBatch`. Events: `BatchState` for each poll that
        succeeds, and `RetryScheduled` for each that fails.

        A status that this version does not know ends the wait only if the batch has an `ended_at`
        or a `results_url`.

        Failures that may pass are retried for `max_outage` seconds in a row. Until a poll has
        succeeded, a 404 counts as one of them in the first minute of the wait. After that, it
        counts for a minute from the first of several failed polls in a row.

        The deadline is `timeout` seconds after the start. The last poll begins earlier, so that its
        response can arrive in time: 5 seconds earlier, or `poll_interval`, or a quarter of
        `timeout`, whichever is shortest. A poll that is under way at the deadline is abandoned (see
        `Operation.deadline`). With ``timeout=0``, or after a sleep that lasted past the deadline,
        there is still one poll, which may take 5 seconds.

        Raises:
            InvalidInputError: at once, if an argument is invalid.
            WaitTimeoutError: `timeout` seconds have passed.
        """
        check_seconds("poll_interval", poll_interval, positive=True)
        check_seconds("max_outage", max_outage)
        if timeout is not None:
            check_seconds("timeout", timeout)
        if until is not None:
            check_callback("until", until, "a function of a MessageBatch that returns a bool")
        options = wait.WaitOptions(
            poll_interval=poll_interval, timeout=timeout, max_outage=max_outage, until=until
        )
        batch_id = _id_of(batch)
        request = self._endpoint.batch_request("GET", batch_id)
        return self._operation(
            lambda context: wait.wait_for(context, request, batch_id=batch_id, options=options)
        )

    def results_stream(
        self,
        batch: MessageBatch | str,
        *,
        message_type: type[Any] = Message,
        resume: bool = True,
        expected: Iterable[str] | None = None,
    ) -> Operation[None]:
        r"""Read the results of a batch, each custom_id once, in the order of the file.

        - `batch`: an id or a `MessageBatch`. One with a `results_url` saves a request.
        - `message_type`: the type to which the model's answers are decoded; `Message` by default.
          It can be any type that msgspec decodes, such as a struct with the fields that you need.
          `dict` keeps every field, and `msgspec.Raw` keeps the bytes. Unlike `Message`, all of
          these can hold fields that this version does not know.
        - `resume`: whether to continue after the results broke off; True by default.
        - `expected`: the custom_ids that were requested; not checked by default.

        The operation ends with None. Events: `ResultsReceived` for each piece of the file,
        `ResultsInterrupted`, and `RetryScheduled`.

        A line that cannot be read is delivered as a `MalformedResultError` among the items. Half a
        surrogate pair, such as ``\ud83d``, is an escape in JSON that stands for no character. With
        every `message_type` it is replaced by its own six characters, as text.

        Results that break off are read again, after a `ResultsInterrupted`. Items that were
        delivered are not repeated. With ``resume=False`` the failure is raised instead.

        Raises:
            TypeError: at once, if msgspec cannot decode `message_type`, or if `message_type`
                declares a misspelt field of a message.
            InvalidInputError: at once, if another argument is invalid.
            ResultsUnavailableError: there are no results yet, or no longer.
            IncompleteResultsError: there are fewer results than the batch counts, or not those of
                `expected`. With `expected` it names the `missing` and the `unexpected` ids.
            UntrustedHostError: the `results_url` or a redirect leads to a host that is neither the
                API's nor trusted.
        """
        ids = None if expected is None else _check_ids("expected", expected)
        options = results.ResultsOptions(max_line=self.max_line, resume=resume, expected=ids)
        is_default = message_type is Message
        decoder = message_decoder() if is_default else ResultDecoder(message_type)
        return self._results_operation(batch, decoder, options)

    def raw_results(
        self,
        batch: MessageBatch | str,
        *,
        resume: bool = True,
        expected: Iterable[str] | None = None,
        delivered: Iterable[str] = (),
    ) -> Operation[None]:
        """Read the results of a batch as unparsed lines, each custom_id once.

        - `batch`, `resume`, `expected`: as for `results_stream`.
        - `delivered`: the custom_ids that an earlier operation delivered; none by default. They are
          skipped.

        The operation ends and fails as `results_stream` does, and emits the same events. The items
        are `RawResult`s: only the custom_id of a line is read.

        Raises:
            InvalidInputError: at once, if an argument is invalid. Later, if one of `delivered` does
                not belong to this batch.
        """
        options = results.ResultsOptions(
            max_line=self.max_line,
            resume=resume,
            expected=None if expected is None else _check_ids("expected", expected),
            delivered=_check_ids("delivered", delivered),
        )
        return self._results_operation(batch, RawDecoder(), options)

    # --- for the methods above -----------------------------------------------------------

    def _results_operation(
        self,
        batch: MessageBatch | str,
        decoder: LineDecoder[Line],
        options: results.ResultsOptions,
    ) -> Operation[None]:
        source: MessageBatch | Request
        if isinstance(batch, MessageBatch) and batch.results_url is not None:
            source = batch
        else:
            source = self._endpoint.batch_request("GET", _id_of(batch))
        results_request = self._endpoint.results_request

        def start(context: OperationContext) -> Flow[None]:
            return results.read_results(context, source, results_request, decoder, options)

        return self._operation(start)

    def _new_context(self) -> OperationContext:
        return OperationContext(self._retry, self._jitter)

    def _operation(self, start: StartFlow[T]) -> Operation[T]:
        return Operation(start, self._new_context())

    def _build_settling(
        self, settle_time: float | None, known_ids: Collection[str], *, is_fresh: bool = False
    ) -> Settling:
        if settle_time is not None:
            check_seconds("settle_time", settle_time)
        if isinstance(known_ids, str):
            raise InvalidInputError(
                f"known_ids must be a collection of batch ids, not one str: pass [{known_ids!r}]"
            )

        def page_request(cursor: str | None) -> Request:
            return self._endpoint.page_request(_SETTLING_LIMIT, after_id=cursor)

        policy = self._settling_policy
        return Settling(
            policy=policy,
            settle_time=policy.settle_time if settle_time is None else settle_time,
            page_request=page_request,
            scope=self.scope,
            workspace_id=self._endpoint.workspace_id,
            known_ids=known_ids,
            ledger=self.ledger,
            is_fresh=is_fresh,
        )

    def _check_marker(self, marker: CreateMarker, count: int) -> None:
        self._check_destination(marker)
        if marker.scope != self.scope:
            raise InvalidInputError(
                "the marker was read with another credential: read a new one with mark()"
            )
        if marker.requests != count:
            raise InvalidInputError(
                f"the marker is that of a create of {marker.requests:,} requests, and these are "
                f"{count:,}: read a new one with mark()"
            )
        self.ledger.check_unused(marker)

    def _check_destination(self, marker: CreateMarker) -> None:
        if marker.base_url != self.base_url:
            raise InvalidInputError(
                f"this create was sent to {marker.base_url}, not to {self.base_url}: settle it "
                "with that base_url"
            )
        workspaces = marker.workspace_id, self._endpoint.workspace_id
        if None not in workspaces and workspaces[0] != workspaces[1]:
            raise InvalidInputError(
                f"this create was sent to workspace {workspaces[0]}, not to {workspaces[1]}: "
                "settle it with that workspace_id"
            )


def _check_policy(name: str, policy: P | None, kind: type[P]) -> P:
    policy = kind() if policy is None else policy
    if not isinstance(policy, kind):
        raise InvalidInputError(
            f"{name} must be a {kind.__name__}, not {policy!r}: pass {name}={kind.__name__}(…)"
        )
    return policy


def _id_of(batch: MessageBatch | str) -> str:
    if isinstance(batch, MessageBatch):
        return batch.id
    if not isinstance(batch, str):
        hint = "; await it first" if inspect.isawaitable(batch) else ""
        raise InvalidInputError(
            f"batch must be a MessageBatch or its id, a str, not a {type(batch).__name__}{hint}"
        )
    return batch


def _check_ids(name: str, custom_ids: Iterable[str]) -> tuple[str, ...]:
    ids = () if isinstance(custom_ids, str) else tuple(custom_ids)
    if isinstance(custom_ids, str) or not all(isinstance(id_, str) for id_ in ids):
        raise InvalidInputError(f"{name} must be a list of custom_ids, each a str")
    return tuple(dict.fromkeys(ids))


def _check_page(limit: object, before_id: object, after_id: object) -> None:
    if before_id is not None and after_id is not None:
        raise InvalidInputError("both before_id and after_id were passed: pass one of them")
    if limit is not None and not (type(limit) is int and 1 <= limit <= _MAX_LIMIT):
        raise InvalidInputError(f"limit must be an int from 1 to {_MAX_LIMIT:,}, not {limit!r}")
    for name, cursor in (("before_id", before_id), ("after_id", after_id)):
        if cursor is not None:
            path_segment(name, cursor)
