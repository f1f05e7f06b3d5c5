"""The records of a job: what a journal keeps, in the order in which it happened.

A job's state is what its records say, replayed from the first. They hold facts of chunks and of
rows that were not answered, never of every row. They are plain values: msgspec writes and reads
them as JSON, told apart by `kind`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal, TypeAlias

import msgspec

from batches_core.errors import InvalidInputError
from batches_core.marker import CreateMarker
from batches_core.request_checker import MAX_REQUESTS
from batches_core.validation import check_seconds

#: The format of the records. A reader refuses a newer one.
FORMAT = 1

#: How a request's own id is sent: as it is, or replaced by a wire id that leads back to its row.
Ids: TypeAlias = Literal["keep", "map"]
#: Why submitting stopped, until the job is run again.
PauseReason: TypeAlias = Literal[
    "spend_limit",
    "credit",
    "credential",
    "permission",
    "base_url",
    "input",
    "failures",
    "budget",
    "refused",
]
#: What became of a row that was not answered.
Outcome: TypeAlias = Literal["errored", "expired", "canceled", "rejected", "unreadable", "lost"]

#: The options that are whole numbers, with the least and the most of each.
_WHOLE_NUMBERS = (
    ("chunk_rows", 1, MAX_REQUESTS),
    ("max_waiting", 1, None),
    ("rounds", 0, 100),
    ("parallel", 1, 100),
    ("canary_rows", 0, MAX_REQUESTS),
)


class JobOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The choices that are made when a job is opened, and kept when it is resumed.

    - `chunk_rows`: rows of a chunk, less up to 1 %; at most 100,000, the limit of a batch;
    - `max_waiting`: rows in flight at most, in all batches; the queue of the smallest tier;
    - `rounds`: how often a row that failed can be sent again;
    - `ids`: how custom_ids are sent;
    - `poll_interval`: seconds between two polls;
    - `settle_time`: seconds until a batch that no list shows counts as not created. If it is
      shorter than a request can take to arrive, rows can be paid for twice;
    - `parallel`: downloads at once, at most 100;
    - `canary_rows`: rows of the first chunk, which is collected before any other is sent; 0 sends
      all chunks alike.

    Raises:
        InvalidInputError: a value is not one of these.
    """

    chunk_rows: int = 10_000
    max_waiting: int = 100_000
    rounds: int = 3
    ids: Ids = "keep"
    poll_interval: float = 30.0
    settle_time: float = 600.0
    parallel: int = 4
    canary_rows: int = 0

    def __post_init__(self) -> None:
        for name, least, most in _WHOLE_NUMBERS:
            value: object = getattr(self, name)
            if type(value) is not int or value < least or (most is not None and value > most):
                limits = f"{least} or more" if most is None else f"{least:,} to {most:,}"
                raise InvalidInputError(
                    f"JobOptions.{name} must be a whole number, {limits}, not {value!r}"
                )
        for name in ("poll_interval", "settle_time"):
            check_seconds(f"JobOptions.{name}", getattr(self, name), positive=True)
        if self.ids not in {"keep", "map"}:
            raise InvalidInputError(f"JobOptions.ids must be 'keep' or 'map', not {self.ids!r}")


