"""A hook of mkdocs: links each public name in the text of a page to its place in the reference.

It writes what mkdocs-autorefs resolves. A name without a place in the reference stays as it is.
"""

from __future__ import annotations

import importlib
import re

#: Where a name is looked for, in this order. `batches_core.jobs` is not among them: some of its
#: names, such as `Create`, are words.
_MODULES = ("batches_core", "batches_jobs", "batches_core.emulator", "batches_core_pytest")
#: A class, or a function with several words, and perhaps a member of it. Other names are words.
_NAME = re.compile(
    r"(?<!\">)<code>(?P<name>[A-Z]\w*[a-z]\w*|[A-Z]+_[A-Z_]+|[a-z]+_[a-z_]+)"
    r"(?P<member>\.[a-z_]+)?</code>"
)


def _homes() -> dict[str, str]:
    homes: dict[str, str] = {}
    for module in _MODULES:
        imported = importlib.import_module(module)
        for name in getattr(imported, "__all__", ["BatchesEmulator", "batches_emulator"]):
            homes.setdefault(name, module)
    return homes


_HOMES = _homes()


def on_page_content(html: str, **_: object) -> str:
    """Return the HTML of a page, with its names linked."""

    def link(match: re.Match[str]) -> str:
        home = _HOMES.get(match["name"])
        if home is None:
            return match[0]
        code = match[0]
        target = f"{home}.{match['name']}{match['member'] or ''}"
        return f'<autoref identifier="{target}" optional>{code}</autoref>'

    return _NAME.sub(link, html)
