"""Templates: requests from the rows of a table."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batches_core import InvalidInputError
from batches_jobs._template import Template


def made(template: Template, row: dict[str, Any], number: int = 0) -> Any:
    return json.loads(template.request(row, number))


def prompt_of(template: Template, row: dict[str, Any]) -> str:
    text: str = made(template, row)["params"]["messages"][0]["content"]
    return text


def test_a_request_has_the_prompt_with_the_values_of_its_row() -> None:
    template = Template("m", "Classify: {review} ({stars})", max_tokens=9, system="Be {brief}.")
    assert made(template, {"review": "Good é", "stars": "5", "other": "x"}, 7) == {
        "custom_id": "7",
        "params": {
            "model": "m",
            "max_tokens": 9,
            "system": "Be {brief}.",
            "messages": [{"role": "user", "content": "Classify: Good é (5)"}],
        },
    }


def test_other_parameters_are_in_every_request() -> None:
    template = Template("m", "{a}", params={"temperature": 0, "metadata": {"user_id": "u"}})
    params = made(template, {"a": "x"})["params"]
    assert (params["temperature"], params["metadata"]) == (0, {"user_id": "u"})


def test_double_braces_are_braces() -> None:
    assert prompt_of(Template("m", '{{"x": {a}}}'), {"a": 1}) == '{"x": 1}'


def test_braces_in_a_value_are_only_text() -> None:
    assert prompt_of(Template("m", "{a}{b}"), {"a": "{b}", "b": "{{"}) == "{b}{{"


@pytest.mark.parametrize("name", ["a.b", "a[0]", "a!r", "a:>9", "two words", "é", "0"])
def test_all_between_the_braces_is_the_name_of_a_column(name: str) -> None:
    template = Template("m", f"{{{name}}}")
    assert template.columns == (name,)
    assert prompt_of(template, {name: "x"}) == "x"
    with pytest.raises(InvalidInputError, match="has no column"):
        template.request({"a": "x"}, 0)


@pytest.mark.parametrize(
    ("prompt", "problem"),
    [
        ("a {", "character 3 of prompt, '{', is not closed: write {{ for a brace"),
        ("{a", "character 1 of prompt, '{a', is not closed"),
        ("{a{b}}", "character 1 of prompt, '{a{b}}', is not closed"),
        ("a } b", "character 3 of prompt, '} b', closes nothing: write }} for a brace"),
        ("{}", "character 1 of prompt, '{}', names no column"),
        ("{ }", "names no column"),
        ("", "prompt is '': pass a text that is not empty"),
        (" \n", "prompt is ' .n': pass"),
        ("\ud800", "prompt is not valid Unicode"),
    ],
)
def test_a_bad_prompt_is_refused_with_its_place(prompt: str, problem: str) -> None:
    with pytest.raises(InvalidInputError, match=problem.replace("{", r"\{").replace("}", r"\}")):
        Template("m", prompt)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"model": ""}, "model is ''"),
        ({"model": 5}, "model is 5"),
        ({"max_tokens": 0}, "max_tokens is 0: pass a whole number from 1 on"),
        ({"max_tokens": True}, "max_tokens is True"),
        ({"max_tokens": 1.5}, "max_tokens is 1.5"),
        ({"system": ""}, "system is ''"),
        ({"id_column": ""}, "id_column is ''"),
        ({"if_empty": "skip"}, "if_empty is 'skip': pass 'error' or 'send'"),
        ({"params": [1]}, r"params is \[1\]: pass a dict"),
        ({"params": {1: 2}}, "pass a dict of parameters by their names"),
        ({"params": {"messages": []}}, "params has 'messages', which the template sets: leave it"),
        ({"params": {"stream": True}}, "params has 'stream', which the template sets: leave it"),
        ({"params": {"max_tokens": 5}}, "'max_tokens', which the template sets: pass it as max_to"),
        ({"params": {"x": {1, 2}}}, "which JSON cannot say"),
        ({"params": {"x": float("nan")}}, "which JSON cannot say"),
        ({"params": {"x": object()}}, "which JSON cannot say"),
    ],
)
def test_a_bad_argument_is_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidInputError, match=problem):
        Template(**{"model": "m", "prompt": "{a}", **changes})


def test_an_unknown_column_is_named_with_the_columns_that_there_are() -> None:
    template = Template("m", "{reveiw}", id_column="id")
    with pytest.raises(InvalidInputError) as caught:
        template.request({"review": "x", "id": 1}, 0)
    assert str(caught.value) == (
        "has no column 'reveiw' (named in the prompt): its columns are 'review', 'id'"
    )
    with pytest.raises(InvalidInputError, match=r"^a.csv has no column 'id' \(the id_column\)"):
        template.check_columns("a.csv", ["reveiw", "b"])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("  as it is\n", "  as it is\n"),
        (5, "5"),
        (2**70, str(2**70)),
        (3.0, "3.0"),
        (0.1, "0.1"),
        (float("inf"), "inf"),
        (True, "true"),
        (False, "false"),
        (Decimal("1E+3"), "1000"),
        (Decimal("1.10"), "1.10"),
        (date(2026, 11, 24), "2026-11-24"),
        (datetime(2026, 11, 24, 9, 5, tzinfo=UTC), "2026-11-24T09:05:00+00:00"),
        (time(9, 5), "09:05:00"),
        (timedelta(hours=30), "1 day, 6:00:00"),
        (b"\xc3\xa9", "é"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ([1, None, "é"], '[1,null,"é"]'),
        ({"a": date(2026, 1, 2), "b": [Decimal("1.0")]}, '{"a":"2026-01-02","b":["1.0"]}'),
    ],
)
def test_a_value_is_inserted_as_text(value: object, text: str) -> None:
    assert prompt_of(Template("m", "<{a}>"), {"a": value}) == f"<{text}>"


@pytest.mark.parametrize("value", [None, float("nan")])
def test_a_missing_value_is_inserted_as_nothing(value: object) -> None:
    assert prompt_of(Template("m", "<{a}{b}>"), {"a": value, "b": "x"}) == "<x>"


@pytest.mark.parametrize("value", [None, "", " \n", float("nan")])
def test_a_row_without_data_for_its_prompt_is_refused(value: object) -> None:
    row = {"a": value, "b": value, "c": "x"}
    with pytest.raises(InvalidInputError, match=r"is empty in 'a', 'b', so its prompt would have"):
        Template("m", "Say {a}{b}").request(row, 0)
    assert prompt_of(Template("m", "Say {a}", if_empty="send"), row).startswith("Say ")


def test_a_prompt_without_columns_must_be_meant() -> None:
    with pytest.raises(InvalidInputError, match="names no column, so every request would be the s"):
        Template("m", "Tell a joke")
    template = Template("m", "Tell a joke", if_empty="send")
    assert prompt_of(template, {}) == "Tell a joke"


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (b"\xff", "has binary data in 'a', not text: leave this column out"),
        ("\ud800", "has text in 'a' that is not valid Unicode"),
    ],
)
def test_a_value_without_a_text_is_refused(value: object, problem: str) -> None:
    with pytest.raises(InvalidInputError, match=problem):
        Template("m", "{a}").request({"a": value}, 0)


@pytest.mark.parametrize(("value", "custom_id"), [("x1", "x1"), (5, "5"), (True, "true"), ("", "")])
def test_the_custom_id_is_that_of_the_id_column(value: object, custom_id: str) -> None:
    template = Template("m", "{a}", id_column="id")
    assert made(template, {"a": "x", "id": value})["custom_id"] == custom_id


def test_a_missing_id_is_left_out() -> None:
    assert "custom_id" not in made(Template("m", "{a}", id_column="id"), {"a": "x", "id": None})


def test_a_column_can_be_used_twice_and_is_listed_once() -> None:
    template = Template("m", "{a} {b} {a}", id_column="a")
    assert (template.columns, template.prompt_columns) == (("a", "b"), ("a", "b"))


def test_equal_templates_have_the_same_text_and_others_not() -> None:
    first = Template("m", "{a}", params={"x": 1, "y": {"b": 1, "a": 2}})
    second = Template("m", "{a}", params={"y": {"a": 2, "b": 1}, "x": 1})
    assert first.encode() == second.encode()
    assert first.request({"a": 1}, 0) == second.request({"a": 1}, 0)
    assert first.encode() != Template("m", "{a} ", params={"x": 1}).encode()
    assert Template.decode(first.encode()) == first


@pytest.mark.parametrize("text", ["", "[]", '{"model": "m"}', '{"model": "m", "prompt": "{"}'])
def test_a_text_that_is_no_template_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError):
        Template.decode(text)


@given(st.dictionaries(st.text(st.characters(exclude_characters="{}"), min_size=1), st.text()))
def test_any_text_arrives_unchanged(row: dict[str, str]) -> None:
    row = {name: value for name, value in row.items() if name.strip() and name.isprintable()}
    template = Template("m", "|".join(["x", *(f"{{{name}}}" for name in row)]), if_empty="send")
    try:
        expected = "|".join(["x", *row.values()])
        expected.encode()
        "".join(row).encode()
    except UnicodeEncodeError:
        return
    assert prompt_of(template, row) == expected
