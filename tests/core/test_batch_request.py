"""Tests of `batch_request`: how one request is encoded, and why it cannot be."""

from __future__ import annotations

import math
import types
from collections import UserDict
from typing import Any

import msgspec
import pytest

from batches_core import BatchRequest, InvalidInputError, RequestLike
from tests.support.batch_requests import body_of, expect_refusal, places_of, prepare, request_dict


@pytest.mark.parametrize(
    ("request_", "sent"),
    [
        (request_dict("a", x=1), b'{"custom_id":"a","params":{"x":1}}'),
        (UserDict(request_dict("a", x=1)), b'{"custom_id":"a","params":{"x":1}}'),
        (
            BatchRequest(custom_id="a", params={"x": 1}),
            b'{"custom_id":"a","params":{"x":1}}',
        ),
        (
            b' {"params": {"x" : 1.0},\t"custom_id":"a", "more": [] }\r\n',
            b'{"params": {"x" : 1.0},\t"custom_id":"a", "more": [] }',
        ),
        (
            '{"custom_id": "a", "params": {"x": "\u00e9"}}\n',
            '{"custom_id": "a", "params": {"x": "\u00e9"}}'.encode(),
        ),
    ],
    ids=["dict", "mapping", "BatchRequest", "bytes", "str"],
)
def test_each_form_of_a_request_is_encoded_unchanged(request_: RequestLike, sent: bytes) -> None:
    assert body_of(request_) == b'{"requests":[' + sent + b"]}"


def test_any_mapping_is_encoded_like_a_dict() -> None:
    inner = types.MappingProxyType({"metadata": types.MappingProxyType({"user_id": "u"})})
    body, _ = prepare([BatchRequest(custom_id="a", params=inner)])
    assert b"".join(body).endswith(b'"params":{"metadata":{"user_id":"u"}}}]}')


# --- values without a form in JSON -------------------------------------------------------


class NumPyLike:
    """A number like those of NumPy: its class is not derived from int or float."""

    ndim = 0

    def __init__(self, value: float) -> None:
        self.value = value

    def item(self) -> float:
        return self.value


class Indexed(NumPyLike):
    def __index__(self) -> int:
        return int(self.value)


class Floating(NumPyLike):
    def __float__(self) -> float:
        return float(self.value)


class OnlyIndex:
    def __index__(self) -> int:
        return 3


class OnlyFloat:
    def __float__(self) -> float:
        return 1.5


class Array(Indexed):
    ndim = 1

    def tolist(self) -> list[float]:
        return [self.value]


class FloatSubclass(float):
    """A number like numpy.float64: msgspec does not encode classes derived from float."""

    def item(self) -> float:
        return float(self)


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        (Indexed(1024), "x.item() or int(x)"),
        (Floating(0.5), "x.item() or float(x)"),
        (OnlyIndex(), "int(x)"),
        (OnlyFloat(), "float(x)"),
        (FloatSubclass(0.5), "x.item() or float(x)"),
        (NumPyLike(1), "x.item()"),
        (Array(1), "x.tolist()"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_numpy_like_number_is_refused_with_its_field_and_the_remedy(
    value: Any, advice: str
) -> None:
    name = f"{type(value).__module__}.{type(value).__name__}"
    for params, field in (
        ({"max_tokens": value}, "params.max_tokens"),
        ({"a": [{"b": 1}, {"c": (0, value)}]}, "params.a.1.c.1"),
        (types.MappingProxyType({"m": types.MappingProxyType({"k": value})}), "params.m.k"),
    ):
        for request in (
            {"custom_id": "a", "params": params},
            BatchRequest(custom_id="a", params=params),
        ):
            [problem] = expect_refusal([request_dict("first"), request]).problems
            assert (problem.index, problem.field) == (1, field)
            message = f"a value of type {name} cannot be written as JSON: pass {advice}"
            assert problem.message == message


def test_a_value_without_a_json_form_is_refused_with_its_field() -> None:
    for request in (
        request_dict("a", x=[object()]),
        BatchRequest(custom_id="a", params={"x": [object()]}),
    ):
        [problem] = expect_refusal([request_dict("first"), request]).problems
        assert (problem.index, problem.field) == (1, "params.x.0")
        message = "a value of type object cannot be written as JSON: leave it out or convert it"
        assert problem.message == message


def test_a_custom_id_of_a_subclass_of_str_is_refused_with_the_remedy() -> None:
    class Name(str):
        __slots__ = ()

        def item(self) -> str:
            return str(self)

    [problem] = expect_refusal([{"custom_id": Name("a"), "params": {}}]).problems
    assert problem.field == "custom_id"
    assert problem.message.endswith(".Name cannot be written as JSON: pass x.item() or str(x)")


def test_a_value_inside_a_set_is_refused_without_a_field() -> None:
    class Unknown:
        __slots__ = ()
        __hash__ = object.__hash__

    [problem] = expect_refusal([request_dict("a", x={Unknown()})]).problems
    assert (problem.index, problem.field) == (0, None)
    assert "Unknown cannot be written as JSON" in problem.message


def test_the_field_is_found_in_params_that_refer_to_themselves() -> None:
    loop: dict[str, Any] = {"a": object()}
    loop["loop"] = loop
    assert places_of(expect_refusal([request_dict("a", x=loop)])) == [(0, "params.x.a")]


# --- naN and infinity --------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "wrap",
    [lambda v: v, lambda v: [1, (v,)], lambda v: {"x": {"y": v}}],
    ids=["alone", "in a list", "in a dict"],
)
def test_nan_and_infinity_are_refused_and_not_sent_as_null(value: float, wrap: Any) -> None:
    params = {"temperature": wrap(value)}
    for request in (
        {"custom_id": "a", "params": params},
        BatchRequest(custom_id="a", params=params),
    ):
        with pytest.raises(InvalidInputError, match=r"requests\.0: .*a NaN or an infinity"):
            prepare([request])


def test_nan_is_found_in_objects_and_at_any_depth() -> None:
    class Sampling(msgspec.Struct):
        temperature: float

    with pytest.raises(InvalidInputError, match="a NaN or an infinity"):
        prepare([{"custom_id": "a", "params": {"x": Sampling(math.nan)}}])
    deep: Any = math.nan
    for _ in range(400):
        deep = {"x": (deep, None)}
    with pytest.raises(InvalidInputError, match="a NaN or an infinity"):
        prepare([{"custom_id": "a", "params": deep}])


def test_a_null_in_raw_json_is_not_taken_for_a_nan() -> None:
    request = {"custom_id": "a", "params": {"tools": msgspec.Raw(b"[null]"), "x": {1.5}}}
    assert b"".join(prepare([request])[0]).endswith(b'{"tools":[null],"x":[1.5]}}]}')


def test_deep_nesting_is_not_taken_for_a_nan() -> None:
    deep: Any = None
    for _ in range(900):
        deep = {"x": deep}
    _, count = prepare([{"custom_id": "a", "params": deep}])
    assert count == 1


def test_a_null_is_not_taken_for_a_nan() -> None:
    body, _ = prepare([{"custom_id": "a", "params": {"system": None, "x": ["null", 1.5]}}])
    assert b"".join(body).endswith(b'"params":{"system":null,"x":["null",1.5]}}]}')
