"""Tests of outputs in storage: a bucket of a real S3 server, and real processes."""

from __future__ import annotations

import csv
import io
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pyarrow.parquet  # type: ignore[import-untyped] # it has no types
import pytest

from batches_core.emulator import Emulator, Result, answer, errored
from batches_jobs import ObjectStoreError, storage
from batches_jobs._cli.codes import ExitCode
from batches_jobs.storage import FolderStorage
from tests.support.s3 import KEY_ID, SECRET, S3Server, running_s3

from .snapshot_texts import output
from .support import (
    QUICK,
    Ended,
    batches,
    command,
    environment,
    served,
    sold,
    write_requests,
    write_table,
)

URL = "s3://bucket/reviews/"
OBJECT = "bucket/reviews/results.jsonl"
RUN = ("run", "in.jsonl", "-o", URL, *QUICK)
TEMPLATE = ("--model", "claude-haiku-4-5", "--prompt", "Good? {review}", "--max-tokens", "9")


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with running_s3() as running:
        yield running


@pytest.fixture
def s3(server: S3Server) -> S3Server:
    server.reset()
    server.make_bucket("bucket")
    return server


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished job without an output, in.job: 4 answered rows and a failed one."""
    folder = tmp_path_factory.mktemp("finished")
    write_requests(folder / "in.jsonl", 5)
    emulator = Emulator(speed=1000, responder=fail_last)
    with served(emulator) as base_url:
        ended = batches(folder, "run", "in.jsonl", "--rounds", "0", *QUICK, base_url=base_url)
    assert ended.code == ExitCode.FAILED_ROWS, ended.err
    return folder


def fail_last(custom_id: str, params: dict[str, Any]) -> Result:
    if custom_id == "r4":
        return errored("invalid_request_error", "no")
    return answer(custom_id, params)


def run(cwd: Path, *arguments: object, s3: S3Server, **more: Any) -> Ended:
    """Run a command that knows the server, and check that no part of a credential is shown."""
    ended = batches(cwd, *arguments, **{**s3.environment, **more})
    assert not [each for each in (SECRET, KEY_ID) if each in ended.out + ended.err]
    return ended


def test_a_run_stores_its_results_and_the_same_again_stores_nothing(
    s3: S3Server, tmp_path: Path
) -> None:
    write_requests(tmp_path / "in.jsonl", 60)
    emulator = Emulator(speed=1000)
    with served(emulator) as base_url:
        first = run(tmp_path, *RUN, "--json", s3=s3, base_url=base_url)
        stored = s3.read(OBJECT)
        again = run(tmp_path, *RUN, s3=s3, base_url=base_url)
    assert first.code == ExitCode.OK, first.err
    assert first.json["output"] == "s3://bucket/reviews/results.jsonl"
    assert first.json["next"] == "batches report reviews.job"
    assert again.code == ExitCode.OK, again.err
    assert "results: s3://bucket/reviews/results.jsonl" in again.err
    assert "writing" not in again.err
    assert stored is not None
    assert [json.loads(line)["custom_id"] for line in stored.splitlines()] == [
        f"r{number}" for number in range(60)
    ]
    assert sold(emulator) == {f"r{number}": 1 for number in range(60)}
    assert {path.name for path in tmp_path.iterdir()} == {"in.jsonl", "reviews.job"}
    assert s3.uploads("bucket") == 0


def test_the_suffix_of_the_url_is_the_format(s3: S3Server, tmp_path: Path) -> None:
    write_table(tmp_path / "reviews.csv", 30)
    url = "s3://bucket/a%20b/labels%20v2.csv"
    arguments = ("run", "reviews.csv", "-o", url, *TEMPLATE, "--id", "id", *QUICK)
    with served(Emulator(speed=1000)) as base_url:
        ended = run(tmp_path, *arguments, s3=s3, base_url=base_url)
    assert ended.code == ExitCode.OK, ended.err
    data = s3.read("bucket/a%20b/labels%20v2.csv")
    assert data is not None
    ids = [row["id"] for row in csv.DictReader(io.StringIO(data.decode()))]
    assert ids == [str(number) for number in range(30)]
    shown = batches(tmp_path, "status", url, "--json").json
    assert (shown["job"], shown["output"]) == ("labels v2.job", url)
    written = run(tmp_path, "results", url, "-o", "s3://bucket/labels.parquet", s3=s3)
    assert written.code == ExitCode.OK, written.err
    data = s3.read("bucket/labels.parquet")
    assert data is not None
    assert pyarrow.parquet.read_table(io.BytesIO(data))["id"].to_pylist() == ids


def test_an_object_that_is_there_is_left_and_nothing_is_sent(s3: S3Server, tmp_path: Path) -> None:
    write_requests(tmp_path / "in.jsonl", 4)
    s3.store(OBJECT, b"precious")
    emulator = Emulator(speed=1000)
    with served(emulator) as base_url:
        ended = run(tmp_path, *RUN, s3=s3, base_url=base_url)
    assert ended.code == ExitCode.INPUT
    assert "s3://bucket/reviews/results.jsonl is there already" in ended.err
    assert s3.read(OBJECT) == b"precious"
    assert not emulator.sales
    assert not (tmp_path / "reviews.job").exists()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("s3://nothing/x.csv", "(404 Not Found, NoSuchBucket), and nothing was sent"),
        ("s3://elsewhere/x.csv", "(no answer from 127.0.0.1:1), and nothing was sent"),
    ],
)
def test_a_bucket_that_cannot_be_written_is_an_error_before_anything_is_sent(
    s3: S3Server, tmp_path: Path, url: str, words: str
) -> None:
    write_requests(tmp_path / "in.jsonl", 4)
    variables = {"AWS_ENDPOINT": "http://127.0.0.1:1"} if "elsewhere" in url else {}
    emulator = Emulator(speed=1000)
    with served(emulator) as base_url:
        ended = run(tmp_path, "run", "in.jsonl", "-o", url, s3=s3, base_url=base_url, **variables)
    assert ended.code == ExitCode.INPUT
    assert words in ended.err
    assert not emulator.sales
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("foo://bucket/x.csv", "foo://bucket/ is no storage"),
        ("az://container/x.csv", "Account must be specified"),
        ("s3://bucket/x.xlsx", "has the suffix '.xlsx'"),
        (f"s3://{KEY_ID}:{SECRET}@bucket/x.csv", "the s3:// URL has a user, a password"),
        (f"https://host/x.csv?sig={SECRET}", "the https:// URL has a user, a password"),
    ],
)
@pytest.mark.parametrize("verb", ["run", "results"])
def test_a_url_that_is_no_output_is_refused(
    finished: Path, monkeypatch: pytest.MonkeyPatch, url: str, words: str, verb: str
) -> None:
    monkeypatch.chdir(finished)
    job = ("--job", "other.job") if verb == "run" else ()
    code, out, err = output(verb, "in.jsonl" if verb == "run" else "in.job", "-o", url, *job)
    assert code == ExitCode.INPUT
    assert words in err
    assert not [each for each in (SECRET, KEY_ID) if each in out + err]
    assert not Path("other.job").exists()


def test_credentials_that_the_store_refuses_are_an_error_that_does_not_show_them(
    s3: S3Server, tmp_path: Path
) -> None:
    write_requests(tmp_path / "in.jsonl", 4)
    with served(Emulator()) as base_url, s3.refusing():
        ended = run(tmp_path, *RUN, "--debug", s3=s3, base_url=base_url)
    assert ended.code == ExitCode.INPUT
    assert "cannot be written (403 Forbidden, InvalidAccessKeyId), and nothing" in ended.err


def test_a_missing_extra_is_said_before_anything_is_sent(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished)
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    code, _, err = output("run", "in.jsonl", "-o", URL)
    assert code == ExitCode.INPUT
    assert "s3:// needs obstore: install batches-core[storage]" in err
    assert not Path("reviews.job").exists()


def test_results_that_cannot_be_stored_are_safe_in_the_job(s3: S3Server, tmp_path: Path) -> None:
    write_requests(tmp_path / "in.jsonl", 40)
    emulator = Emulator(speed=2)
    with served(emulator) as base_url:
        submit = run(tmp_path, "submit", *RUN[1:], s3=s3, base_url=base_url)
        s3.remove_bucket("bucket")
        ended = run(tmp_path, "resume", URL, "--json", s3=s3, base_url=base_url)
        again = run(tmp_path, *RUN, s3=s3, base_url=base_url)
    next_ = "batches results reviews.job -o s3://bucket/reviews/results.jsonl"
    assert submit.code == ExitCode.OK, submit.err
    assert ended.code == again.code == ExitCode.PERSON
    assert "(404 Not Found, NoSuchBucket): the results stay in reviews.job" in ended.err
    assert "could not be written (404 Not Found, NoSuchBucket): the results are safe" in ended.err
    assert ended.err.count("next:") == again.err.count("next:") == 1
    assert f"next: {next_}\n" in again.err
    assert "finished" in again.err
    assert "results: s3" not in again.err
    shown = (ended.json["exit_code"], ended.json["output"], ended.json["next"])
    assert shown == (ExitCode.PERSON, None, next_)
    assert f"next: {next_}\n" in batches(tmp_path, "status").err
    assert sold(emulator) == {f"r{number}": 1 for number in range(40)}

    s3.make_bucket("bucket")
    written = run(tmp_path, *next_.split()[1:], s3=s3)
    assert written.code == ExitCode.OK, written.err
    stored = s3.read(OBJECT)
    assert stored is not None
    assert stored.count(b"\n") == 40
    assert "next: batches report reviews.job" in batches(tmp_path, "status").err


def test_an_object_is_replaced_only_if_the_job_stored_it_or_was_about_to(
    s3: S3Server, tmp_path: Path
) -> None:
    write_requests(tmp_path / "in.jsonl", 4)
    with served(Emulator(speed=1000)) as base_url:
        assert run(tmp_path, *RUN, s3=s3, base_url=base_url).code == ExitCode.OK
        whole = s3.read(OBJECT)
        s3.store(OBJECT, b"precious")
        # As if the object had appeared while the job ran.
        (tmp_path / "reviews.job/written.json").unlink()
        (tmp_path / "reviews.job/uploads.json").unlink()
        other = run(tmp_path, "resume", s3=s3, base_url=base_url)
        assert s3.read(OBJECT) == b"precious"
        # What a kill in the upload leaves.
        own = json.dumps({"s3://bucket/reviews/results.jsonl": False})
        (tmp_path / "reviews.job/uploads.json").write_text(own, "utf-8")
        ended = run(tmp_path, "resume", s3=s3, base_url=base_url)
    assert other.code == ExitCode.PERSON
    assert "is there already, and is not what this job wrote there" in other.err
    assert ended.code == ExitCode.OK, ended.err
    assert s3.read(OBJECT) == whole


def test_the_verbs_that_read_a_job_write_to_a_bucket(s3: S3Server, finished: Path) -> None:
    select = ("--select", "custom_id", "--answered")
    first = run(finished, "results", "-o", "s3://bucket/ids/", "--json", *select, s3=s3)
    again = run(finished, "results", "-o", "s3://bucket/ids/", *select, s3=s3)
    failed = run(finished, "failed", "-o", "s3://bucket/failed.jsonl", s3=s3)
    report = run(finished, "report", "-o", "s3://bucket/", "--json", s3=s3)
    for ended in (first, again, failed, report):
        assert ended.code == ExitCode.OK, ended.err
    ids = b'"r0"\n"r1"\n"r2"\n"r3"\n'
    url = "s3://bucket/ids/results.jsonl"
    assert first.json == {"output": url, "rows": 4, "bytes": len(ids)}
    assert f"{url}: 4 rows" in again.err
    assert s3.read("bucket/ids/results.jsonl") == ids
    last = (finished / "in.jsonl").read_bytes().splitlines(keepends=True)[-1]
    assert s3.read("bucket/failed.jsonl") == last
    assert "next:" not in failed.err
    assert report.json["report"] == "s3://bucket/report.html"
    page = s3.read("bucket/report.html")
    assert page is not None
    assert page.startswith(b"<!doctype html>")


class BlindStorage(FolderStorage):
    """A folder into which nobody can look."""

    passes: ClassVar[bool]

    def has(self, name: str) -> bool:
        raise ObjectStoreError(name, "no look", passes=self.passes)


@pytest.mark.parametrize(
    ("passes", "code", "words"),
    [
        (False, ExitCode.OK, "s3://bucket/blind.csv: 5 rows"),
        (True, ExitCode.AGAIN, "(no look): the results are safe in in.job; try again, then run"),
    ],
)
def test_credentials_that_may_only_write_are_enough(
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    passes: bool,
    code: ExitCode,
    words: str,
) -> None:
    """An error that passes is no such credential: an object can be there, and is not replaced."""
    monkeypatch.setattr(BlindStorage, "passes", passes, raising=False)
    monkeypatch.setattr(storage, "open_storage", lambda *_, **__: BlindStorage(tmp_path))
    monkeypatch.chdir(finished)
    ended = output("results", "in.job", "-o", "s3://bucket/blind.csv")
    (finished / "in.job/uploads.json").unlink(missing_ok=True)
    assert ended[0] == code
    assert words in ended[2]
    assert (tmp_path / "blind.csv").exists() is not passes


def test_a_file_url_stores_in_a_folder(finished: Path, tmp_path: Path) -> None:
    url = (tmp_path / "some where").as_uri()
    first = batches(finished, "results", "-o", f"{url}/results.csv")
    assert first.code == ExitCode.OK, first.err
    assert len((tmp_path / "some where/results.csv").read_text("utf-8").splitlines()) == 6
    other = batches(finished, "results", "-o", f"{url}/none.xyz")
    assert other.code == ExitCode.INPUT
    assert "pass --format" in other.err
    (tmp_path / "file").touch()
    blocked = batches(finished, "results", "-o", f"{(tmp_path / 'file').as_uri()}/results.csv")
    assert blocked.code == ExitCode.AGAIN
    assert "could not be written (" in blocked.err
    assert "the results are safe in in.job; try again, then run the same again" in blocked.err


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, ExitCode.INTERRUPTED), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_an_interrupted_upload_ends_at_once_and_leaves_no_file(
    finished: Path, number: int, code: int
) -> None:
    files = {path.name for path in (finished / "in.job").iterdir()} | {"uploads.json"}
    name = f"{code}.csv"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = S3Server(endpoint)
        with subprocess.Popen(  # noqa: S603 - this interpreter
            command("results", "-o", f"s3://bucket/{name}"),
            cwd=finished,
            env=environment(**server.environment),
            stderr=subprocess.PIPE,
        ) as process:
            try:
                wait_for_upload(listener)
                begin = time.monotonic()
                process.send_signal(number)
                _, err = process.communicate(timeout=20)
            finally:
                process.kill()
    assert process.returncode == code
    assert time.monotonic() - begin < 10, "the store is not waited for"
    if number == signal.SIGINT:
        assert err.decode() == "interrupted: the results are safe in in.job\n"
    assert {path.name for path in (finished / "in.job").iterdir()} <= files
    # The object can be there now, and counts as that of the job.
    register = json.loads((finished / "in.job/uploads.json").read_bytes())
    assert register[f"s3://bucket/{name}"] is False


def wait_for_upload(listener: socket.socket) -> None:
    """Answer that nothing is there until an upload begins, which is not answered."""
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(20)
            head = connection.recv(65536)
            if head.startswith(b"PUT"):
                return
            connection.sendall(b"HTTP/1.1 404 Not Found\r\nconnection: close\r\n\r\n")


def test_a_job_at_a_url_is_looked_for_in_this_folder(tmp_path: Path) -> None:
    ended = batches(tmp_path, "status", "s3://bucket/reviews/")
    assert ended.code == ExitCode.INPUT
    assert "the job of s3://bucket/reviews/ is not in reviews.job" in ended.err
    secret = batches(tmp_path, "status", f"s3://{KEY_ID}:{SECRET}@bucket/reviews/")
    assert secret.code == ExitCode.INPUT
    assert SECRET not in secret.err
