"""The examples and the README, run as a user runs them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import unicodedata
from collections import Counter
from pathlib import Path

import pytest

from batches_core.emulator import Emulator
from tests.support.playbook import batch_json, result_line
from tests.support.scripted import close, raw, reply, scripted
from tests.support.stalling import CHUNKED_HEAD, StallingPeer
from transports.emulator import running_emulator

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
REQUESTS = EXAMPLES / "requests.jsonl"
SCRIPTS = ["httpx_sync.py", "httpx_async.py", "trio_batches.py", "h11_batches.py"]

each = pytest.mark.parametrize("script", SCRIPTS)


def run(
    script: str, *arguments: object, cwd: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if "ANTHROPIC" not in name}
    return subprocess.run(  # noqa: S603 - this interpreter, our own scripts
        [sys.executable, "-W", "error", str(EXAMPLES / script), *map(str, arguments)],
        cwd=cwd,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def service(base_url: str, key: str = "sk-example-key") -> dict[str, str]:
    return {"ANTHROPIC_API_KEY": key, "ANTHROPIC_BASE_URL": base_url}


def assert_one_clear_line(done: subprocess.CompletedProcess[str], *told: str) -> None:
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    for text in told:
        assert text in done.stderr


@each
def test_the_main_job_against_the_emulator(script: str, tmp_path: Path) -> None:
    done = run(script, REQUESTS, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "ANTHROPIC_API_KEY is not set: using an emulator" in done.stdout
    assert "in_progress" in done.stdout
    assert "until it expires" in done.stdout
    assert "407 succeeded, 7 errored" in done.stdout
    assert re.search(r"tokens: [\d,]+ in, [\d,]+ out", done.stdout)
    assert "invalid-model: not_found_error: model: clever-model-1" in done.stdout
    (results,) = tmp_path.glob("results-msgbatch_*.jsonl")
    items = [json.loads(line) for line in results.read_bytes().splitlines()]
    asked = [json.loads(line)["custom_id"] for line in REQUESTS.read_bytes().splitlines()]
    assert sorted(item["custom_id"] for item in items) == sorted(asked)
    assert Counter(item["result"]["type"] for item in items) == {"succeeded": 407, "errored": 7}


@each
def test_the_main_job_against_a_service_of_the_environment(script: str, tmp_path: Path) -> None:
    with running_emulator(Emulator(speed=1e6, api_keys={"sk-example-key"})) as base_url:
        done = run(script, REQUESTS, "--results", "out.jsonl", cwd=tmp_path, **service(base_url))
        assert (done.returncode, done.stderr) == (0, "")
        assert "emulator" not in done.stdout
        batch_id = re.search(r"created (\S+) with 414 requests", done.stdout)
        assert batch_id is not None
        first = (tmp_path / "out.jsonl").read_bytes()
        assert first.count(b"\n") == 414
        # And once more, without creating anything.
        again = run(script, "--batch", batch_id[1], cwd=tmp_path, **service(base_url))
        assert "going on with" in again.stdout
        (results,) = tmp_path.glob("results-*.jsonl")
        assert results.read_bytes() == first
        # A third time: nothing that is there is overwritten.
        assert (
            run(script, "--batch", batch_id[1], cwd=tmp_path, **service(base_url)).returncode == 0
        )
        assert len(list(tmp_path.glob("results-*.jsonl"))) == 2


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("embed_asyncio.py", r"ResultsReceived\(items=\[ResultItem\(custom_id='sea-"),
        ("embed_selectors.py", r"100 batches, 100 results, [\d.]+ s, one thread"),
        ("embed_threads.py", r"job 7: 5 results of msgbatch_"),
    ],
)
def test_the_embeddings(script: str, told: str, tmp_path: Path) -> None:
    alone = run(script, cwd=tmp_path)
    assert (alone.returncode, alone.stderr) == (0, "")
    assert re.search(told, alone.stdout)
    with running_emulator(Emulator(speed=100)) as base_url:
        done = run(script, cwd=tmp_path, **service(base_url))
    assert (done.returncode, done.stderr) == (0, "")
    assert "using an emulator" not in done.stdout
    assert re.search(told, done.stdout)


def test_the_embedding_in_asyncio_uses_no_transport() -> None:
    text = (EXAMPLES / "embed_asyncio.py").read_text(encoding="utf-8")
    assert "transports" not in text


def test_the_requests_are_varied() -> None:
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
    "not json": (f"{GOOD}\n\n{{oops\n", "requests.jsonl:3: is not JSON"),
    "no object": (f"{GOOD}\n[]\n", "requests.jsonl:2: must be a JSON object"),
    "duplicate": (
        f"{GOOD}\n{GOOD}\n",
        "requests.jsonl:2: custom_id 'a' is already the id of requests.0",
    ),
    "bad id": (
        '{"custom_id":"a b","params":{}}\n',
        "requests.jsonl:1: custom_id 'a b' is not 1 to",
    ),
    "no id": ('{"params":{}}\n', "requests.jsonl:1: custom_id is missing"),
    "stream": ('{"custom_id":"a","params":{"stream":true}}', ":1: params.stream a batch cannot"),
}


@each
@pytest.mark.parametrize(("content", "told"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_is_a_line_and_not_a_traceback(
    script: str, content: str, told: str, tmp_path: Path
) -> None:
    (tmp_path / "requests.jsonl").write_text(content, encoding="utf-8")
    assert_one_clear_line(run(script, "requests.jsonl", cwd=tmp_path), told)


@each
def test_every_problem_of_a_file_has_its_line(script: str, tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text(f"no\n{GOOD}\nnot\n" + "bad\n" * 150, encoding="utf-8")
    done = run(script, "r.jsonl", cwd=tmp_path)
    lines = done.stderr.splitlines()
    assert lines[0].startswith("r.jsonl:1: is not JSON")
    assert lines[1].startswith("r.jsonl:3: is not JSON")
    assert lines[-1] == "… and 52 more"


@each
def test_a_file_that_is_not_there_and_no_file_at_all(script: str, tmp_path: Path) -> None:
    assert_one_clear_line(run(script, "no.jsonl", cwd=tmp_path), "No such file", "no.jsonl")
    none = run(script, cwd=tmp_path)
    assert none.returncode == 2
    assert "usage:" in none.stderr


@each
def test_a_key_with_a_line_break(script: str, tmp_path: Path) -> None:
    done = run(script, REQUESTS, cwd=tmp_path, ANTHROPIC_API_KEY="sk-secret\n")
    assert_one_clear_line(done, "line break")
    assert "sk-secret" not in done.stderr + done.stdout


@each
def test_a_wrong_key(script: str, tmp_path: Path) -> None:
    with running_emulator(Emulator(api_keys={"right"})) as base_url:
        done = run(script, REQUESTS, cwd=tmp_path, **service(base_url, "sk-secret-wrong"))
    assert_one_clear_line(done, "401", "check the API key")
    assert "sk-secret" not in done.stderr + done.stdout


@each
def test_a_host_that_cannot_be_reached(script: str, tmp_path: Path) -> None:
    with scripted() as served:
        gone = served.base_url
    done = run(script, REQUESTS, cwd=tmp_path, **service(gone))
    assert_one_clear_line(done, "127.0.0.1", "was not sent completely", "check base_url")


@each
def test_an_html_502(script: str, tmp_path: Path) -> None:
    with scripted(reply(b"<html>Bad Gateway</html>", 502)) as served:
        done = run(script, REQUESTS, cwd=tmp_path, **service(served.base_url))
    assert_one_clear_line(done, "not known whether the batch", "502", "settle()")


@each
def test_a_body_that_stops_half_way_leaves_what_was_written(script: str, tmp_path: Path) -> None:
    a, b = result_line("a"), result_line("b")
    batch = batch_json(status="ended", results_url="/results", request_counts={"succeeded": 2})
    ended = json.dumps(batch).encode()
    with scripted(
        reply(ended), reply(ended), reply(a + b, cut=len(a) + 9), close, raw(keep=False)
    ) as served:
        done = run(
            script,
            "--batch",
            "msgbatch_1",
            "--results",
            "r",
            cwd=tmp_path,
            **service(served.base_url),
        )
    assert_one_clear_line(done, "check the network", "go on with --batch msgbatch_1")
    assert "broke off after 1 results" in done.stdout
    assert json.loads((tmp_path / "r").read_bytes())["custom_id"] == "a"


@each
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((REQUESTS, "--results", REQUESTS), "is there already"),
        ((REQUESTS, "--results", "/no/such/folder/r"), "cannot be written there"),
        (("--batch", "msgbatch_1"), "set ANTHROPIC_API_KEY"),
    ],
)
def test_what_would_go_wrong_at_the_end_is_told_at_the_start(
    script: str, arguments: tuple[object, ...], told: str, tmp_path: Path
) -> None:
    done = run(script, *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr


@each
def test_a_full_disk_is_told_with_the_way_to_go_on(script: str, tmp_path: Path) -> None:
    with running_emulator(Emulator(speed=1e6)) as base_url:
        done = run(script, REQUESTS, "--results", "/dev/full", cwd=tmp_path, **service(base_url))
    assert_one_clear_line(done, "No space left on device", "go on with --batch msgbatch_")


@each
def test_a_base_url_of_the_environment_is_called_by_its_variable(
    script: str, tmp_path: Path
) -> None:
    done = run(script, REQUESTS, cwd=tmp_path, **service("127.0.0.1:9"))
    assert_one_clear_line(done, "error: ANTHROPIC_BASE_URL cannot be used")


@each
def test_a_proxy_of_the_environment_does_not_stand_before_the_emulator(
    script: str, tmp_path: Path
) -> None:
    done = run(script, REQUESTS, cwd=tmp_path, HTTP_PROXY="http://127.0.0.1:9")
    assert (done.returncode, done.stderr) == (0, "")


@each
def test_an_interrupt_says_how_to_go_on(script: str, tmp_path: Path) -> None:
    slow = Emulator(seconds_per_request=3600)
    with running_emulator(slow) as base_url:
        environment = {**os.environ, **service(base_url), "PYTHONUNBUFFERED": "1"}
        with subprocess.Popen(  # noqa: S603 - this interpreter, our own scripts
            [sys.executable, str(EXAMPLES / script), str(REQUESTS)],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            while "in_progress" not in process.stdout.readline():
                pass
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=20)
    assert process.returncode == 130
    assert re.fullmatch(r"interrupted; batch (\S+) is not lost: go on with --batch \1\n", told)


# --- the README --------------------------------------------------------------------------

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_two_commands_set_everything_up() -> None:
    commands = [line for line in README.splitlines() if line.startswith("python3 -m venv ")]
    assert len(commands) == 2
    assert "examples/httpx_sync.py examples/requests.jsonl" in commands[0]
    assert commands[1].endswith(".venv/bin/pytest --cov")


def test_the_first_program_of_the_readme_runs(tmp_path: Path) -> None:
    three = REQUESTS.read_bytes().splitlines()[:3]
    (tmp_path / "requests.jsonl").write_bytes(b"\n".join(three))
    (tmp_path / "program.py").write_text(BLOCKS[0], encoding="utf-8")
    with running_emulator(Emulator(speed=1e6)) as base_url:
        done = run(str(tmp_path / "program.py"), cwd=tmp_path, **service(base_url))
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 3


@pytest.mark.parametrize("block", BLOCKS)
def test_the_programs_of_the_readme_compile(block: str) -> None:
    compile(block, "README.md", "exec")


def test_the_driver_of_the_readme_drives(tmp_path: Path) -> None:
    (driver,) = [block for block in BLOCKS if "def drive(" in block]
    (tmp_path / "driver.py").write_text(driver, encoding="utf-8")
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
    "README": "from driver import drive; drive(operation)",
    "embed_asyncio": "import asyncio, embed_asyncio as e; asyncio.run(e.drive(operation, print))",
    "embed_threads": "import embed_threads as e; e.drive(operation)",
    "embed_selectors": "import embed_selectors as e; e.run([e.Job(iter([operation]))])",
}


@pytest.mark.parametrize("drips", [False, True], ids=["silent", "dripping"])
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_driver_leaves_a_poll_that_outlasts_the_deadline(
    driver: str, tmp_path: Path, *, drips: bool
) -> None:
    (block,) = [block for block in BLOCKS if "def drive(" in block]
    (tmp_path / "driver.py").write_text(block, encoding="utf-8")
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
