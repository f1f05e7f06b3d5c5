"""Runs the code blocks of a page in order, in one folder, beside an emulator."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from batches_core.emulator import Emulator
from transports.emulator import running_emulator

from .blocks import ROOT, Block

_INSTALLS = re.compile(r"^(?:\.venv/bin/)?pip install\b|^python3 -m venv\b")
_EXTRAS = re.compile(r"\[([a-z0-9,]+)\]")


class Walk:
    """The folder of a page, and the processes that its blocks leave running.

    The folder has a copy of the examples, and the files of `files` beside this module.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._printed = ""
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        self._extras = {*project["optional-dependencies"]}
        self._running = contextlib.ExitStack()
        shutil.copytree(ROOT / "examples", folder / "examples")
        shutil.copytree(Path(__file__).parent / "files", folder, dirs_exist_ok=True)
        self._environment = {
            name: value
            for name, value in os.environ.items()
            if "ANTHROPIC" not in name and not name.lower().endswith("_proxy")
        }
        self._environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self._environment["PYTHONWARNINGS"] = "error"

    def __enter__(self) -> Self:
        base_url = self._running.enter_context(running_emulator(Emulator(speed=1e6)))
        self._environment["ANTHROPIC_BASE_URL"] = base_url
        self._environment["ANTHROPIC_API_KEY"] = "sk-of-the-docs"
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def take(self, block: Block) -> None:
        """Run a block, or store or compare its text."""
        if block.language == "text" and block.title == "Output":
            assert self._printed.split() == block.text.split(), block.place
            return
        if block.title and block.language != "text":
            (self._folder / block.title).write_text(block.text, encoding="utf-8")
        if block.is_run:
            self._run(block)

    def _run(self, block: Block) -> None:
        command = self._command(block)
        if command is None:
            return
        if block.comment == "background":
            self._running.enter_context(self._background(command))
            return
        done = subprocess.run(  # noqa: S603 - the blocks of our own pages
            command,
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        shown = f"{block.place}\n{done.stdout}\n{done.stderr}"
        assert done.returncode == block.exit_code, shown
        self._printed = done.stdout

    def _command(self, block: Block) -> list[str] | None:
        if block.language == "python":
            if block.title.startswith("test_"):
                return [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", block.title]
            return [sys.executable, *([block.title] if block.title else ["-c", block.text])]
        lines = [self._without_installs(line, block) for line in block.text.splitlines()]
        text = "\n".join(line for line in lines if line)
        return ["bash", "-euo", "pipefail", "-c", text] if text else None

    def _without_installs(self, line: str, block: Block) -> str:
        """Return a line without the commands that install, whose extras must exist."""
        kept = []
        for command in line.split(" && "):
            if _INSTALLS.match(command):
                for extras in _EXTRAS.findall(command):
                    assert set(extras.split(",")) <= self._extras, block.place
            else:
                kept.append(command.removeprefix(".venv/bin/"))
        return " && ".join(kept)

    @contextlib.contextmanager
    def _background(self, command: list[str]) -> Iterator[None]:
        """Run a server until the end of the page. It is ready when it prints its first line."""
        # Without `exec` the signal would end only the shell.
        server = shlex.split(command[-1]) if command[0] == "bash" else command
        with subprocess.Popen(  # noqa: S603 - the blocks of our own pages
            server,
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                assert process.stdout is not None
                self._printed = process.stdout.readline()
                yield
            finally:
                process.kill()
