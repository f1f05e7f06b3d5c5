"""Tests of README and docs: each code block runs as it stands, and passes the type checker."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .blocks import PAGES, ROOT, Block, blocks_of, page_name
from .walk import Walk

BLOCKS = {page: blocks_of(page) for page in PAGES}
LANGUAGES = {"python", "sh", "text", "json", "jsonl", "csv", "toml", "ini"}


@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(each.is_run for each in BLOCKS[page])], ids=page_name
)
def test_the_code_blocks_of_a_page_run_in_order(page: Path, tmp_path: Path) -> None:
    with Walk(tmp_path) as walk:
        for block in BLOCKS[page]:
            walk.take(block)


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_each_code_block_says_what_it_is(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert sum(line.lstrip().startswith("```") for line in text.splitlines()) == 2 * len(
        BLOCKS[page]
    ), "a fence is not matched"
    for block in BLOCKS[page]:
        assert block.language in LANGUAGES, block.place
        assert block.title or block.language in {"python", "sh", "text"}, block.place
    assert text.count("<!--") == sum(bool(block.comment) for block in BLOCKS[page])


def test_the_python_blocks_pass_the_type_checker(tmp_path: Path) -> None:
    """Each page has a folder of its own, in which its blocks can import each other."""
    folders: dict[str, list[Block]] = {
        page_name(page).removesuffix(".md").replace("/", "_").replace("-", "_"): [
            block for block in blocks if block.language == "python"
        ]
        for page, blocks in BLOCKS.items()
    }
    titles = [block.title for blocks in folders.values() for block in blocks if block.title]
    assert len(titles) == len({*titles}), "the type checker sees all pages at once"
    files = []
    for folder, blocks in folders.items():
        (tmp_path / folder).mkdir()
        for number, block in enumerate(blocks):
            file = tmp_path / folder / (block.title or f"{folder}_{number}.py")
            # The line numbers of errors are those of the page.
            line = int(block.place.rpartition(":")[2])
            file.write_text("\n" * (line - 1) + block.text, encoding="utf-8")
            files.append(str(file))
    paths = "\n".join(f"  {tmp_path / folder}" for folder in folders)
    config = tmp_path / "mypy.ini"
    config.write_text(
        f"[mypy]\nstrict = true\nexplicit_package_bases = true\nmypy_path =\n{paths}\n",
        encoding="utf-8",
    )
    done = subprocess.run(  # noqa: S603 - the type checker of this environment
        [sys.executable, "-m", "mypy", "--config-file", str(config), *files],
        cwd=ROOT,  # whose cache it uses
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
