"""Makes the requests of a job from the rows of a table, such as those of a CSV file.

`_rows` reads the tables. `_cells` decides how a value becomes text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, Self

import msgspec

from batches_core import InvalidInputError
from batches_core.lowlevel import quote

from ._cells import cell_text, is_empty

#: The parameters that a template sets itself.
_OWN_PARAMS = ("model", "max_tokens", "system", "messages", "stream")
#: How many columns an error lists.
_LISTED = 30
_encoder = msgspec.json.Encoder()


class Template(msgspec.Struct, frozen=True):
    """Makes a request from a row: a mapping of each column's name to its value.

    - `model`: the model of every request;
    - `prompt`: the text of the user's message. ``{review}`` is replaced by the row's value in the
      column ``review``; ``{{`` and ``}}`` are braces. Nothing but names can be in the braces;
    - `max_tokens`: the limit of each answer;
    - `system`: the system prompt. It is the same in every request, so braces in it are only text;
    - `id_column`: the column that is the custom_id. By default it is the number of the row, from 0.
      Values that are missing, repeated or no valid ids need ``JobOptions(ids="map")``;
    - `params`: other parameters of every request, such as ``{"temperature": 0}``;
    - `if_empty`: what to do if a prompt has no data, because all of its columns are empty in a row,
      or because it names none. ``error`` raises an error, because the answer would be paid for in
      vain. ``send`` sends the request.

    Text is inserted as it is. A missing value, such as null, is inserted as nothing. Numbers are
    inserted as in JSON, booleans as ``true`` and ``false``, dates and times in ISO 8601, lists and
    objects as JSON. NaN counts as missing.

    The same row makes the same bytes in every run, which resuming a job relies on.

    Raises:
        InvalidInputError: an argument is invalid.
    """

    model: str
    prompt: str
    max_tokens: int = 1024
    system: str | None = None
    id_column: str | None = None
    params: dict[str, Any] = {}
    if_empty: Literal["error", "send"] = "error"

    def __post_init__(self) -> None:
        """Check the arguments."""
        _check_text("model", self.model)
        _check_text("prompt", self.prompt)
        if self.system is not None:
            _check_text("system", self.system)
        if self.id_column is not None:
            _check_text("id_column", self.id_column)
        tokens: Any = self.max_tokens
        if isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 1:
            raise InvalidInputError(f"max_tokens is {tokens!r}: pass a whole number from 1 on")
        if self.if_empty not in {"error", "send"}:
            raise InvalidInputError(f"if_empty is {self.if_empty!r}: pass 'error' or 'send'")
        _check_params(self.params)
        if not self.prompt_columns and self.if_empty == "error":
            raise InvalidInputError(
                f"prompt is {quote(self.prompt)!r}, which names no column, so every request would "
                "be the same: write {column} where the data belongs, or pass if_empty='send'"
            )

    @classmethod
    def decode(cls, text: str) -> Self:
        """Return the template that `encode` has returned as text.

        Raises:
            InvalidInputError: the text is not a template.
        """
        try:
            return msgspec.json.decode(text, type=cls)
        except msgspec.MsgspecError as error:
            raise InvalidInputError(f"{quote(text)} is not a template: {error}") from error

    def encode(self) -> str:
        """Return the template as JSON. Equal templates have equal texts."""
        return msgspec.json.encode(self, order="deterministic").decode()

    @property
    def prompt_columns(self) -> tuple[str, ...]:
        """The columns in the prompt, each once, in their order."""
        return tuple(dict.fromkeys(name for _, name in _parse(self.prompt) if name is not None))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that requests are made from: those of the prompt, and the `id_column`."""
        ids = () if self.id_column is None else (self.id_column,)
        return tuple(dict.fromkeys((*self.prompt_columns, *ids)))

    def check_columns(self, name: str, columns: Iterable[str]) -> None:
        """Check that the table called `name` has all columns of the template.

        Raises:
            InvalidInputError: one is missing.
        """
        there = [*columns]
        for column in self.columns:
            if column not in there:
                raise InvalidInputError(f"{name} {_no_column(column, there, self.id_column)}")

    def maker(self) -> RequestMaker:
        """Return the function that makes requests from rows."""
        return RequestMaker(self)

    def request(self, row: Mapping[str, Any], number: int) -> bytes:
        """Return the request of a row as JSON. `number` is the number of the row, from 0.

        Raises:
            InvalidInputError: the row has not all columns, its prompt would be empty, or a value
                cannot be written as text.
        """
        return self.maker()(row, number)


