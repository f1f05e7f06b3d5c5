"""Tests of shared storage: files appear whole, and no name is ever stored twice."""

from __future__ import annotations

import io
import os
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from obstore.store import LocalStore, MemoryStore

from batches_core import InvalidInputError
from batches_jobs import ObjectStoreError, StorageError
from batches_jobs._storage.store_failures import failure_of
from batches_jobs.storage import FolderStorage, ObjectStorage, Storage, open_storage
from tests.support.s3 import KEY_ID, SECRET, S3Server, running_s3


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with running_s3() as server:
        server.make_bucket("bucket")
        yield server


@pytest.fixture(params=["folder", "memory", "local", "s3"])
def storage(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Storage:
    if request.param == "folder":
        return FolderStorage(tmp_path / "storage")
    if request.param == "memory":
        return ObjectStorage(MemoryStore())
    if request.param == "s3":
        return open_s3(request.getfixturevalue("s3"), monkeypatch, f"bucket/{tmp_path.name}")
    (tmp_path / "storage").mkdir()
    return ObjectStorage(LocalStore(tmp_path / "storage"))


def open_s3(server: S3Server, monkeypatch: pytest.MonkeyPatch, place: str) -> Storage:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return open_storage(f"s3://{place}")


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_a_stored_file_can_be_fetched_and_read(storage: Storage, tmp_path: Path) -> None:
    storage.put("job/input", write(tmp_path / "a", b"one\ntwo\nthree\n"))
    assert storage.has("job/input")
    storage.fetch("job/input", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"one\ntwo\nthree\n"
    with storage.open("job/input") as file:
        file.seek(4)
        assert file.readline() == b"two\n"
        assert file.read(3) == b"thr"
        file.seek(-3, io.SEEK_CUR)
        assert file.read() == b"three\n"


def test_a_name_is_stored_once(storage: Storage, tmp_path: Path) -> None:
    assert storage.put_new("job/raw", write(tmp_path / "a", b"first"))
    assert not storage.put_new("job/raw", write(tmp_path / "b", b"second"))
    storage.put("job/raw", tmp_path / "b")
    storage.fetch("job/raw", tmp_path / "c")
    assert (tmp_path / "c").read_bytes() == b"first"


def test_one_of_many_writers_stores_its_file(storage: Storage, tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{number}", b"%d" % number * 100_000) for number in range(8)]
    stored: list[Path] = []

    def store(path: Path) -> None:
        if storage.put_new("job/raw", path):
            stored.append(path)

    threads = [threading.Thread(target=store, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = stored
    storage.fetch("job/raw", tmp_path / "fetched")
    assert (tmp_path / "fetched").read_bytes() == winner.read_bytes()
    assert not list(tmp_path.rglob("*.part"))


def test_a_file_of_a_fixed_name_is_replaced(storage: Storage, tmp_path: Path) -> None:
    for data in (b"first", b"the second, which is longer", b""):
        file = io.BytesIO(data)
        file.read()  # it is stored from its beginning wherever it is
        storage.replace("results/output.csv", file)
        storage.fetch("results/output.csv", tmp_path / "fetched")
        assert (tmp_path / "fetched").read_bytes() == data
    assert not list(tmp_path.rglob("*.part"))


def test_a_large_file_replaces_another_in_parts(storage: Storage, tmp_path: Path) -> None:
    data = os.urandom(1024) * 12 * 1024
    storage.replace("output", io.BytesIO(b"small"))
    with write(tmp_path / "a", data).open("rb") as file:
        storage.replace("output", file)
    storage.fetch("output", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == data


def test_a_check_for_writing_stores_nothing(storage: Storage, tmp_path: Path) -> None:
    storage.check_writable("job/output")
    assert not storage.has("job/output")
    storage.put_new("job/output", write(tmp_path / "a", b"kept"))
    storage.check_writable("job/output")
    with storage.open("job/output") as file:
        assert file.read() == b"kept"
    assert not list(tmp_path.rglob("*.part"))


def test_a_folder_that_cannot_be_written_fails_the_check(tmp_path: Path) -> None:
    write(tmp_path / "file", b"")
    storage = FolderStorage(tmp_path / "file")
    with pytest.raises(StorageError, match="File exists"):
        storage.check_writable("output")
    with pytest.raises(StorageError, match="File exists"):
        storage.replace("output", io.BytesIO())
    with pytest.raises(StorageError, match="File exists"):
        storage.put_new("output", tmp_path / "file")


def test_a_check_of_a_bucket_leaves_no_upload(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_s3(s3, monkeypatch, "bucket").check_writable("output")
    assert s3.uploads("bucket") == 0


def test_a_missing_bucket_is_an_error_and_not_a_missing_file(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    storage = open_s3(s3, monkeypatch, "nothing")
    file = write(tmp_path / "a", b"data")
    for store in (
        lambda: storage.check_writable("output"),
        lambda: storage.replace("output", io.BytesIO(b"data")),
        lambda: storage.put_new("output", file),
        lambda: storage.put("output", file),
    ):
        with pytest.raises(ObjectStoreError, match="404 Not Found, NoSuchBucket") as caught:
            store()
        assert not caught.value.passes


def test_an_error_of_a_bucket_shows_no_part_of_a_credential(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = open_s3(s3, monkeypatch, "bucket")
    with s3.refusing(), pytest.raises(ObjectStoreError) as caught:
        storage.check_writable("output")
    error = caught.value
    assert (error.reason, error.passes) == ("403 Forbidden, InvalidAccessKeyId", False)
    assert error.__cause__ is None
    assert error.__suppress_context__
    assert not {KEY_ID, SECRET} & {*str(error).split()}
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - just made
    assert (str(copy), copy.reason, copy.passes) == (str(error), error.reason, error.passes)


S3_ERROR = "Generic S3 error: Error performing PUT http://u:p@host:9/b?X-Sig=secret in 3ms"
ANSWERED = f"{S3_ERROR} - Server returned non-2xx status code:"


@pytest.mark.parametrize(
    ("text", "reason", "passes"),
    [
        (
            f"{S3_ERROR}, after 2 retries - HTTP error: error sending request",
            "no answer from host:9",
            True,
        ),
        (
            f"{ANSWERED} 503 Service Unavailable: <Error><Code>SlowDown</Code>secret</Error>",
            "503 Service Unavailable, SlowDown",
            True,
        ),
        (
            f"{ANSWERED} 400 Bad Request: <Code>ExpiredToken</Code><Token-0>secret</Token-0>",
            "400 Bad Request, ExpiredToken",
            False,
        ),
        (
            f"{S3_ERROR} - Received redirect, this indicates an incorrectly configured region",
            "Received redirect, this indicates an incorrectly configured region",
            False,
        ),
        (
            "Generic X error: cannot use https://user:secret@host/path?sig=secret now",
            "cannot use https://host/path now",
            False,
        ),
    ],
)
def test_a_failure_is_told_in_a_few_known_words(text: str, reason: str, *, passes: bool) -> None:
    assert failure_of(f"{text}\n\nDebug source:\nsecret") == (reason, passes)


def test_missing_credentials_are_told_from_a_network_that_failed() -> None:
    text = "Error performing PUT http://169.254.169.254/latest in 9s - HTTP error: timed out"
    reason, passes = failure_of(text)
    assert reason.startswith("no credentials were found: set the variables of the store")
    assert not passes


def test_a_name_that_is_not_stored_is_not_found(storage: Storage, tmp_path: Path) -> None:
    assert not storage.has("job/raw")
    with pytest.raises(FileNotFoundError):
        storage.fetch("job/raw", tmp_path / "a")
    with pytest.raises(FileNotFoundError), storage.open("job/raw"):
        pass
    assert not list(tmp_path.rglob("*.part"))


def test_a_path_is_a_folder_and_a_url_is_a_bucket(tmp_path: Path) -> None:
    assert isinstance(open_storage(tmp_path), FolderStorage)
    assert isinstance(open_storage(f"file://{tmp_path}"), FolderStorage)
    assert isinstance(open_storage("memory:///"), ObjectStorage)
    assert isinstance(open_storage("s3://bucket/prefix", region="eu-west-1"), ObjectStorage)
    with pytest.raises(InvalidInputError, match=r"nothing://here is no storage .*s3://bucket"):
        open_storage("nothing://here")
    (tmp_path / "a b").mkdir()
    assert repr(open_storage((tmp_path / "a b").as_uri())) == repr(FolderStorage(tmp_path / "a b"))


@pytest.mark.parametrize(
    "url",
    [
        "s3://user:secret@bucket/",
        "s3://secret@bucket/",
        "https://account.blob.core.windows.net/container/?sig=secret",
        "s3://bucket/#secret",
        "abfss://container:secret@account.dfs.core.windows.net/",
        "s3://[secret/",
    ],
)
def test_a_url_with_a_credential_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        open_storage(url)
    assert "secret" not in str(caught.value)
    assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_a_file_url_of_another_machine_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="file://host/path is on another machine"):
        open_storage("file://host/path")


@pytest.mark.parametrize("name", ["", "/etc/passwd", "job/../../a"])
def test_a_name_stays_in_its_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="is no name in the storage"):
        FolderStorage(tmp_path).has(name)