class _Record(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    """The base of all records."""


class JobOpened(_Record, frozen=True, kw_only=True, tag="opened"):
    """A job begins. `source` describes the input, and `key` is a salted hash of the destination."""

    job_id: str
    options: JobOptions
    source: str = ""
    key: str = ""
    format: int = FORMAT


class ChunkPlanned(_Record, frozen=True, kw_only=True, tag="planned"):
    """A chunk was cut off the input, or gathered from rows that failed.

    A chunk of the input has `count` rows from `first_row` on, which stand between the bytes `start`
    and `end` of the input. A chunk of retries names its `rows`. `content_length` is the size of the
    body that will be sent, in bytes. `digest` is the SHA-256 of the bytes from which the body is
    made, not of the body: of the input from `start` to `end`, or of the chunk's own file.
    """

    chunk: int
    count: int
    first_row: int = 0
    rows: tuple[int, ...] = ()
    round: int = 0
    start: int = 0
    end: int = 0
    content_length: int = 0
    digest: str = ""


class InputEnded(_Record, frozen=True, kw_only=True, tag="input_ended"):
    """The input has no more rows than these."""

    rows: int


class CreateIntended(_Record, frozen=True, kw_only=True, tag="intended"):
    """A chunk's create may leave from now on. `marker` settles its outcome after a crash."""

    chunk: int
    marker: CreateMarker | None


class Submitted(_Record, frozen=True, kw_only=True, tag="submitted"):
    """A chunk is a batch now.

    It is `adopted` if it was found in the list, and `decided` too if a person said that it is the
    chunk's.
    """

    chunk: int
    batch_id: str
    created_at: datetime
    expires_at: datetime
    adopted: bool = False
    decided: bool = False


class Refused(_Record, frozen=True, kw_only=True, tag="refused"):
    """A chunk's create certainly had no effect."""

    chunk: int
    reason: str


class Doubted(_Record, frozen=True, kw_only=True, tag="doubted"):
    """Nobody knows whether a chunk's create made a batch; `candidates` may be it.

    With `needs_person` looking again does not help: a person decides.
    """

    chunk: int
    reason: str
    marker: CreateMarker | None = None
    candidates: tuple[str, ...] = ()
    needs_person: bool = False


class CancelSent(_Record, frozen=True, kw_only=True, tag="cancel_sent"):
    """A chunk's batch is being canceled."""

    chunk: int


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of a chunk by outcome."""

    succeeded: int = 0
    errored: int = 0
    canceled: int = 0
    expired: int = 0

    @property
    def total(self) -> int:
        """The number of rows."""
        return self.succeeded + self.errored + self.canceled + self.expired


class Ended(_Record, frozen=True, kw_only=True, tag="ended"):
    """A chunk's batch has ended; its results can be downloaded."""

    chunk: int
    counts: Counts


#: The model, service tier, prompt length and region of a `Usage`.
UsageKey: TypeAlias = tuple[str, str, int, str]


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """The tokens of some answers: those of one model, service tier, prompt length and region.

    - `prompt_over`: the number of tokens above which prompts cost more, and which these prompts
      exceed; 0 if they exceed none;
    - `inference_geo`: the region, if it can cost a surcharge; otherwise empty;
    - `web_searches`: the searches that the answers took, which cost extra;
    - `other_tool_uses`: the uses of the service's other tools, which can cost extra.
    """

    model: str
    service_tier: str = "batch"
    prompt_over: int = 0
    inference_geo: str = ""
    answers: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    web_searches: int = 0
    other_tool_uses: int = 0

    @property
    def prompt_tokens(self) -> int:
        """The tokens of the prompts, with those that were read from the cache or written to it."""
        written = self.cache_write_5m_tokens + self.cache_write_1h_tokens
        return self.input_tokens + self.cache_read_tokens + written

    @property
    def key(self) -> UsageKey:
        """What its price depends on. Usages with the same key can be added up."""
        return self.model, self.service_tier, self.prompt_over, self.inference_geo

    def plus(self, other: Usage) -> Usage:
        """Add the tokens of other answers, which have the same `key`."""
        return msgspec.structs.replace(
            self,
            answers=self.answers + other.answers,
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cache_read_tokens=self.cache_read_tokens + other.cache_read_tokens,
            cache_write_5m_tokens=self.cache_write_5m_tokens + other.cache_write_5m_tokens,
            cache_write_1h_tokens=self.cache_write_1h_tokens + other.cache_write_1h_tokens,
            web_searches=self.web_searches + other.web_searches,
            other_tool_uses=self.other_tool_uses + other.other_tool_uses,
        )


class FailedRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row that was not answered: its outcome, and the service's type and message if known."""

    row: int
    outcome: Outcome
    type: str = ""
    message: str = ""


class Collected(_Record, frozen=True, kw_only=True, tag="collected"):
    """A chunk's results are in their file, complete, and each of its rows is accounted for.

    `answered` rows need nothing more, `retried` rows are sent again, `failed` rows are not.
    """

    chunk: int
    answered: int
    retried: tuple[FailedRow, ...] = ()
    failed: tuple[FailedRow, ...] = ()
    usage: tuple[Usage, ...] = ()


class Lost(_Record, frozen=True, kw_only=True, tag="lost"):
    """A chunk's results cannot be had any more: its batch is gone, or archived after 29 days."""

    chunk: int
    reason: str


class BoughtAgain(_Record, frozen=True, kw_only=True, tag="bought_again"):
    """A lost chunk is sent once more, because a person asked for it."""

    chunk: int


class Paused(_Record, frozen=True, kw_only=True, tag="paused"):
    """Nothing is submitted until the job is run again; batches in flight are still collected."""

    reason: PauseReason
    message: str


class Resumed(_Record, frozen=True, kw_only=True, tag="resumed"):
    """A paused job was run again."""


class CancelAsked(_Record, frozen=True, kw_only=True, tag="cancel_asked"):
    """Nothing more is submitted, and the batches in flight are canceled."""


class Finished(_Record, frozen=True, kw_only=True, tag="finished"):
    """Every row has its end: answered, failed, canceled or lost."""


#: All records of a chunk, in the rough order of its life.
ChunkRecord: TypeAlias = (
    ChunkPlanned
    | CreateIntended
    | Submitted
    | Refused
    | Doubted
    | CancelSent
    | Ended
    | Collected
    | Lost
    | BoughtAgain
)
#: All records.
Record: TypeAlias = JobOpened | InputEnded | Paused | Resumed | CancelAsked | Finished | ChunkRecord

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)


def encode_record(record: Record) -> bytes:
    """Write a record as JSON."""
    return _encoder.encode(record)


def decode_record(data: bytes | str) -> Record:
    """Read a record from JSON.

    Raises:
        msgspec.MsgspecError: it is not a record of this format.
    """
    return _decoder.decode(data)
