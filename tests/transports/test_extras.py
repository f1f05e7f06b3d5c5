"""The errors of modules whose library is not installed."""

from __future__ import annotations

import subprocess
import sys

import pytest

_IMPORT = """
import sys
for name in sys.argv[2].split(","):
    sys.modules[name] = None
try:
    exec(sys.argv[1])
except Exception as error:
    print(type(error).__name__, error)
"""

MISSING = [
    ("import transports.trio", "trio", "ModuleNotFoundError trio is not installed", "trio"),
    ("import transports.h11", "h11", "ModuleNotFoundError h11 is not installed", "h11"),
    (
        "import transports.asyncio",
        "h11",
        "ModuleNotFoundError h11 is not installed",
        "h11",
    ),
    ("import transports.emulator", "h11", "ModuleNotFoundError h11 is not installed", "h11"),
    (
        "from transports.httpx import BatchesClient; BatchesClient(api_key='k')",
        "httpx,httpx2",
        "InvalidInputError neither httpx nor httpx2 is installed",
        "httpx",
    ),
]


@pytest.mark.parametrize(
    ("code", "missing", "error", "extra"), MISSING, ids=lambda value: value.partition(";")[0]
)
def test_a_missing_library_raises_an_error_that_names_its_extra(
    code: str, missing: str, error: str, extra: str
) -> None:
    done = subprocess.run(  # noqa: S603 - this interpreter with fixed arguments
        [sys.executable, "-c", _IMPORT, code, missing], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{error}: pip install 'batches-core[{extra}]'\n"
