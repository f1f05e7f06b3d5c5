"""Tests of the reference and of links: every public name has a place."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from batches_core import BatchesError
from batches_core.emulator import FaultRule

from .blocks import PAGES, ROOT, page_name

MODULES = (
    "batches_core",
    "batches_core.emulator",
    "batches_core.jobs",
    "batches_core.lowlevel",
    "batches_jobs",
    "batches_jobs.engines.temporal",
    "batches_jobs.storage",
    "transports.asyncio",
    "transports.emulator",
    "transports.files",
    "transports.h11",
    "transports.httpx",
    "transports.trio",
)
REFERENCE = "".join(
    page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs/reference").glob("*.md"))
)
#: Names that the reference has under the module that they come from.
ELSEWHERE = {"JobOptions", "JobStatus", "__version__"}


@pytest.mark.parametrize("module", MODULES)
def test_each_public_name_is_in_the_reference(module: str) -> None:
    listed = {*re.findall(rf"^::: {re.escape(module)}\.(\w+)$", REFERENCE, re.MULTILINE)}
    assert {*importlib.import_module(module).__all__} - ELSEWHERE == listed - ELSEWHERE


def test_the_tree_of_errors_names_each_error() -> None:
    page = (ROOT / "docs/reference/errors.md").read_text(encoding="utf-8")
    tree = page.partition("```text\n")[2].partition("```")[0]
    modules = [importlib.import_module(name) for name in ("batches_core", "batches_jobs")]
    errors = {
        name
        for module in modules
        for name in module.__all__
        if isinstance(value := getattr(module, name), type) and issubclass(value, BatchesError)
    }
    assert {*re.findall(r"\w+Error\b(?= |\n)", tree)} == errors


def test_the_table_of_faults_has_each_field() -> None:
    page = (ROOT / "docs/reference/faults.md").read_text(encoding="utf-8")
    assert [name for name in FaultRule.__slots__ if f"{name}" not in page] == []


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_each_link_to_a_file_leads_to_one(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([\w-]+))?\)", text):
        file = page.parent / target if target else page
        assert file.is_file(), f"{page_name(page)}: {target}"
        headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}
        assert not anchor or anchor in anchors, f"{page_name(page)}: {target}#{anchor}"
