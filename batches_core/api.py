"""The API as a maker of operations: `BatchesAPI`, one short method for each.

Checks the arguments and wires each operation's flow to its requests. Requests are built by
`endpoint`; what a flow does is `operations`'.
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
from .operations.create import CreateOperation, CreatePlan, IfUnknown, IfUnmarked
from .operations.delivered import Line
from .operations.ledger import CreateLedger
from .operations.settle import Settling, SettlingPolicy
from .redaction import hide
from .requests import PreparedRequests, RequestsSource, prepare
from .retry import Jitter, RetryPolicy, no_jitter
from .urls import path_segment
from .validation import check_callback, check_seconds

#: Where the service is.
BASE_URL = "https://api.anthropic.com"
#: The version of the API that is asked for (``anthropic-version``). Under the newer
#: ``2026-10-21`` a request with ``temperature``, ``top_p`` or ``top_k`` is refused.
VERSION = "2023-06-01"

T = TypeVar("T")
P = TypeVar("P", RetryPolicy, SettlingPolicy)

#: The service's bounds of a page.
_MAX_LIMIT = 1000
#: The size of the page that marks a create, and of those by which its outcome is settled: most
#: often all that was made within the clock slack, and all that is newer than the marker.
_SETTLING_LIMIT = 100


class BatchesAPI:
    """The Message Batches API for one credential, as a maker of operations.

    One of `api_key` (sent as ``x-api-key``) and `auth_token` (sent as ``authorization: Bearer``)
    is required. `betas` become ``anthropic-beta``, `workspace_id` ``anthropic-workspace-id``;
    `user_profile_id` is sent with a create alone. `jitter` gives a number from 0 to 1, the share
    of each retry's delay that is really waited; by default all of it, for the core has no
    randomness: pass ``random.random``. `max_line` bounds one line of results, in bytes.

    `settling` says how lost answers of creates are settled. `ledger` is what the process knows of
    its creates; by default a new one, so pass the same to every `BatchesAPI` of one base URL,
    credential and workspace.

    The credential goes to the API's own origin alone. Results elsewhere are fetched without it,
    and only from `trusted_hosts` (names, with a port where it is an odd one). Plain http is
    refused but to this machine, or with `allow_http`.

    Raises:
        InvalidInputError: no credential or two, or a value that cannot be sent.
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
        # A traceback that shows local variables shows them hidden from here on.
        api_key, auth_token = hide(api_key), hide(auth_token)
        # Set first, so that a failed construction still has a repr.
        self.base_url = "an API that was not made"
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
        #: A hash that names the list of batches: of base URL, workspace and credential.
        self.scope = endpoint.scope
        self._retry = _check_policy("retry", retry, RetryPolicy)
        self._jitter = jitter
        self._settling_policy = _check_policy("settling", settling, SettlingPolicy)
        #: What the process knows of its own creates.
        self.ledger = CreateLedger() if ledger is None else ledger
        if max_line < 1:
            raise InvalidInputError("max_line is a number of bytes, 1 or more")
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
    ) -> CreateOperation:
        """Create a batch of 1 to 100,000 requests, at most 256,000,000 bytes as JSON.

        Each request is a mapping, a `BatchRequest`, or one request as JSON (bytes or str), so an
        open requests file will do; a `RequestsSource` brings its own body, such as a file that is
        never in memory whole. `params` are passed on untouched.

        The operation reads the newest batches first, as a marker (`CreateMarked`). If that fails,
        nothing is sent, unless ``if_unmarked="send"`` asks for it. The create is sent again only if
        the try before certainly had no effect. The operation ends with the `MessageBatch` (and a
        `BatchCreated` before it). If the answer is lost, ``if_unknown="raise"`` ends in
        `OutcomeUnknownError`, which `settle` takes. ``"settle"`` settles it at once, by this rule:

        - the list is read back past the marker by the clock slack (10 s). A batch in it fits if it
          has as many requests, was not on the marker's page, and was made while the create could
          arrive: until the loss of the answer and `settle_time` seconds more;
        - the only one that fits is adopted (``BatchCreated(adopted=True)``), once it was so for ten
          seconds and if no other create of this process can have made it;
        - if none fits for `settle_time` seconds, the create is sent again, within the retry
          policy's attempts. The list proves this only if it shows a batch of the marker's page, or
          comes to its end under the same credential or workspace;
        - anything else ends in `OutcomeUnknownError`, with the `candidates` that fit: several, or
          one that only the ``Date`` header's clock speaks against.

        This cannot tell apart two processes that create batches with equal numbers of requests in
        one workspace at the same time: pass the others' ids as `known_ids`, which are read anew at
        each look. Nor does it see a create that the network holds up, or a batch that the list does
        not show, for longer than `settle_time`, by default the settling policy's.

        If you stop driving the operation early, call its `interrupt`.

        Raises:
            InvalidInputError: at once, with every problem of the requests and its index.
        """
        if if_unknown not in {"raise", "settle"}:
            raise InvalidInputError(f"if_unknown is 'raise' or 'settle', not {if_unknown!r}")
        if if_unmarked not in {"raise", "send"}:
            raise InvalidInputError(f"if_unmarked is 'raise' or 'send', not {if_unmarked!r}")
        prepared = prepare(requests)
        settling = self._settling(settle_time, known_ids, is_fresh=True)
        pending = self.ledger.begin(prepared.count)
        plan = CreatePlan(
            request=self._endpoint.create_request(prepared.body),
            pending=pending,
            settling=settling,
            base_url=self.base_url,
            if_unknown=if_unknown,
            if_unmarked=if_unmarked,
        )
        return CreateOperation(plan, self._context())

    def settle(
        self,
        outcome: OutcomeUnknownError | CreateMarker,
        *,
        settle_time: float | None = None,
        known_ids: Collection[str] = (),
    ) -> Operation[MessageBatch | None]:
        """Find out what became of a create whose answer was lost; later, or in another process.

        It ends with the batch (and a `BatchCreated`), or with None if the list proves that there is
        none, and then the create can be sent again. Anything else ends in `OutcomeUnknownError`,
        which names the batches that may be it. `create` describes the rule and its limits.

        A marker from a process that died does not tell when its create was given up. Batches that
        were made more than an hour after it are then neither adopted nor excluded.

        Raises:
            InvalidInputError: at once, if the outcome has no marker to go by, or was sent to
                another base URL or workspace; in the end, if that create is still under way here.
        """
        marker = outcome.marker if isinstance(outcome, OutcomeUnknownError) else outcome
        if not isinstance(marker, CreateMarker):
            raise InvalidInputError(
                "this outcome cannot be settled, since the list was not read before the create: "
                "look for the batch with list_all()"
                if isinstance(outcome, OutcomeUnknownError)
                else "settle() takes the OutcomeUnknownError of a create, or its marker"
            )
        self._check_destination(marker)
        settling = self._settling(settle_time, known_ids)
        return self._operation(lambda context: settle.settle_later(context, marker, settling))

    def get(self, batch: MessageBatch | str) -> Operation[MessageBatch]:
        """Read a batch; here and below `batch` is its id, or a `MessageBatch` for its id."""
        request = self._endpoint.batch_request("GET", _id_of(batch))
        return self._operation(lambda context: batch_operations.get(context, request))

    def cancel(self, batch: MessageBatch | str) -> Operation[MessageBatch]:
        """Ask for the end of a batch's processing; it is ``canceling`` first, then ``ended``."""
        request = self._endpoint.batch_request("POST", _id_of(batch), "/cancel")
        return self._operation(lambda context: batch_operations.cancel(context, request))

    def delete(self, batch: MessageBatch | str) -> Operation[DeletedMessageBatch]:
        """Delete a batch that has ended, with its results."""
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
        """Read one page of batches, newest first.

        `limit` is 1 to 1,000; the service's default is 20. `after_id` gives the page after that
        batch (older ones), `before_id` the page before it; not both.
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
        """Read page after page, each as a `PageReceived` when it is asked for.

        From the newest to the oldest; from `after_id` on to the oldest; or, with `before_id`,
        from there back to the newest. Within a page the order is the service's, newest first,
        in either direction. `limit` is the size of one page.
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
        """Poll a batch until it has ended; each poll's answer is a `BatchState`.

        It ends with the batch once that has ended or satisfies `until` (a status that this version
        does not know ends it only if the batch has `ended_at` or a `results_url`); with
        `WaitTimeoutError` by the end of `timeout` seconds; or with an error that does not pass.
        Errors that may pass, and 404s in the first minute, are waited out for up to `max_outage`
        seconds in a row.

        The last poll is made shortly before the deadline (by `poll_interval`, a quarter of
        `timeout` or 5 seconds, whichever is least), so that it can be answered; the wait ends
        with its answer. A poll that is under way at the deadline is given up (`Operation.deadline`
        tells the driver). ``timeout=0`` makes one poll, which may take 5 seconds; so does a wait
        whose last sleep was longer than it should have been.
        """
        check_seconds("poll_interval", poll_interval, positive=True)
        check_seconds("max_outage", max_outage)
        if timeout is not None:
            check_seconds("timeout", timeout)
        if until is not None:
            check_callback("until", until, "a function of a MessageBatch that gives a bool")
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
        """Read the results as `ResultsReceived`, in the order of the file, each id once.

        Given an id, the batch is read first; a `MessageBatch` with a `results_url` saves that.
        A line that cannot be read is one `MalformedResultError` among the items. A stream that
        breaks off is read again, without what was delivered (`ResultsInterrupted` tells of it);
        ``resume=False`` raises the break instead. Fewer results than the batch counts end in
        `IncompleteResultsError`, no results yet or any more in `ResultsUnavailableError`.
        `expected` are the custom_ids that were requested: with them, `IncompleteResultsError` names
        those that are missing, and those that were not asked for. A `results_url` or redirect to a
        host that is neither the API's own nor trusted is `UntrustedHostError`.

        `message_type` is what a success's message becomes: any type that msgspec decodes, of
        which only the declared fields are read, `dict`, or `msgspec.Raw`, which keeps the bytes.
        A `Message` holds no field that this version does not know; these do. Half a surrogate pair,
        an escape that no text can hold, becomes its six characters in each of them.

        Raises:
            TypeError: at once, if `message_type` is no type that msgspec can decode, or declares a
                field that is a misspelling of a message's.
            InvalidInputError: at once, if `expected` holds what is no id.
        """
        ids = None if expected is None else _check_ids("expected", expected)
        options = results.ResultsOptions(max_line=self.max_line, resume=resume, expected=ids)
        whole = message_type is Message
        decoder = message_decoder() if whole else ResultDecoder(message_type)
        return self._read(batch, decoder, options)

    def raw_results(
        self,
        batch: MessageBatch | str,
        *,
        resume: bool = True,
        expected: Iterable[str] | None = None,
        delivered: Iterable[str] = (),
    ) -> Operation[None]:
        """Read the results as `ResultsReceived` of `RawResult`s: the lines as they came.

        As `results_stream`, but of a line nothing is read except its id. `delivered` are the
        custom_ids that are there already, from a reading that was left off: they are passed over.

        Raises:
            InvalidInputError: at once, if `expected` or `delivered` holds what is no id; in the
                end, if one of `delivered` is not of this batch.
        """
        options = results.ResultsOptions(
            max_line=self.max_line,
            resume=resume,
            expected=None if expected is None else _check_ids("expected", expected),
            delivered=_check_ids("delivered", delivered),
        )
        return self._read(batch, RawDecoder(), options)

    # --- requests ------------------------------------------------------------------------

    def _read(
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
            return results.results(context, source, results_request, decoder, options)

        return self._operation(start)

    def _context(self) -> OperationContext:
        return OperationContext(self._retry, self._jitter)

    def _operation(self, start: StartFlow[T]) -> Operation[T]:
        return Operation(start, self._context())

    def _settling(
        self, settle_time: float | None, known_ids: Collection[str], *, is_fresh: bool = False
    ) -> Settling:
        if settle_time is not None:
            check_seconds("settle_time", settle_time)
        if isinstance(known_ids, str):
            raise InvalidInputError("known_ids is a collection of batch ids, not one str")

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

    def _check_destination(self, marker: CreateMarker) -> None:
        if marker.base_url != self.base_url:
            raise InvalidInputError(
                f"this create was sent to {marker.base_url}, and this API is {self.base_url}: "
                "settle it with that base_url"
            )
        workspaces = marker.workspace_id, self._endpoint.workspace_id
        if None not in workspaces and workspaces[0] != workspaces[1]:
            raise InvalidInputError(
                f"this create was sent to workspace {workspaces[0]}, and this API asks workspace "
                f"{workspaces[1]}: settle it with that workspace_id"
            )


def _check_policy(name: str, policy: P | None, kind: type[P]) -> P:
    policy = kind() if policy is None else policy
    if not isinstance(policy, kind):
        raise InvalidInputError(f"{name} is a {kind.__name__}, as in {name}={kind.__name__}(…)")
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


def _check_ids(what: str, wanted: Iterable[str]) -> tuple[str, ...]:
    ids = () if isinstance(wanted, str) else tuple(wanted)
    if isinstance(wanted, str) or not all(isinstance(id_, str) for id_ in ids):
        raise InvalidInputError(f"{what} is a list of custom_ids, each a str")
    return tuple(dict.fromkeys(ids))


def _check_page(limit: object, before_id: object, after_id: object) -> None:
    if before_id is not None and after_id is not None:
        raise InvalidInputError("before_id and after_id are two directions: pass one of them")
    if limit is not None and not (type(limit) is int and 1 <= limit <= _MAX_LIMIT):
        raise InvalidInputError(f"limit is an int from 1 to {_MAX_LIMIT:,}, not {limit!r}")
    for name, cursor in (("before_id", before_id), ("after_id", after_id)):
        if cursor is not None:
            path_segment(name, cursor)
