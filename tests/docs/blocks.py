"""Collects the fenced code blocks of README and docs.

A page is a walk: its blocks run in order, in one folder, as a reader would run them. The words
after the opening fence say what a block is:

- ``python``: a whole program. With ``title="NAME.py"`` it is stored under that name first, so that
  later blocks can import it. If the name begins with ``test_``, pytest runs it.
- ``sh``: commands. Those that install are not run; their extras must exist.
- ``text title="Output"``: what the block before prints to stdout, apart from white space.
- any other language needs a ``title``, and is stored as that file.

A comment on the line before a block changes how it is run:

- ``<!-- background -->``: a server, which runs until the page ends.
- ``<!-- exit code N -->``: it ends with this exit code.
- ``<!-- run by .ci/run -->``: it is run there, and not by these tests.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]

_BLOCK = re.compile(
    r"^(?:[ ]*<!-- (?P<comment>[^\n]*) -->\n)?"
    r"(?P<indent>[ ]*)```[ ]*(?P<language>\w*)(?:[ ]+title=\"(?P<title>[^\"\n]+)\")?[^\n]*\n"
    r"(?P<text>.*?)^(?P=indent)```[ ]*$",
    re.DOTALL | re.MULTILINE,
)
_COMMENT = re.compile(r"background|exit code \d+|run by \.ci/run")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A code block. `place` is its page and the number of its first line, for messages."""

    place: str
    language: str
    title: str
    comment: str
    text: str

    @property
    def is_run(self) -> bool:
        """Whether these tests run it."""
        return self.language in {"python", "sh"} and not self.comment.startswith("run by")

    @property
    def exit_code(self) -> int:
        """The exit code with which it ends."""
        return int(self.comment.split()[-1]) if self.comment.startswith("exit code") else 0


def page_name(page: Path) -> str:
    """Return the path of a page in the repository."""
    return page.relative_to(ROOT).as_posix()


def blocks_of(page: Path) -> list[Block]:
    """Return the code blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    blocks = []
    for match in _BLOCK.finditer(text):
        comment = match["comment"] or ""
        blocks.append(
            Block(
                place=f"{page_name(page)}:{text.count(chr(10), 0, match.start('text')) + 1}",
                language=match["language"],
                title=match["title"] or "",
                comment=comment if _COMMENT.fullmatch(comment) else "",
                text=re.sub(f"^{match['indent']}", "", match["text"], flags=re.MULTILINE),
            )
        )
    return blocks
