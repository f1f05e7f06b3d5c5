"""The examples and the driver of the docs, run as a user runs them: what they have in common."""

from __future__ import annotations

import ast
import json
import re
import unicodedata
from collections import Counter
from pathlib import Path

import pytest

from batches_core.emulator import Emulator, FaultPlan
from tests.support.playbook import batch_json, result_line
from tests.support.scripted import close, raw, reply, scripted
from tests.support.stalling import CHUNKED_HEAD, StallingPeer
from transports.emulator import running_emulator

from .running import (
    EXAMPLES,
    FULL_DISK,
    REQUESTS,
    ROOT,
    assert_failed,
    batches_of,
    interrupt,
    run,
    running,
    service,
    wait_for_line,
    wait_until,
)

#: The scripts that write one file of results for one file of requests.
SCRIPTS = ["httpx_sync.py", "httpx_async.py", "trio_batches.py", "h11_batches.py"]

each = pytest.mark.parametrize("script", SCRIPTS)


def imports_of(file: Path) -> set[str]:
    """Return the modules that a file imports."""
    nodes = [*ast.walk(ast.parse(file.read_bytes()))]
    plain = {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    return plain | {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}


def assert_tells_how_to_continue(script: str, text: str, batch_id: str) -> None:
    """Check that a script that stopped half-way named its batch, or needs no name."""
    how = {
        "httpx_async.py": f"continue with {batch_id}",
        "h11_batches.py": "run the same command again",
    }
    assert how.get(script, f"continue with --batch {batch_id}") in text


def continuing(script: str, batch_id: str) -> list[object]:
    """Return the arguments that continue with a batch."""
    match script:
        case "httpx_async.py":
            return [batch_id]
        case "h11_batches.py":
            return [REQUESTS]
        case _:
            return ["--batch", batch_id]


def results_in(folder: Path) -> Counter[str]:
    """Count the results in a folder's only file of them by type, once they are seen to be all."""
    (file,) = folder.glob("*results*.jsonl")
    items = [json.loads(line) for line in file.read_bytes().splitlines()]
    asked = [json.loads(line)["custom_id"] for line in REQUESTS.read_bytes().splitlines()]
    assert sorted(item["custom_id"] for item in items) == sorted(asked)
    return Counter(item["result"]["type"] for item in items)


@each
def test_without_a_key_an_emulator_invents_the_answers(script: str, tmp_path: Path) -> None:
    # No proxy of the environment may stand before the emulator, whatever its exceptions are.
    proxy = {"http_proxy": "http://127.0.0.1:9", "no_proxy": "example.test"}
    done = run(script, REQUESTS, cwd=tmp_path, **proxy)
    assert done.returncode == 0, done.stderr
    assert "ANTHROPIC_API_KEY is not set: an emulator invents the answers" in done.stderr
    assert "in_progress" in done.stderr
    assert "407 succeeded, 7 errored" in done.stdout
    assert results_in(tmp_path) == {"succeeded": 407, "errored": 7}


@each
def test_with_a_key_the_service_is_used(script: str, tmp_path: Path) -> None:
    with running_emulator(Emulator(speed=1e6, api_keys={"sk-example-key"})) as base_url:
        done = run(script, REQUESTS, cwd=tmp_path, **service(base_url))
        (batch,) = batches_of(base_url)
    assert done.returncode == 0, done.stderr
    assert "emulator" not in done.stderr
    assert batch.id in done.stderr
    assert "414 results in" in done.stdout
    assert results_in(tmp_path) == {"succeeded": 407, "errored": 7}


@each
def test_no_file_of_results_is_overwritten(script: str, tmp_path: Path) -> None:
    with running_emulator(Emulator(speed=1e6)) as base_url:
        run(script, REQUESTS, cwd=tmp_path, **service(base_url))
        (file,) = tmp_path.glob("*results*.jsonl")
        file.write_bytes(b"mine")
        (batch,) = batches_of(base_url)
        done = run(script, *continuing(script, batch.id), cwd=tmp_path, **service(base_url))
    assert_failed(done, f"{file.name} already exists", "move it away")
    assert file.read_bytes() == b"mine"
    assert [*tmp_path.glob("*results*")] == [file]


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.py")), ids=lambda file: file.stem)
def test_an_example_is_one_file(file: Path) -> None:
    assert not imports_of(file) & {other.stem for other in EXAMPLES.glob("*.py")}


def test_the_requests_file_holds_every_kind_of_request() -> None:
    requests = [json.loads(line) for line in REQUESTS.read_bytes().splitlines()]
    assert len(requests) >= 400
    params = [request["params"] for request in requests]
    for name in ("system", "tools", "tool_choice", "thinking", "stop_sequences", "metadata"):
        assert sum(name in each for each in params) >= 5
    assert sum(len(each["messages"]) > 2 for each in params) >= 20
    text = REQUESTS.read_text(encoding="utf-8")
    assert '"type":"image"' in text
    scripts = {unicodedata.name(letter, "?").split()[0] for letter in set(text)}
    assert scripts >= {
        "CJK",
        "HIRAGANA",
        "HANGUL",
        "ARABIC",
        "DEVANAGARI",
        "GREEK",
        "HEBREW",
        "THAI",
        "CYRILLIC",
    }
    assert max(len(line) for line in text.splitlines()) > 30_000


# --- mistakes ----------------------------------------------------------------------------

GOOD = '{"custom_id":"a","params":{}}'
BAD_FILES = {
    "empty": ("", "there are no requests"),
    "not json": (f"{GOOD}\n\n{{oops\n", "line 3: is not JSON"),
    "no object": (f"{GOOD}\n[]\n", "line 2: must be a JSON object"),
    "duplicate": (f"{GOOD}\n{GOOD}\n", "line 2, custom_id: 'a' is already the id of line 1"),
    "bad id": ('{"custom_id":"a b","params":{}}\n', "custom_id: 'a b' is not 1 to"),
    "no id": ('{"params":{}}\n', "custom_id: is missing"),
    "stream": ('{"custom_id":"a","params":{"stream":true}}', "params.stream: a batch cannot"),
}


@pytest.mark.parametrize(("content", "text"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_of_requests_is_an_error_that_names_the_line(
    content: str, text: str, tmp_path: Path
) -> None:
    (tmp_path / "requests.jsonl").write_text(content, encoding="utf-8")
    assert_failed(run("httpx_sync.py", "requests.jsonl", cwd=tmp_path), text)


@each
def test_several_bad_lines_are_all_named(script: str, tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text(f"no\n{GOOD}\nnot\n" + "bad\n" * 150, encoding="utf-8")
    done = run(script, "r.jsonl", cwd=tmp_path)
    assert done.returncode == 1
    lines = [line.strip() for line in done.stderr.splitlines()]
    assert any(line.startswith("line 1: is not JSON") for line in lines)
    assert any(line.startswith("line 3: is not JSON") for line in lines)
    assert lines[-1] == "… and 142 more"


@each
def test_a_missing_file_of_requests_is_an_error(script: str, tmp_path: Path) -> None:
    assert_failed(run(script, "no.jsonl", cwd=tmp_path), "No such file", "no.jsonl")


@each
def test_no_arguments_are_a_mistake_in_usage(script: str, tmp_path: Path) -> None:
    done = run(script, cwd=tmp_path)
    assert done.returncode == 2
    assert "usage:" in done.stderr


@each
def test_a_key_with_a_line_break_is_an_error_that_does_not_show_it(
    script: str, tmp_path: Path
) -> None:
    done = run(script, REQUESTS, cwd=tmp_path, ANTHROPIC_API_KEY="sk-secret\n")
    assert_failed(done, "line break")
    assert "sk-secret" not in done.stderr + done.stdout


@each
def test_a_wrong_key_is_an_error_that_does_not_show_it(script: str, tmp_path: Path) -> None:
    with running_emulator(Emulator(api_keys={"right"})) as base_url:
        done = run(script, REQUESTS, cwd=tmp_path, **service(base_url, "sk-secret-wrong"))
    assert_failed(done, "401", "check the API key")
    assert "sk-secret" not in done.stderr + done.stdout


@each
def test_an_unreachable_service_is_an_error_that_names_the_host(
    script: str, tmp_path: Path
) -> None:
    with scripted() as served:
        gone = served.base_url
    done = run(script, REQUESTS, cwd=tmp_path, **service(gone))
    assert_failed(done, gone.removeprefix("http://"), "check base_url")


@each
def test_a_bad_base_url_is_an_error_that_names_its_variable(script: str, tmp_path: Path) -> None:
    done = run(script, REQUESTS, cwd=tmp_path, **service("127.0.0.1:9"))
    assert_failed(done, "error: ANTHROPIC_BASE_URL cannot be used")


@pytest.mark.parametrize("script", [each for each in SCRIPTS if each != "h11_batches.py"])
def test_an_existing_batch_cannot_be_continued_without_a_key(script: str, tmp_path: Path) -> None:
    done = run(script, *continuing(script, "msgbatch_1"), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "set ANTHROPIC_API_KEY" in done.stderr


# --- interruptions -----------------------------------------------------------------------


@each
def test_a_full_disk_is_an_error_after_which_the_download_continues(
    script: str, tmp_path: Path
) -> None:
    with running_emulator(Emulator(speed=1e6)) as base_url:
        before = FULL_DISK % 50_000
        full = run(script, REQUESTS, cwd=tmp_path, before=before, **service(base_url))
        (batch,) = batches_of(base_url)
        (part,) = tmp_path.glob("*results*.part")
        kept = part.read_bytes()
        done = run(script, *continuing(script, batch.id), cwd=tmp_path, **service(base_url))
        assert len(batches_of(base_url)) == 1
    assert_failed(full, "File too large")
    assert_tells_how_to_continue(script, full.stderr, batch.id)
    assert done.returncode == 0, done.stderr
    assert results_in(tmp_path) == {"succeeded": 407, "errored": 7}
    (file,) = tmp_path.glob("*results*.jsonl")
    assert file.read_bytes().startswith(kept[: kept.rindex(b"\n") + 1])


@each
def test_results_that_break_off_are_an_error_and_what_was_received_is_kept(
    script: str, tmp_path: Path
) -> None:
    a, b = result_line("a"), result_line("b")
    batch = batch_json(status="ended", results_url="/results", request_counts={"succeeded": 2})
    ended = reply(json.dumps(batch).encode())
    (tmp_path / "r").write_text('{"custom_id":"a","params":{}}\n{"custom_id":"b","params":{}}')
    broken = reply(a + b, cut=len(a) + 9)
    with scripted(ended, ended, broken, close, raw(keep=False)) as served:
        done = run(script, "r", cwd=tmp_path, **service(served.base_url))
    assert_failed(done, "check the network")
    assert "the results were interrupted after 1 items" in done.stderr
    assert_tells_how_to_continue(script, done.stderr, batch["id"])
    (part,) = tmp_path.glob("*results*.part")
    assert part.read_bytes() == a


@each
def test_ctrl_c_ends_a_wait_and_the_batch_can_be_continued(script: str, tmp_path: Path) -> None:
    with running_emulator(Emulator(seconds_per_request=3600)) as base_url:
        with running(script, REQUESTS, cwd=tmp_path, **service(base_url)) as process:
            text = wait_for_line(process, "in_progress") + interrupt(process)
        (batch,) = batches_of(base_url)
    assert process.returncode == 130
    assert "interrupted" in text
    assert "Traceback" not in text
    assert batch.processing_status == "in_progress"
    assert_tells_how_to_continue(script, text, batch.id)


@each
def test_ctrl_c_during_a_create_says_that_a_batch_may_exist(script: str, tmp_path: Path) -> None:
    emulator = Emulator(speed=1e6, faults=FaultPlan("create:delay=30"))
    with (
        running_emulator(emulator) as base_url,
        running(script, REQUESTS, cwd=tmp_path, **service(base_url)) as process,
    ):
        wait_until(lambda: bool(batches_of(base_url)))
        text = interrupt(process)
    assert process.returncode == 130
    assert "Traceback" not in text
    assert "it is not known whether the batch of 414 requests was created" in text


# --- embedding ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "pattern"),
    [
        ("embed_asyncio.py", r"ResultsReceived\(items=\[ResultItem\(custom_id='sea-"),
        ("embed_selectors.py", r"100 batches, 100 results, [\d.]+ s, one thread"),
        ("embed_threads.py", r"thread 7: 5 results of msgbatch_"),
    ],
)
def test_an_embedding_runs_its_batches_to_their_results(
    script: str, pattern: str, tmp_path: Path
) -> None:
    alone = run(script, cwd=tmp_path)
    assert (alone.returncode, alone.stderr) == (0, "")
    assert "an emulator invents the answers" in alone.stdout
    assert re.search(pattern, alone.stdout)
    with running_emulator(Emulator(speed=1e6)) as base_url:
        done = run(script, cwd=tmp_path, **service(base_url))
    assert (done.returncode, done.stderr) == (0, "")
    assert "an emulator" not in done.stdout
    assert re.search(pattern, done.stdout)


def test_an_embedding_that_speaks_plain_http_sends_no_key_to_the_service(tmp_path: Path) -> None:
    done = run("embed_selectors.py", cwd=tmp_path, ANTHROPIC_API_KEY="sk-example-key")
    assert_failed(done, "this speaks plain http")


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("embed_*.py")), ids=lambda file: file.stem)
def test_an_embedding_uses_no_transport(file: Path) -> None:
    used = {name for name in imports_of(file) if name.startswith("transports")}
    assert used == {"transports.emulator"}


# --- the README, and the driver of the docs ----------------------------------------------

README = (ROOT / "README.md").read_text(encoding="utf-8")
EMBEDDING = (ROOT / "docs" / "how-to" / "embed.md").read_text(encoding="utf-8")
DRIVER = re.findall(r"```python title=\"driver.py\"\n(.*?)```", EMBEDDING, re.DOTALL)[0]


def test_two_commands_set_everything_up() -> None:
    commands = [line for line in README.splitlines() if line.startswith("python3 -m venv ")]
    assert len(commands) == 2
    assert commands[0].endswith("batches run examples/requests.jsonl -o answers/ --emulator")
    assert commands[1].endswith(".venv/bin/pytest --cov")


def test_the_driver_of_the_docs_drives(tmp_path: Path) -> None:
    (tmp_path / "driver.py").write_text(DRIVER, encoding="utf-8")
    program = """
import os, sys
from driver import drive
from batches_core import *
base_url = os.environ["ANTHROPIC_BASE_URL"]
api = BatchesAPI(api_key="k", base_url=base_url, retry=RetryPolicy(attempts=2))
params = {"model": "claude-t", "max_tokens": 9, "messages": [{"role": "user", "content": "?"}]}
requests = [{"custom_id": "a", "params": params}]
batch = drive(api.create(requests))
batch = drive(api.wait_for(batch.id, poll_interval=0.05), lambda event: None)
drive(api.results_stream(batch), lambda event: print(event.items[0].custom_id))
try:
    drive(api.get("none"))
except NotFoundError:
    print("not found")
try:
    drive(BatchesAPI(api_key="k", base_url="http://127.0.0.1:9").create(requests))
except TransportError as error:
    print(type(error).__name__, error.sent)
"""
    (tmp_path / "program.py").write_text(program, encoding="utf-8")
    with running_emulator(Emulator(speed=1e6)) as base_url:
        done = run(str(tmp_path / "program.py"), cwd=tmp_path, **service(base_url))
    # What is not printed here is printed by the driver: an event.
    lines = [line for line in done.stdout.splitlines() if "(" not in line]
    assert (done.returncode, done.stderr) == (0, "")
    assert lines == ["a", "not found", "TransportError False"]


#: A program's last lines, by the driver that it tries: they carry out ``operation``.
DRIVERS = {
    "docs": "from driver import drive; drive(operation)",
    "embed_asyncio": "import asyncio, embed_asyncio as e; asyncio.run(e.drive(operation, print))",
    "embed_threads": "import embed_threads as e; e.drive(operation)",
    "embed_selectors": "import embed_selectors as e; e.run([e.BatchTask(iter([operation]))])",
}


@pytest.mark.parametrize("drips", [False, True], ids=["silent", "dripping"])
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_driver_leaves_a_poll_that_outlasts_the_deadline(
    driver: str, tmp_path: Path, *, drips: bool
) -> None:
    (tmp_path / "driver.py").write_text(DRIVER, encoding="utf-8")
    program = f"""
import os, sys
sys.path.append({str(EXAMPLES)!r})
from batches_core import *
api = BatchesAPI(api_key="k", base_url=os.environ["ANTHROPIC_BASE_URL"])
operation = api.wait_for("msgbatch_1", timeout=0.3)
try:
    {DRIVERS[driver]}
except WaitTimeoutError:
    print("in time")
"""
    (tmp_path / "program.py").write_text(program, encoding="utf-8")
    peer = StallingPeer()
    with scripted(peer.drip(CHUNKED_HEAD % 200) if drips else peer.silence()) as served:
        done = run(str(tmp_path / "program.py"), cwd=tmp_path, **service(served.base_url))
        assert peer.client_left.wait(30)
    assert done.stdout.splitlines()[-1:] == ["in time"], done.stderr
