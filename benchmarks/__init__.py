"""How fast the package is, beside the official SDK and beside what the machine can do at all.

    python -m benchmarks [name ...] [--quick]

Knows the package from its outside, as a user does. Each module named in `MEASURES` is one
measure: its cases, its contenders and what they are to reach. A contender is a function in
`benchmarks.contenders`, run in a process of its own by `benchmarks.child`; `benchmarks.runner`
starts these processes in turn, and `benchmarks.table` judges and prints.
"""

from __future__ import annotations

#: The measures, in the order in which they are made: each a module of this package.
MEASURES = (
    "decode",
    "end_to_end",
    "create",
    "create_file",
    "download",
    "long_line",
    "waits",
    "imports",
)
