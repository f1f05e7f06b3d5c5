"""Tests of shared storage: files appear whole, and no name is ever stored twice."""

from __future__ import annotations

import io
import threading
from pathlib import Path

import pytest
from obstore.store import LocalStore, MemoryStore

from batches_core import InvalidInputError
from batches_jobs.storage import FolderStorage, ObjectStorage, Storage, open_storage


@pytest.fixture(params=["folder", "memory", "local"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "folder":
        return FolderStorage(tmp_path / "storage")
    if request.param == "memory":
        return ObjectStorage(MemoryStore())
    (tmp_path / "storage").mkdir()
    return ObjectStorage(LocalStore(tmp_path / "storage"))


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


@pytest.mark.parametrize("name", ["", "/etc/passwd", "job/../../a"])
def test_a_name_stays_in_its_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="is no name in the storage"):
        FolderStorage(tmp_path).has(name)
