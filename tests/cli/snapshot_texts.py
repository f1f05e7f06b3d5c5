"""The help texts and error texts of ``batches``, which are kept in files that a person has read.

``python -m tests.cli.snapshot_texts`` writes the files anew: read the difference before you commit.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click

from batches_core.emulator import Emulator
from batches_jobs._cli.main import cli, run
from transports.emulator import running_emulator

from .support import KEY, write_requests, write_table

FOLDER = Path(__file__).parent / "snapshots"
_QUESTION = "--model claude-haiku-4-5 --prompt 'Is it good? {review}'"
#: The commands whose messages are kept, in their order: each in the same folder. Those before the
#: job have no key.
_WITHOUT_KEY = (
    "frobnicate",
    "statsu",
    "run",
    "run missing.jsonl",
    "run .",
    "run reviews.csv",
    "run reviews.csv --prompt 'Is it good? {review}'",
    "run reviews.csv --model claude-haiku-4-5 --prompt 'Is it good? {revue}'",
    "run reviews.csv --model claude-haiku-4-5 --prompt 'Is it good? {review'",
    f"run reviews.csv {_QUESTION} --params '[1]'",
    f"run reviews.csv {_QUESTION} --system @missing.txt",
    "run in.jsonl --model claude-haiku-4-5",
    "run in.jsonl -o results.xlsx",
    "run in.jsonl --max-cost much",
    "run in.jsonl --chunk-rows 0",
    "run in.jsonl",
    "run bad.jsonl",
    "plan bad.jsonl",
    "plan twice.jsonl",
    "plan empty.jsonl",
    "plan in.jsonl",
    f"plan reviews.csv {_QUESTION} --max-tokens 20",
    "status",
    "status nothing.job",
    "status .",
    "remote list",
    "remote create reviews.csv",
    "remote create in.jsonl",
    "emulator --fault create:status=x",
    "run in.jsonl -o out/ --emulator --canary 2",
)
_WITH_KEY = (
    "run in.jsonl -o out/ --ask-above 0",
    "run in.jsonl -o out/ --poll-interval 0.05",
    "run in.jsonl -o out/ --poll-interval 0.05",
    "run in.jsonl -o out/ --poll-interval 0.05 --rounds 1",
    "run in.jsonl -o out/ --poll-interval 0.05 --emulator",
    "run reviews.csv --job out/job -o out/ " + _QUESTION,
    "run in.jsonl -o in.jsonl",
    "status",
    "watch out/ --quiet",
    "verify out/",
    "cost out/",
    "results out/ --select custom_id,txt",
    "results out/ --failed --answered",
    "results out/ --select custom_id,stop_reason --format csv -o stops.csv",
    "failed out/",
    "settle out/",
    "settle out/ --chunk 0",
    "settle out/ --chunk 0 --none",
    "settle out/ --batch msgbatch_1",
    "settle out/ --buy-again 7",
    "cancel out/",
    "resume in.jsonl",
    "remote get msgbatch_none",
    "remote delete msgbatch_none",
)


def help_texts() -> dict[str, str]:
    """Return the help of each verb by its name."""
    texts = {"batches": output("--help")[1]}
    for words in _verbs():
        texts[" ".join(("batches", *words))] = output(*words, "--help")[1]
    return texts


def message_texts() -> str:
    """Run the commands, and return what they write."""
    texts: list[str] = []
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        write_requests(Path("in.jsonl"), 4)
        write_table(Path("reviews.csv"), 3)
        Path("empty.jsonl").touch()
        Path("bad.jsonl").write_text('{"custom_id": "a b"}\nno JSON\n{"params": {}}\n', "utf-8")
        Path("twice.jsonl").write_text(Path("in.jsonl").read_text("utf-8") * 2, "utf-8")
        with running_emulator(Emulator(speed=1000)) as base_url:
            texts += (_transcript(line, base_url, {}) for line in _WITHOUT_KEY)
            keys = {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": base_url}
            texts += (_transcript(line, base_url, keys) for line in _WITH_KEY)
    return "\n".join(texts)


def output(*arguments: str, **variables: str) -> tuple[int, str, str]:
    """Run a command in this process, without a terminal; return its code, stdout and stderr."""
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.TextIOWrapper(io.BytesIO(), "utf-8")
    kept, stdin = os.environ.copy(), sys.stdin
    try:
        for name in [each for each in os.environ if each.startswith("ANTHROPIC_")]:
            del os.environ[name]
        os.environ |= {"COLUMNS": "100", **variables}
        sys.stdin = io.TextIOWrapper(io.BytesIO(), "utf-8")
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run(arguments)
    finally:
        sys.stdin = stdin
        os.environ.clear()
        os.environ.update(kept)
    return code, _text(out), _text(err)


def write() -> None:
    """Write all files anew."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in help_texts().items():
        help_file(name).write_text(text, "utf-8")
    (FOLDER / "messages.txt").write_text(message_texts(), "utf-8")


def help_file(name: str) -> Path:
    """Return the file with the help of a verb."""
    return FOLDER / f"{name.replace(' ', '-')}.txt"


def _verbs() -> Iterator[tuple[str, ...]]:
    context = click.Context(cli)
    for name in cli.list_commands(context):
        yield (name,)
        command = cli.get_command(context, name)
        if isinstance(command, click.Group):
            yield from ((name, inner) for inner in command.list_commands(context))


def _transcript(line: str, base_url: str, variables: dict[str, str]) -> str:
    code, out, err = output(*shlex.split(line), **variables)
    assert KEY not in out + err
    text = f"$ batches {line}\n{out}{err}[{int(code)}]\n"
    # A request's id depends on how often the job has polled.
    return re.sub(r"req_\w+", "req_1", text.replace(base_url, "http://emulator"))


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode()


if __name__ == "__main__":
    write()
