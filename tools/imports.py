"""Prints and checks the imports of each package: ``python -m tools.imports``.

There are two rules. A module imports only modules of lower layers, which `LAYERS` lists. And from
another package it imports only the modules that `DOORS` lists.

Both name a module by its path in the package, such as ``operations/create``. A name that ends in
``/``, such as ``models/``, is the ``__init__`` of a package; ``/`` alone is the package's own.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]

#: The layers of each package, the highest first. The packages are in the same order.
LAYERS: dict[str, list[list[str]]] = {
    "batches_jobs": [
        ["__main__", "_cli/run_verbs", "_cli/plan_verb", "_cli/look_verbs", "_cli/read_verbs"],
        ["_cli/decide_verbs", "_cli/remote_verbs", "_cli/other_verbs", "_cli/temporal_verbs"],
        ["_cli/main", "_cli/canary"],
        ["_cli/running", "_cli/inputs"],
        ["_cli/client", "_cli/planning", "_cli/progress"],
        ["_cli/endings", "_cli/failures", "_cli/progress_bar"],
        ["_cli/places", "_cli/prompts", "_cli/settings", "_cli/options"],
        ["_cli/outputs"],
        ["_cli/stored_output"],
        ["_cli/console", "_cli/signals", "_cli/json_file"],
        ["_cli/codes", "_cli/"],
        ["engines/temporal"],
        ["engines/_temporal/starting"],
        ["engines/_temporal/workflow", "engines/_temporal/account"],
        ["engines/_temporal/activities", "engines/_temporal/compact"],
        ["engines/_temporal/operations"],
        ["engines/_temporal/messages", "engines/_temporal/fence"],
        ["engines/_temporal/payloads", "engines/_temporal/waiting"],
        ["engines/_temporal/", "engines/"],
        ["storage"],
        ["_storage/input", "_storage/opening"],
        ["_storage/folder", "_storage/objects", "_storage/job_files"],
        ["_storage/interface", "_storage/store_failures"],
        ["_storage/"],
        ["/"],
        ["_runner/_async/run", "_runner/_sync/run"],
        ["_runner/_async/runner", "_runner/_sync/runner"],
        ["_runner/_async/client", "_runner/_sync/client"],
        ["_runner/workers"],
        [
            "_runner/interrupts",
            "_runner/stoppable",
            "_runner/_async/",
            "_runner/_sync/",
            "_runner/",
        ],
        ["_open", "_job_reader", "_decisions"],
        ["_status"],
        ["_report/page"],
        ["_report/chunk_chart", "_report/token_chart"],
        ["_report/facts", "_report/answers", "_report/svg", "_report/html"],
        ["_report/formats", "_report/style", "_report/"],
        ["_table/output"],
        ["_table/results_table", "_table/text_formats", "_table/parquet_format"],
        ["_table/answers", "_table/own_columns"],
        ["_table/columns", "_table/"],
        ["_inputs/opening", "_inputs/reopening", "_inputs/rows", "_inputs/checking"],
        ["_inputs/jsonl", "_inputs/spooled", "_inputs/parquet", "_inputs/table"],
        ["_inputs/source_cut"],
        ["_inputs/source_items", "_inputs/stored"],
        ["_inputs/sources"],
        ["_inputs/csv_rows", "_inputs/jsonl_rows", "_inputs/parquet_rows"],
        ["_inputs/chunk_file", "_inputs/cut"],
        ["_inputs/files", "_inputs/interface", "_inputs/request_ids", "_inputs/spool_file"],
        ["_inputs/"],
        ["_budget"],
        ["_results", "_estimate", "_template"],
        ["_merge", "_verify", "_cost"],
        ["_collect", "_row_lines", "_output_file", "_prices"],
        ["_result_lines", "_settled", "_usage"],
        ["_journal"],
        ["_folder"],
        ["_errors", "_cells"],
    ],
    "batches_core_pytest": [["/"]],
    "transports": [
        ["httpx", "h11", "trio", "asyncio", "emulator"],
        ["_emulator/command"],
        ["_emulator/server"],
        ["_emulator/connection"],
        ["_emulator/settings", "_emulator/targets", "_emulator/"],
        ["_http11/_async/client", "_http11/_sync/client", "_httpx/_async/client"],
        ["_httpx/_sync/client"],
        ["_http11/_async/transport", "_http11/_sync/transport"],
        ["_http11/_async/dialer", "_http11/_sync/dialer"],
        ["_http11/_async/stream", "_http11/_sync/stream"],
        ["_http11/sockets", "_http11/trio", "_http11/asyncio", "_http11/proxy"],
        ["_http11/pool"],
        ["_http11/connection"],
        ["_http11/framing", "_http11/tls", "_http11/_async/", "_http11/_sync/", "_http11/"],
        ["_httpx/_async/transport", "_httpx/_sync/transport"],
        ["_httpx/adapter", "_httpx/concurrency"],
        ["_httpx/progress"],
        ["_httpx/upload", "_httpx/_async/", "_httpx/_sync/", "_httpx/"],
        ["_client/_async/client", "_client/_sync/client"],
        ["_client/_async/iterators", "_client/_sync/iterators", "files"],
        ["_client/_async/driver", "_client/_sync/driver", "_files/requests_file"],
        ["_files/results_reader", "_files/results_file", "_files/"],
        ["_files/part", "_files/complete_file"],
        ["_files/locking", "_files/renaming", "_files/result_lines"],
        ["_client/logs", "_client/content_encoding", "_client/asyncio_threads"],
        ["_client/settings", "_client/environment", "_client/events", "_client/failures"],
        ["_client/bodies", "_client/differences", "_client/extras"],
        ["_client/_async/", "_client/_sync/", "_client/", "/"],
    ],
    "batches_core": [
        ["emulator/"],
        ["emulator/service"],
        ["emulator/endpoints"],
        ["emulator/access", "emulator/pages"],
        ["emulator/batch", "emulator/corruption", "emulator/fault_plan", "emulator/responses"],
        ["emulator/answers", "emulator/create_body", "emulator/fault_rules", "emulator/routes"],
        ["emulator/limits"],
        ["emulator/digest", "emulator/fault_text", "emulator/params", "emulator/refusals"],
        ["jobs/"],
        ["jobs/machine"],
        ["jobs/directives"],
        ["jobs/status"],
        ["jobs/operations", "jobs/state"],
        ["jobs/failure"],
        ["jobs/records", "jobs/plan"],
        ["/"],
        ["api", "lowlevel"],
        ["operations/create"],
        ["operations/results", "operations/settle"],
        ["operations/batch", "operations/listing", "operations/wait", "requests"],
        ["call", "operation", "operations/delivered", "request_checker"],
        ["context", "jsonl", "operations/ledger", "wrong_inputs"],
        ["decoding", "endpoint", "events", "exchange", "operations/"],
        ["marker", "message_types", "retry"],
        ["models/"],
        ["models/message"],
        ["http", "models/batch", "models/content", "models/result"],
        ["redaction", "urls", "validation", "models/base", "batch_request"],
        ["_version", "errors"],
    ],
}

#: The modules of each package that other packages may import. All others are private.
DOORS: dict[str, frozenset[str]] = {
    "batches_jobs": frozenset({"/", "engines/temporal", "storage"}),
    "batches_core_pytest": frozenset({"/"}),
    "transports": frozenset({"httpx", "h11", "trio", "asyncio", "files", "emulator"}),
    "batches_core": frozenset({"/", "lowlevel", "emulator/", "jobs/"}),
}


def modules(package: str) -> dict[str, Path]:
    """Return the files of a package by their name in `LAYERS`."""
    top = ROOT / package
    return {_name(path.relative_to(top)): path for path in sorted(top.rglob("*.py"))}


def imports(path: Path) -> set[str]:
    """Return the absolute names of what a file imports, also inside its functions.

    Imports for the type checker alone are left out: they do not happen.
    """
    package = path.relative_to(ROOT).parent.parts
    found: set[str] = set()
    for node in _executed_nodes(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            stem = ".".join((*base, *filter(None, [node.module])))
            found.update(f"{stem}.{alias.name}" for alias in node.names)
    return found


def imported_modules(path: Path, package: str) -> set[str]:
    """Return which modules of a package a file imports, by their names in `LAYERS`."""
    known = modules(package)
    found = set()
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != package:
            continue
        inner = "/".join(parts[1:])
        # The name of a module, of a package, or of something in one of them.
        outer = inner.rpartition("/")[0]
        candidates = (inner, f"{inner}/", outer, f"{outer}/")
        found.add(next(each for each in candidates if each in known))
    return found


def problems() -> Iterator[str]:
    """Return every import that breaks a rule, and every module that is missing in `LAYERS`."""
    order = list(LAYERS)
    for package, rows in LAYERS.items():
        rank = {name: at for at, row in enumerate(rows) for name in row}
        files = modules(package)
        for name in files.keys() ^ rank.keys():
            yield f"{package}: {name} is only in {'LAYERS' if name in rank else 'the folder'}"
        for name in files.keys() & rank.keys():
            for other in imported_modules(files[name], package) & rank.keys():
                if rank[other] <= rank[name]:
                    yield f"{package}: {name} imports {other}, which is not below it"
            for below in order:
                for other in set() if below == package else imported_modules(files[name], below):
                    if order.index(below) < order.index(package):
                        yield f"{package}: {name} imports {below}, which is not below it"
                    elif other not in DOORS[below]:
                        yield f"{package}: {name} imports {below}/{other}, which is private"


def drawing() -> Iterator[str]:
    """Return a line for each module: the number of its layer, and the modules that it imports."""
    for package, rows in LAYERS.items():
        files = modules(package)
        yield package
        for at, row in enumerate(rows):
            for name in row:
                own = sorted(imported_modules(files[name], package))
                others = [
                    f"{other}.{door}".removesuffix("./").replace("/", "")
                    for other in LAYERS
                    if other != package
                    for door in sorted(imported_modules(files[name], other))
                ]
                yield f"  {len(rows) - at:2}  {name:24} → {', '.join([*own, *others]) or 'nothing'}"
        yield ""


def _name(path: Path) -> str:
    if path.name == "__init__.py":
        return f"{path.parent.as_posix()}/".removeprefix("./") if path.parent.parts else "/"
    return path.with_suffix("").as_posix()


def _executed_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        yield from _executed_nodes(node)


def main() -> int:
    """Print the drawing, and what is wrong with it; exit 1 if anything is."""
    for line in drawing():
        print(line)
    found = sorted(problems())
    for problem in found:
        print(problem, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
