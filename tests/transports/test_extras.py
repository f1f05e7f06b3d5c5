"""What a user is told where a library is missing."""

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
    ("import transports.emulator", "h11", "ModuleNotFoundError h11 is not installed", "h11"),
    (
        "from transports.httpx import BatchesClient; BatchesClient(api_key='k')",
        "httpx,httpx2",
        "InvalidInputError neither httpx nor httpx2 is installed",
        "httpx",
    ),
]


@pytest.mark.parametrize(("code", "missing", "error", "extra"), MISSING, ids=str)
def test_a_missing_library_is_told_with_the_extra_that_brings_it(
    code: str, missing: str, error: str, extra: str
) -> None:
    done = subprocess.run(  # noqa: S603 - this interpreter, our own words
        [sys.executable, "-c", _IMPORT, code, missing], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{error}: pip install 'batches-core[{extra}]'\n"
