from __future__ import annotations

from typing import Any

import pytest

from batches_core.emulator import Emulator
from tests.support.emulator_client import Client, request


def five() -> tuple[Client, list[str]]:
    client = Client()
    ids = []
    for _ in range(5):
        ids.append(client.create([request()]))
        client.now += 1
    return client, ids


@pytest.mark.parametrize(
    ("query", "listed", "has_more"),
    [
        ("", "43210", False),
        ("?limit=1", "4", True),
        ("?limit=4", "4321", True),
        ("?limit=5", "43210", False),
        ("?limit=1000", "43210", False),
        ("?limit=2&after_id={3}", "21", True),
        ("?limit=2&after_id={2}", "10", False),
        ("?limit=2&after_id={1}", "0", False),
        ("?after_id={4}", "3210", False),
        ("?after_id={0}", "", False),
        ("?limit=2&before_id={0}", "21", True),
        ("?limit=2&before_id={2}", "43", False),
        ("?limit=2&before_id={3}", "4", False),
        ("?before_id={0}", "4321", False),
        ("?before_id={4}", "", False),
    ],
)
def test_a_page_is_newest_first_and_adjacent_to_its_cursor(
    query: str, listed: str, *, has_more: bool
) -> None:
    client, ids = five()
    page = client.ok("GET", query.format(*ids))
    expected = [ids[int(number)] for number in listed]
    assert page == {
        "data": [client.get(id_) for id_ in expected],
        "has_more": has_more,
        "first_id": expected[0] if expected else None,
        "last_id": expected[-1] if expected else None,
    }


def test_an_empty_list_has_null_cursors() -> None:
    empty = {"data": [], "has_more": False, "first_id": None, "last_id": None}
    assert Client().ok("GET") == empty


def test_a_page_has_20_batches_by_default() -> None:
    client = Client()
    ids = [client.create([request()]) for _ in range(21)]
    page = client.ok("GET")
    assert [batch["id"] for batch in page["data"]] == ids[:0:-1]
    assert page["has_more"]


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "1.5", "x", "%2B1", "%C2%B2", "9" * 5000])
def test_a_limit_outside_1_to_1000_is_a_400(limit: str) -> None:
    status, type_, message = Client().call("GET", f"?limit={limit}").error
    assert (status, type_) == (400, "invalid_request_error")
    assert message.startswith("limit: ")


@pytest.mark.parametrize("cursor", ["after_id", "before_id"])
def test_an_unknown_cursor_is_a_400(cursor: str) -> None:
    client, _ = five()
    status, type_, message = client.call("GET", f"?{cursor}=msgbatch_none").error
    assert (status, type_) == (400, "invalid_request_error")
    assert message.startswith(f"{cursor}: ")


def test_two_cursors_at_once_are_a_400() -> None:
    client, ids = five()
    response = client.call("GET", f"?after_id={ids[4]}&before_id={ids[0]}")
    assert response.error[:2] == (400, "invalid_request_error")


def test_a_deleted_batch_is_not_listed() -> None:
    client, ids = five()
    client.now += 60
    client.ok("DELETE", f"/{ids[2]}")
    assert [batch["id"] for batch in client.ok("GET")["data"]] == [ids[i] for i in (4, 3, 1, 0)]


@pytest.mark.parametrize(
    ("options", "listed"),
    [({}, "3210"), ({"ties": "newest"}, "3210"), ({"ties": "oldest"}, "0123")],
)
def test_batches_with_equal_created_at_are_listed_newest_or_oldest_first(
    options: dict[str, Any], listed: str
) -> None:
    client = Client(Emulator(**options))
    ids = [client.create([request()]) for _ in range(4)]
    client.now += 1
    last = client.create([request()])
    found = [batch["id"] for batch in client.ok("GET")["data"]]
    assert found == [last, *(ids[int(number)] for number in listed)]


def test_batches_with_equal_created_at_can_be_listed_by_id() -> None:
    client = Client(Emulator(ties="id"))
    ids = [client.create([request()]) for _ in range(20)]
    found = [batch["id"] for batch in client.ok("GET")["data"]]
    assert found == sorted(ids, reverse=True)
    assert found not in (ids, ids[::-1])
