"""Benchmarks of this package, beside the official SDK and the least possible work.

    python -m benchmarks [name ...] [--quick]

`README.md` beside this file explains the measures and the printed tables. Each module named in
`MEASURES` defines one measure: its cases, contenders and goals. A contender is a function in
`benchmarks.contenders`. `benchmarks.runner` runs each contender in its own process, whose entry
point is `benchmarks.child`. `benchmarks.table` and `benchmarks.comparison` format the results.

The benchmarks use only public names of the package, as a user would.
"""

from __future__ import annotations

#: The modules that define a measure, in the order in which they run.
MEASURES = (
    "decode",
    "end_to_end",
    "create",
    "create_file",
    "download",
    "jobs",
    "long_line",
    "waits",
    "imports",
)
