"""Says in a few words why an object store failed. Only known parts of its text are repeated.

An answer to a wrong credential can have the id of the key, and a URL can have a token. So a text is
taken apart, and no part of it is shown that is not a status, a code, a host or a fixed phrase.
"""

from __future__ import annotations

import re

#: Statuses of requests that can succeed later, beside those of a server's errors.
_PASSING = frozenset({408, 429})
_SERVER_ERROR = 500
_STATUS = re.compile(r"status code: (\d{3})((?: [A-Za-z]+)*)")
_CODE = re.compile(r"<Code>([\w.]{1,80})</Code>")
_HOST = re.compile(r"https?://(?:[^/\s@]*@)?([\w.:\[\]-]+)")
#: Where a machine in a cloud finds its credentials. They are asked for if there are no others.
_METADATA = re.compile(r"http://(169\.254\.\d+\.\d+|metadata)")
#: The parts of a URL that can have a credential.
_SECRET_PARTS = re.compile(r"(?<=://)[^/\s@]*@|\?\S*")
#: What each store puts before its errors.
_PREFIX = re.compile(r"Generic \w+ error: (?:Error performing .* - )?")
_NO_CREDENTIALS = (
    "no credentials were found: set the variables of the store, such as AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY"
)


def failure_of(text: str) -> tuple[str, bool]:
    """Return why a store failed, by the text of its error, and whether that passes by itself."""
    line = text.partition("\n\nDebug source")[0]
    if _METADATA.search(line):
        return _NO_CREDENTIALS, False
    if (status := _STATUS.search(line)) is not None:
        number = int(status[1])
        code = _CODE.search(line)
        words = f"{number}{status[2]}" + ("" if code is None else f", {code[1]}")
        return words, number in _PASSING or number >= _SERVER_ERROR
    if "HTTP error" in line:
        host = _HOST.search(line)
        return "no answer" + ("" if host is None else f" from {host[1]}"), True
    return _SECRET_PARTS.sub("", _PREFIX.sub("", line.partition("\n")[0])), False