class RequestMaker:
    """Makes the requests of a template. The prompt is parsed once."""

    def __init__(self, template: Template) -> None:
        self._template = template
        self._pieces = _parse(template.prompt)
        self._columns = template.prompt_columns
        self._may_be_empty = template.if_empty == "send"
        start: dict[str, Any] = {"model": template.model, "max_tokens": template.max_tokens}
        if template.system is not None:
            start["system"] = template.system
        # Every request begins and ends alike; so only the custom_id and the prompt are encoded.
        fixed = msgspec.json.encode({**start, **template.params}, order="deterministic")
        self._start = b'"params":' + fixed[:-1] + b',"messages":[{"role":"user","content":'

    def __call__(self, row: Mapping[str, Any], number: int) -> bytes:
        """Return the request of a row; see `Template.request`."""
        id_column = self._template.id_column
        custom_id: str | None = str(number)
        texts: dict[str, str] = {}
        try:
            for name in self._columns:
                texts[name] = cell_text(name, row[name])
            if id_column is not None:
                value = row[id_column]
                custom_id = None if is_empty(value) else cell_text(id_column, value)
        except KeyError as error:
            raise InvalidInputError(_no_column(error.args[0], [*row], id_column)) from None
        if not self._may_be_empty and not any(text.strip() for text in texts.values()):
            raise InvalidInputError(
                f"is empty in {_list(self._columns)}, so its prompt would have no data: fill it, "
                "remove the row, or pass if_empty='send'"
            )
        prompt = "".join(
            text if name is None else text + texts[name] for text, name in self._pieces
        )
        opening = b"{"
        if custom_id is not None:
            opening = b'{"custom_id":' + _encoder.encode(custom_id) + b","
        return opening + self._start + _encoder.encode(prompt) + b"}]}}"


def _parse(prompt: str) -> list[tuple[str, str | None]]:
    """Split a prompt into pieces: each a text, and the column after it; None at the end."""
    pieces: list[tuple[str, str | None]] = []
    text: list[str] = []
    at = 0
    while at < len(prompt):
        character = prompt[at]
        if character not in "{}":
            text.append(character)
            at += 1
        elif prompt[at : at + 2] == character * 2:
            text.append(character)
            at += 2
        elif character == "}":
            raise _misplaced(prompt, at, "closes nothing: write }} for a brace")
        else:
            end = prompt.find("}", at)
            name = prompt[at + 1 : end] if end >= 0 else ""
            if end < 0 or "{" in name:
                raise _misplaced(prompt, at, "is not closed: write {{ for a brace")
            if not name.strip():
                raise _misplaced(prompt, at, "names no column: write {{ }} for braces")
            pieces.append(("".join(text), name))
            text.clear()
            at = end + 1
    pieces.append(("".join(text), None))
    return pieces


def _misplaced(prompt: str, at: int, problem: str) -> InvalidInputError:
    shown = quote(prompt[at : at + 30])
    return InvalidInputError(f"the brace at character {at + 1} of prompt, {shown!r}, {problem}")


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str) or not value.strip():
        raise InvalidInputError(f"{name} is {value!r}: pass a text that is not empty")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError(f"{name} is not valid Unicode ({error}): correct it") from None


def _check_params(params: object) -> None:
    if not isinstance(params, dict) or not all(isinstance(name, str) for name in params):
        raise InvalidInputError(f"params is {params!r}: pass a dict of parameters by their names")
    for name in _OWN_PARAMS:
        if name in params:
            remedy = "leave it out" if name in {"messages", "stream"} else f"pass it as {name}="
            raise InvalidInputError(f"params has {name!r}, which the template sets: {remedy}")
    try:
        # Only what JSON can say returns unchanged, and so is the same when a job is resumed.
        is_json = msgspec.json.decode(msgspec.json.encode(params)) == params
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError):
        is_json = False
    if not is_json:
        raise InvalidInputError(
            f"params is {quote(repr(params))}, which JSON cannot say: pass text, numbers, lists "
            "and dicts"
        )


def _no_column(name: str, columns: list[str], id_column: str | None) -> str:
    where = "the id_column" if name == id_column else "named in the prompt"
    return f"has no column {name!r} ({where}): its columns are {_list(columns)}"


def _list(columns: Iterable[str]) -> str:
    names = [*columns]
    shown = ", ".join(repr(quote(name)) for name in names[:_LISTED])
    more = "" if len(names) <= _LISTED else f" and {len(names) - _LISTED:,} more"
    return f"{shown}{more}" or "none"
