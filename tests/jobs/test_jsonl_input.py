"""A file of JSON lines as the input of a job: chunks are ranges of its bytes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batches_core import InvalidInputError, LocalProtocolError, PreparedRequests
from batches_core import requests as core_requests
from batches_core.jobs import ChunkPlanned, Ids, job_tag, wire_id
from batches_jobs._errors import InputChangedError, StorageError
from batches_jobs._folder import JobFolder
from batches_jobs._inputs import chunk_file, files, jsonl
from batches_jobs._inputs.jsonl import JSONLInput

from .store_support import (
    JOB_ID,
    body,
    folder_in,
    gather,
    line,
    lines,
    names,
    plan_all,
    plan_next,
    request,
    sent_requests,
)

Make = Callable[..., JSONLInput]


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    return folder_in(tmp_path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "requests.jsonl"


@pytest.fixture
def make(path: Path, folder: JobFolder) -> Make:
    def make(data: bytes | None = None, ids: Ids = "keep", **options: Any) -> JSONLInput:
        if data is not None:
            path.write_bytes(data)
        return JSONLInput(path, folder, job_id=JOB_ID, ids=ids, **options)

    return make


def wire(row: int) -> str:
    return wire_id(job_tag(JOB_ID), row)


# --- planning ----------------------------------------------------------------------------


def test_chunks_follow_each_other_and_are_sent_byte_for_byte(make: Make, folder: JobFolder) -> None:
    odd = b'  {"custom_id": "odd",\t"params": {"n": 1e5, "s": "\\u00e9 \xc3\xa9"}}  '
    rows = [odd, *lines(6)]
    input_ = make(b"\n".join(rows))
    chunks = plan_all(input_, 3)
    assert [(each.chunk, each.first_row, each.count) for each in chunks] == [
        (0, 0, 3),
        (1, 3, 3),
        (2, 6, 1),
    ]
    assert [each.start for each in chunks] == [0, chunks[0].end, chunks[1].end]
    for each in chunks:
        wanted = rows[each.first_row : each.first_row + each.count]
        assert body(input_, each) == (
            b'{"requests":[' + b",".join(row.strip() for row in wanted) + b"]}"
        )
        assert body(input_, each) == body(input_, each)
        assert input_.ids(each) == {
            json.loads(row)["custom_id"]: number
            for number, row in enumerate(wanted, 3 * each.chunk)
        }
    assert names(folder.spool(0).parent) == []
    assert repr(input_).startswith("JSONLInput(")


def test_the_digest_of_a_chunk_is_that_of_its_bytes(make: Make, path: Path) -> None:
    input_ = make(b"\r\n".join(lines(5)))
    for each in plan_all(input_, 2):
        data = path.read_bytes()[each.start : each.end]
        assert each.digest == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\n\n \n\r\n"])
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_the_end_of_the_input_is_known_with_its_last_chunk(
    make: Make, end: bytes, rows: int
) -> None:
    input_ = make(b"\n".join(lines(3)) + end)
    chunks: list[ChunkPlanned] = []
    while True:
        value = plan_next(input_, chunks, rows)
        assert value.plan is not None
        chunks.append(value.plan)
        if value.ended:
            break
    assert sum(each.count for each in chunks) == 3
    value = plan_next(input_, chunks, rows)
    assert (value.plan, value.ended) == (None, True)


def test_a_chunk_ends_before_its_body_is_too_large(make: Make) -> None:
    size = len(lines(1)[0])
    limit = len('{"requests":[]}') + 3 * size + 2
    input_ = make(b"\n".join(lines(9)), max_bytes=limit)
    assert [each.count for each in plan_all(input_, 100)] == [3, 3, 3]
    assert plan_next(input_, [], 100).plan == plan_all(input_, 100)[0]
    input_ = make(b"\n".join(lines(9)), max_bytes=limit - 1)
    chunks = plan_all(input_, 100)
    assert [each.count for each in chunks] == [2, 2, 2, 2, 1]
    assert all(each.content_length < limit for each in chunks)


def test_a_request_over_the_own_limit_is_a_chunk_of_its_own(make: Make) -> None:
    rows = [*lines(2), line("big", system="x" * 1000), line("last")]
    input_ = make(b"\n".join(rows), max_bytes=500)
    assert [each.count for each in plan_all(input_, 100)] == [2, 1, 1]


@st.composite
def written(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """Draw a file of requests, and its requests as they must be sent."""
    blank = st.sampled_from([b"", b" ", b"\t", b"\r"])
    text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
    wanted = []
    rows = []
    for number in range(draw(st.integers(1, 12))):
        rows += draw(st.lists(blank, max_size=2))
        made = json.dumps(
            request(f"r{number}", system=draw(text)), ensure_ascii=draw(st.booleans())
        )
        wanted.append(made.encode())
        margin = draw(st.sampled_from([b"", b" ", b"\t "]))
        rows.append(margin + wanted[-1] + draw(st.sampled_from([b"", b" ", b"\r"])))
    rows += draw(st.lists(blank, max_size=2))
    mark = draw(st.sampled_from([b"", b"\xef\xbb\xbf"]))
    return mark + b"\n".join(rows) + draw(st.sampled_from([b"", b"\n", b"\r\n"])), wanted


@given(
    written(),
    st.lists(st.integers(1, 5), min_size=1),
    st.integers(1, 2000),
    st.sampled_from([2, 7, 100, 262_144]),
    st.sampled_from(["keep", "map"]),
    st.data(),
)
def test_every_request_is_in_one_chunk_however_the_file_is_written_and_read(  # noqa: PLR0917 - drawn
    file: tuple[bytes, list[bytes]],
    sizes: list[int],
    max_bytes: int,
    read: int,
    ids: Ids,
    data: st.DataObject,
) -> None:
    content, wanted = file
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunk_file, "READ", read)
        patch.setattr(files, "READ", read)
        patch.setattr(files, "_USUAL_LINE", read)
        tmp_path = Path(name)
        path = tmp_path / "requests.jsonl"
        path.write_bytes(content)
        input_ = JSONLInput(path, folder_in(tmp_path), job_id=JOB_ID, ids=ids, max_bytes=max_bytes)
        chunks = plan_all(input_, sizes)
        sent = []
        for each in chunks:
            assert each.content_length <= max_bytes or each.count == 1
            got = sent_requests(input_, each)
            assert list(input_.ids(each)) == [one["custom_id"] for one in got]
            assert list(input_.ids(each).values()) == list(input_.custom_ids(each))
            sent += got
        if ids == "keep":
            assert b",".join(body(input_, each)[13:-2] for each in chunks) == b",".join(wanted)
        assert [one["params"] for one in sent] == [json.loads(one)["params"] for one in wanted]
        rows = data.draw(st.sets(st.sampled_from(range(len(wanted))), min_size=1))
        left = set(rows)
        while left:
            plan = gather(input_, chunks, sorted(left))
            got = sent_requests(input_, plan)
            assert [one["params"] for one in got] == [
                json.loads(wanted[row])["params"] for row in plan.rows
            ]
            assert input_.ids(plan) == {
                one["custom_id"]: row for one, row in zip(got, plan.rows, strict=True)
            }
            assert input_.custom_ids(plan) == {row: f"r{row}" for row in plan.rows}
            left -= set(plan.rows)
            chunks.append(plan)


# --- problems ----------------------------------------------------------------------------


def test_problems_name_lines_of_the_whole_file(make: Make) -> None:
    data = [b"", *lines(3), b"", b"", line("a"), b"{", line("a"), b" ", b'{"custom_id":"ok"}']
    input_ = make(b"\n".join(data))
    chunks = [plan_next(input_, [], 3).plan]
    assert chunks[0] is not None
    with pytest.raises(InvalidInputError) as caught:
        plan_next(input_, [chunks[0]], 100)
    assert [(each.line, each.field) for each in caught.value.problems] == [
        (8, None),
        (9, "custom_id"),
        (11, "params"),
    ]
    assert "line 9, custom_id: 'a' is already the id of line 7; correct it" in str(caught.value)


def test_problems_of_the_first_chunk_do_so_too(make: Make) -> None:
    with pytest.raises(InvalidInputError, match=r"^line 3: is not JSON"):
        plan_next(make(b"\n" + line("a") + b"\n{\n"), [], 10)


@pytest.mark.parametrize(
    ("data", "looks"),
    [
        (b"id,prompt\n" * 50, "this looks like a CSV file"),
        (b"\x1f\x8b\x08" + bytes(50), "this looks like a gzip file"),
        (b"PAR1" + bytes(50), "this looks like a Parquet file"),
        (b'[{"custom_id":"a","params":{}}]', "this looks like a JSON array"),
    ],
)
def test_a_file_of_another_kind_is_told_once(make: Make, data: bytes, looks: str) -> None:
    with pytest.raises(InvalidInputError, match=f"^{looks}"):
        plan_next(make(data), [], 10)


@pytest.mark.parametrize("data", [b"", b"\n", b"\xef\xbb\xbf", b" \r\n\r\n"])
def test_an_empty_file_is_an_error(make: Make, data: bytes) -> None:
    with pytest.raises(InvalidInputError, match=r"requests\.jsonl has no requests"):
        plan_next(make(data), [], 10)


def test_a_byte_order_mark_inside_of_a_file_is_a_problem(make: Make) -> None:
    rows = lines(4)
    rows[2] = b"\xef\xbb\xbf" + rows[2]
    input_ = make(b"\n".join(rows))
    first = plan_next(input_, [], 2).plan
    assert first is not None
    with pytest.raises(InvalidInputError, match=r"^line 3: is not JSON"):
        plan_next(input_, [first], 2)


def test_a_line_over_the_limit_is_a_problem(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (files, jsonl):
        monkeypatch.setattr(module, "MAX_BYTES", 3000)
    monkeypatch.setattr(files, "_USUAL_LINE", 1000)
    rows = [*lines(2), line("big", system="x" * 4000), b"{", line("fits", system="x" * 2000)]
    input_ = make(b"\n".join(rows))
    with pytest.raises(InvalidInputError) as caught:
        plan_next(input_, [], 100)
    assert [each.line for each in caught.value.problems] == [3, 4]
    assert f"line 3: has {len(rows[2]) + 1:,} bytes, over the limit of 3,000" in str(caught.value)
    first = plan_next(input_, [], 2).plan
    assert first is not None
    assert first.count == 2
    with pytest.raises(InvalidInputError, match=r"(?s)line 3: has .*line 4: "):
        plan_next(input_, [first], 2)


def test_a_line_of_gigabytes_takes_little_memory(
    make: Make, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (files, jsonl):
        monkeypatch.setattr(module, "MAX_BYTES", 3_000_000)
    with path.open("wb") as file:
        file.write(lines(1)[0] + b"\n")
        file.seek(500_000_000, os.SEEK_CUR)  # a hole, of zeros, that takes no room
        file.write(b"\n" + line("last"))
    tracemalloc.start()
    try:
        with pytest.raises(InvalidInputError, match="line 2: has 500,000,001 bytes"):
            plan_all(make(), 100)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 12_000_000


def test_what_is_no_regular_file_is_refused(make: Make, path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"cannot be read \(No such file"):
        plan_next(make(), [], 10)
    os.mkfifo(path)
    for use in (make().describe, lambda: plan_next(make(), [], 10)):
        with pytest.raises(InvalidInputError, match=r"no regular file.*open file itself"):
            use()


def test_another_word_for_ids_is_refused(make: Make) -> None:
    with pytest.raises(InvalidInputError, match="ids is 'own': pass 'keep' or 'map'"):
        make(b"", ids="own")


# --- ids ---------------------------------------------------------------------------------


def test_kept_ids_are_unique_in_a_chunk(make: Make) -> None:
    input_ = make(b"\n".join([line("a"), line("b"), line("a")]))
    with pytest.raises(InvalidInputError, match=r"line 1; correct it, or pass ids='map'$"):
        plan_next(input_, [], 3)
    first, second = plan_all(input_, 2)
    assert (input_.ids(first), input_.ids(second)) == ({"a": 0, "b": 1}, {"a": 2})


def test_equal_ids_of_two_chunks_are_not_gathered_into_one(make: Make) -> None:
    input_ = make(b"\n".join([line("a"), line("b"), line("a"), line("c")]))
    chunks = plan_all(input_, 2)
    third = gather(input_, chunks, [0, 1, 2, 3])
    assert third.rows == (0, 1, 3)
    fourth = gather(input_, [*chunks, third], [2])
    assert fourth.rows == (2,)
    assert input_.ids(fourth) == {"a": 2}


def test_mapped_ids_lead_back_to_their_rows(make: Make) -> None:
    own: list[Any] = ["a", "a", "", "é" * 100, 5, None, {"x": [1, "\n"]}, True, "ok"]
    rows = [json.dumps(request(each)).encode() for each in own]
    rows.append(b'{"params": {"n": 1e5}, "later": true}')
    input_ = make(b"\n".join(rows), ids="map")
    chunks = plan_all(input_, 4)
    sent = [each for chunk in chunks for each in sent_requests(input_, chunk)]
    assert [each["custom_id"] for each in sent] == [wire(row) for row in range(10)]
    assert sent[9] == {"custom_id": wire(9), "params": {"n": 1e5}, "later": True}
    assert b'{"custom_id":"%b","params":{"n": 1e5},"later":true}' % wire(9).encode() in body(
        input_, chunks[-1]
    )
    assert {each: row for chunk in chunks for each, row in input_.ids(chunk).items()} == {
        wire(row): row for row in range(10)
    }
    back = {row: each for chunk in chunks for row, each in input_.custom_ids(chunk).items()}
    assert list(back.values()) == [
        *("a", "a", "", "é" * 100, "5", None, '{"x": [1, "\\n"]}', "true", "ok", None),
    ]
    plan = gather(input_, chunks, [1, 9])
    assert [each["custom_id"] for each in sent_requests(input_, plan)] == [wire(1), wire(9)]
    assert input_.custom_ids(plan) == {1: "a", 9: None}


def nested(depth: int) -> bytes:
    opened, closed = b"[" * depth, b"]" * depth
    return b'{"custom_id":"own","params":{"messages":%b%b}}' % (opened, closed)


def test_a_request_that_is_nested_too_deeply_to_map_its_id_is_a_problem(make: Make) -> None:
    rows = [*lines(3), nested(100_000), line(4), nested(200_000)]
    input_ = make(b"\n".join(rows), ids="map")
    with pytest.raises(InvalidInputError) as caught:
        plan_all(input_, 10)
    first, second = caught.value.problems
    assert (first.line, second.line) == (4, 6)
    assert first.message == (
        "is nested too deeply to replace its custom_id: flatten it, or pass ids='keep'"
    )
    with pytest.raises(InvalidInputError, match="line 4: is nested too deeply"):
        plan_all(input_, 3)


def test_a_request_that_is_nested_too_deeply_is_never_sent_under_its_own_id(make: Make) -> None:
    # On Python 3.11 the limit counts the calls that are under way, so that a request that could be
    # planned can fail later: find the deepest one that can be planned.
    for depth in range(1000, 500, -1):
        input_ = make(nested(depth), ids="map")
        with contextlib.suppress(InvalidInputError):
            [plan] = plan_all(input_, 3)
            break

    def body_within(calls: int) -> bytes:
        return body_within(calls - 1) if calls else body(input_, plan)

    assert b"own" not in body(input_, plan)
    try:
        sent = body_within(100)
    except InvalidInputError as error:
        assert "row 0 is nested too deeply" in str(error)  # noqa: PT017 - on Python 3.11 alone
    else:
        assert b"own" not in sent


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (b"[1]", r"line 2: must be a JSON object"),
        (b'{"custom_id":"a"', r"line 2: is not JSON"),
        (b'{"custom_id":"a"}', r"line 2, params: is missing"),
        (b'{"custom_id":"a","params":5}', r"line 2, params: must be a JSON object"),
        (b'{"custom_id":"a","params":{"stream":true}}', r"line 2, params.stream"),
        (b'{"custom_id":"a","params":{"x":"\xff"}}', r"line 2: is not JSON"),
    ],
)
@pytest.mark.parametrize("ids", ["keep", "map"])
def test_other_problems_are_found_whatever_the_ids(
    make: Make, row: bytes, problem: str, ids: Ids
) -> None:
    with pytest.raises(InvalidInputError, match=f"^{problem}"):
        plan_next(make(line("ok") + b"\n" + row, ids=ids), [], 10)


# --- a file that changes -----------------------------------------------------------------


def edit_unseen(path: Path, old: bytes, new: bytes) -> None:
    """Change a file but not its size, nor the time that a program can set."""
    before = path.stat()
    data = path.read_bytes()
    assert len(old) == len(new)
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, new))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def sent_before_the_change(pieces: Iterable[bytes]) -> bytes:
    sent = b""
    try:
        for piece in pieces:
            sent += piece
    except InputChangedError:
        return sent
    pytest.fail("no change was found")


def uses_of(input_: JSONLInput, chunks: list[ChunkPlanned], at: int) -> list[Callable[[], object]]:
    plan = chunks[at]
    return [
        lambda: body(input_, plan),
        lambda: input_.ids(plan),
        lambda: input_.custom_ids(plan),
        lambda: gather(input_, chunks, [plan.first_row]),
    ]


@pytest.mark.parametrize("ids", ["keep", "map"])
def test_a_changed_chunk_is_named_and_never_used(
    make: Make, path: Path, folder: JobFolder, ids: Ids
) -> None:
    input_ = make(b"\n\n" + b"\n".join(lines(9)) + b"\n", ids=ids)
    chunks = plan_all(input_, 3)
    edit_unseen(path, b'"r4"', b'"xx"')
    uses = uses_of(input_, chunks, 1)
    # Ids that are mapped are known without the file.
    for use in uses if ids == "keep" else [uses[0], *uses[2:]]:
        with pytest.raises(
            InputChangedError, match=r"chunk 1 \(lines 6 to 8\).*as it was"
        ) as caught:
            use()
        assert caught.value.chunk == 1
    assert names(folder.retry(0).parent) == []
    for at in (0, 2):
        for use in uses_of(input_, chunks, at):
            use()
    edit_unseen(path, b'"xx"', b'"r4"')
    for use in uses_of(input_, chunks, 1):
        use()


def test_lines_that_were_split_are_a_change(make: Make, path: Path) -> None:
    spread = line("r1").replace(b", ", b",  ")
    input_ = make(b"\n".join([line("r0"), spread, line("r2")]))
    chunks = plan_all(input_, 2)
    edit_unseen(path, spread, spread.replace(b",  ", b",\n ", 1))
    for use in uses_of(input_, chunks, 0):
        with pytest.raises(InputChangedError, match=r"chunk 0 \(lines 1 to 3\)"):
            use()


def test_a_name_that_is_not_text_can_be_described_and_shown(
    folder: JobFolder, tmp_path: Path
) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.jsonl")
    input_ = JSONLInput(path, folder, job_id=JOB_ID)
    with pytest.raises(InvalidInputError, match=r"caf\ufffd\.jsonl cannot be read"):
        plan_next(input_, [], 3)
    path.write_bytes(line("a"))
    assert json.loads(input_.describe())["path"] == f"{tmp_path}/caf\\udce9.jsonl"
    input_.resume(input_.describe(), [], ended=False)
    assert len(plan_all(input_, 3)) == 1


def test_a_shortened_file_is_a_changed_one(make: Make, path: Path) -> None:
    input_ = make(b"\n".join(lines(9)))
    chunks = plan_all(input_, 3)
    os.truncate(path, chunks[1].end - 5)
    for at in (1, 2):
        for use in uses_of(input_, chunks, at):
            with pytest.raises(InputChangedError, match=f"chunk {at} "):
                use()
    path.unlink()
    with pytest.raises(InvalidInputError, match=r"cannot be read.*put it back"):
        body(input_, chunks[0])


def test_the_last_piece_of_a_changed_chunk_is_never_sent(
    make: Make, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core_requests, "_PIECE_SIZE", 1)
    input_ = make(b"\n".join(lines(9)))
    (plan,) = plan_all(input_, 9)
    prepared = input_.requests(plan).prepare()
    assert isinstance(prepared, PreparedRequests)
    edit_unseen(path, b'"r4"', b'"xx"')
    sent = sent_before_the_change(prepared.body)
    assert 0 < len(sent) < plan.content_length
    assert not sent.endswith(b"]}")
    assert getattr(prepared.body, "blocks", False)
    assert repr(prepared.body) == f"<_ChunkBody of {plan.content_length} bytes>"


@pytest.mark.parametrize("difference", [-1, 1, -10_000, 10_000])
def test_a_body_of_another_length_than_planned_is_not_sent(
    make: Make, monkeypatch: pytest.MonkeyPatch, difference: int
) -> None:
    input_ = make(b"\n".join(lines(9)))
    (plan,) = plan_all(input_, 9)
    other = msgspec.structs.replace(plan, content_length=plan.content_length + difference)
    for piece_size in (1, 1_000_000):
        monkeypatch.setattr(core_requests, "_PIECE_SIZE", piece_size)
        sent = sent_before_the_change(input_.requests(other).prepare().body)
        assert len(sent) < max(other.content_length, 1)


def test_what_changes_no_byte_is_no_change(make: Make, path: Path, tmp_path: Path) -> None:
    input_ = make(b"\n".join(lines(9)))
    source = input_.describe()
    first = plan_next(input_, [], 3).plan
    assert first is not None
    path.chmod(0o600)
    (tmp_path / "backup").hardlink_to(path)
    os.utime(path)
    assert input_.describe() != source
    body(input_, first)
    chunks = plan_all(input_, 3, [first])
    input_ = make()
    input_.resume(source, chunks, ended=True)
    body(input_, chunks[2])


def test_a_file_that_changed_between_two_chunks_is_compared_with_the_first(
    make: Make, path: Path
) -> None:
    input_ = make(b"\n".join(lines(9)))
    first = plan_next(input_, [], 3).plan
    assert first is not None
    path.write_bytes(b"\n" + path.read_bytes())
    with pytest.raises(InputChangedError, match=r"chunk 0 \(lines 1 to 4\)"):
        plan_next(input_, [first], 3)
    path.write_bytes(path.read_bytes()[1:] + b"\n" + line("new"))
    assert sum(each.count for each in plan_all(input_, 3, [first])) == 10


# --- resuming ----------------------------------------------------------------------------


def test_a_description_holds_the_version_of_the_file(make: Make, path: Path) -> None:
    described = json.loads(make(b"\n".join(lines(2))).describe())
    info = path.stat()
    assert described == {
        "kind": "jsonl",
        "path": str(path),
        "version": {
            "size": info.st_size,
            "mtime_ns": info.st_mtime_ns,
            "ctime_ns": info.st_ctime_ns,
            "inode": info.st_ino,
        },
    }


def test_a_job_goes_on_where_it_was(make: Make) -> None:
    data = b"\n".join(lines(9))
    source = make(data).describe()
    whole = plan_all(make(), 2)
    for done in range(1, len(whole)):
        input_ = make()
        input_.resume(source, whole[:done], ended=False)
        assert plan_all(input_, 2, whole[:done]) == whole


def test_a_changed_chunk_is_named_when_a_job_goes_on(make: Make, path: Path) -> None:
    input_ = make(b"\n".join(lines(9)))
    source = input_.describe()
    chunks = plan_all(input_, 3)
    edit_unseen(path, b'"r7"', b'"xx"')
    with pytest.raises(InputChangedError, match=r"chunk 2 \(lines 7 to 9\)"):
        make().resume(source, chunks, ended=True)
    make().resume(source, chunks[:2], ended=False)


def test_a_correction_behind_the_planned_chunks_is_welcome(make: Make, path: Path) -> None:
    rows = lines(5)
    rows[4] = b"{"
    input_ = make(b"\n".join(rows))
    source = input_.describe()
    first = plan_next(input_, [], 3).plan
    assert first is not None
    with pytest.raises(InvalidInputError, match="line 5: is not JSON"):
        plan_next(input_, [first], 3)
    rows[4] = line("corrected")
    path.write_bytes(b"\n".join(rows))
    input_ = make()
    input_.resume(source, [first], ended=False)
    assert [each.count for each in plan_all(input_, 3, [first])] == [3, 2]


def test_a_file_that_grew_after_its_end_was_read_is_an_error(make: Make, path: Path) -> None:
    input_ = make(b"\n".join(lines(3)) + b"\n")
    source = input_.describe()
    chunks = plan_all(input_, 2)
    with path.open("ab") as file:
        file.write(b"\n \n")
    make().resume(source, chunks, ended=True)
    with path.open("ab") as file:
        file.write(line("new"))
    with pytest.raises(InputChangedError, match="after the last one of the job, from line") as got:
        make().resume(source, chunks, ended=True)
    assert got.value.chunk is None
    make().resume(source, chunks, ended=False)


def test_an_input_of_another_kind_is_refused(make: Make) -> None:
    with pytest.raises(InvalidInputError, match="begun with an input of the kind 'csv'"):
        make(b"\n".join(lines(3))).resume('{"kind":"csv"}', [], ended=False)
    make().resume("", [], ended=False)


def test_files_of_chunks_that_were_not_recorded_are_removed(make: Make, folder: JobFolder) -> None:
    input_ = make(b"\n".join(lines(3)))
    source = input_.describe()
    chunks = plan_all(input_, 3)
    chunks.append(gather(input_, chunks, [1]))
    gather(input_, chunks, [1])
    for name in ("000001.jsonl.part", "000009.jsonl.part", "notes.txt"):
        (folder.retry(0).parent / name).touch()
    folder.spool(1).touch()
    assert names(folder.retry(0).parent)[:2] == ["000001.jsonl", "000001.jsonl.part"]
    make().resume(source, chunks, ended=True)
    assert names(folder.retry(0).parent) == ["000001.jsonl", "notes.txt"]
    assert names(folder.spool(0).parent) == []


# --- retries -----------------------------------------------------------------------------


def test_failed_rows_are_gathered_from_their_chunks(make: Make, folder: JobFolder) -> None:
    rows = lines(9)
    input_ = make(b"\r\n\r\n".join(rows))
    chunks = plan_all(input_, 2)
    plan = gather(input_, chunks, [0, 3, 8])
    assert (plan.chunk, plan.rows, plan.round, plan.count) == (5, (0, 3, 8), 1, 3)
    assert folder.retry(5).read_bytes() == b"".join(rows[row] + b"\n" for row in (0, 3, 8))
    assert [each["custom_id"] for each in sent_requests(input_, plan)] == ["r0", "r3", "r8"]
    assert input_.ids(plan) == {"r0": 0, "r3": 3, "r8": 8}
    again = gather(input_, [*chunks, plan], [3, 8])
    assert sent_requests(input_, again) == sent_requests(input_, plan)[1:]
    assert names(folder.retry(0).parent) == ["000005.jsonl", "000006.jsonl"]


def test_gathered_rows_that_are_too_large_together_are_left_for_later(make: Make) -> None:
    rows = lines(6)
    input_ = make(b"\n".join(rows), max_bytes=2 * len(rows[0]) + 50)
    chunks = plan_all(input_, 2)
    assert gather(input_, chunks, [0, 1, 2, 5]).rows == (0, 1)
    assert gather(input_, chunks, [1, 2, 3, 5]).rows == (1, 2)


def test_a_row_in_no_chunk_is_a_bug_of_the_driver(make: Make) -> None:
    input_ = make(b"\n".join(lines(3)))
    chunks = plan_all(input_, 3)
    for row in (-1, 3):
        with pytest.raises(LocalProtocolError, match=f"row {row} is in no chunk"):
            gather(input_, chunks, [row])


def test_a_changed_file_of_retries_is_named(make: Make, folder: JobFolder) -> None:
    input_ = make(b"\n".join(lines(9)))
    chunks = plan_all(input_, 3)
    plan = gather(input_, chunks, [1, 7])
    edit_unseen(folder.retry(3), b'"r7"', b'"xx"')
    with pytest.raises(InputChangedError, match=r"000003.jsonl.*chunk 3 \(rows 1 to 7\)"):
        body(input_, plan)


def test_a_full_disk_leaves_no_file_of_retries(
    make: Make, folder: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    input_ = make(b"\n".join(lines(3)))
    chunks = plan_all(input_, 3)

    def full(*_: object) -> int:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(StorageError, match=r"000001\.jsonl could not be written .No space"):
            gather(input_, chunks, [1])
    assert names(folder.retry(0).parent) == []
    assert gather(input_, chunks, [1]).rows == (1,)


# --- memory ------------------------------------------------------------------------------


def test_memory_does_not_grow_with_the_input(make: Make, path: Path) -> None:
    with path.open("wb") as file:
        for number in range(60_000):
            file.write(line(f"r{number}", system="x" * 300) + b"\n")
    input_ = make()
    tracemalloc.start()
    try:
        chunks = plan_all(input_, 2000)
        _, planning = tracemalloc.get_traced_memory()
        for each in chunks[:3]:
            for _ in input_.requests(each).prepare().body:
                pass
        gather(input_, chunks, range(0, 60_000, 1000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert path.stat().st_size > 20_000_000
    assert len(chunks) == 30
    assert planning < 2_000_000
    assert peak < 4_000_000
