"""Builds the sdist and the wheel, and checks both: ``python -m tools.distributions``.

Each is installed in a fresh virtual environment, without the checkout. There, each public module is
imported, and an example and jobs run. hatchling builds, as it does for pip.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
import venv
from pathlib import Path

from batches_core import __version__

ROOT = Path(__file__).parents[1]
EXTRAS = "cli,httpx,trio,asyncio"
#: The exit code of a job some of whose rows failed, as seven of the example's do.
FAILED_ROWS = 3

#: What a source distribution needs, to be worked on without the repository.
EXPECTED = (
    ".ci/run",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "benchmarks/README.md",
    "docs/index.md",
    "examples/h11_batches.py",
    "examples/requests.jsonl",
    "mkdocs.yml",
    "tests/docs/test_blocks.py",
    "tools/unasync.py",
)

#: Runs in the fresh environment. Its argument is a file of requests.
CHECK = """
import sys
from importlib.metadata import version
from pathlib import Path
import batches_core, batches_core.emulator, batches_core.jobs, batches_core.lowlevel
import batches_core_pytest, batches_jobs, transports.files
import transports.asyncio, transports.h11, transports.httpx, transports.trio
from batches_core.emulator import Emulator
from transports.emulator import running_emulator

assert version("batches-core") == batches_core.__version__, "the versions differ"
for package in (batches_core, batches_core_pytest, batches_jobs, transports):
    folder = Path(package.__file__).parent
    assert "site-packages" in folder.parts, f"{folder} is not the installed one"
    assert (folder / "py.typed").exists(), f"{folder} has no py.typed"
with running_emulator(Emulator(speed=1e6)) as base_url:
    with transports.h11.BatchesClient(api_key="any", base_url=base_url) as client:
        status = batches_jobs.run_job(client, sys.argv[1], "check.job")
assert status.is_finished, status
print(status.answered, "answered", status.failed, "failed")
"""


def main() -> int:
    """Build and check both distributions."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run([sys.executable, "-m", "hatchling", "build", "-d", str(folder / "dist")], ROOT)
        (sdist,) = (folder / "dist").glob("*.tar.gz")
        (wheel,) = (folder / "dist").glob("*.whl")
        with tarfile.open(sdist) as archive:
            archive.extractall(folder, filter="data")
        source = folder / f"batches_core-{__version__}"
        missing = [path for path in EXPECTED if not (source / path).exists()]
        if missing:
            print(f"{sdist.name} lacks {', '.join(missing)}: add them to pyproject.toml")
            return 1
        for distribution in (sdist, wheel):
            check(distribution, source, folder / f"of-{distribution.suffix[1:]}")
    return 0


def check(distribution: Path, source: Path, folder: Path) -> None:
    """Install a distribution in a fresh environment, and use it in an empty folder."""
    venv.create(folder / "venv", with_pip=True)
    python = str(folder / "venv" / "bin" / "python")
    run([python, "-m", "pip", "install", "-q", f"{distribution}[{EXTRAS}]", "pytest"], folder)
    requests = str(source / "examples" / "requests.jsonl")
    print(distribution.name, run([python, "-W", "error", "-c", CHECK, requests], folder).strip())
    run([python, str(source / "examples" / "h11_batches.py"), requests], folder)
    batches = str(folder / "venv" / "bin" / "batches")
    run([batches, "run", requests, "-o", "answers/", "--emulator"], folder, code=FAILED_ROWS)


def run(command: list[str], folder: Path, code: int = 0) -> str:
    """Run a command without the variables of a service; return what it prints to stdout.

    Raises:
        CalledProcessError: it ends with another exit code.
    """
    environment = {
        name: value
        for name, value in os.environ.items()
        if "ANTHROPIC" not in name and name != "PYTHONPATH"
    }
    done = subprocess.run(  # noqa: S603 - our own commands
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode != code:
        raise subprocess.CalledProcessError(done.returncode, command)
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
