"""Credentials, and the organization and workspace that a request acts on.

`endpoints` hides the batches of one workspace from the keys of another.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from .batch import Owner
from .refusals import RefusedError, bad_request

#: The organization and the workspace of every key for which no other is configured.
_ORGANIZATION: Final = "00000000-0000-4000-8000-000000000000"
_WORKSPACE: Final = "wrkspc_01EmulatorDefault"


class Access:
    """The keys that an emulator accepts, and what each of them can see.

    The parameters are those of `Emulator`.
    """

    def __init__(
        self,
        api_keys: Collection[str] | None,
        workspaces: Mapping[str, str | None],
        organizations: Mapping[str, str],
    ) -> None:
        self._api_keys = api_keys
        self._workspaces = workspaces
        self._organizations = organizations

    def authenticate(self, headers: Mapping[str, str]) -> Owner:
        """Check the credential of a request; return its organization and its workspace.

        `headers` are those of the request, with names in lower case.

        Raises:
            RefusedError: the key is missing or unknown (401), or the workspace header is missing
                (400) or names a workspace that the key cannot act on (403).
        """
        key = _read_key(headers)
        if not key:
            raise RefusedError(401, "authentication_error", "x-api-key header is required")
        if not self._accepts(key):
            raise RefusedError(401, "authentication_error", "invalid x-api-key")
        return self._organizations.get(key, _ORGANIZATION), self._workspace(key, headers)

    def organization(self, headers: Mapping[str, str]) -> str | None:
        """Return the organization id of a request's key, or None if the key is not accepted."""
        key = _read_key(headers)
        if not key or not self._accepts(key):
            return None
        return self._organizations.get(key, _ORGANIZATION)

    def _accepts(self, key: str) -> bool:
        return self._api_keys is None or key in self._api_keys

    def _workspace(self, key: str, headers: Mapping[str, str]) -> str:
        if key not in self._workspaces:
            return _WORKSPACE
        own = self._workspaces[key]
        named = headers.get("anthropic-workspace-id") or own
        # What the service responds in these two cases is not documented.
        if named is None:
            raise bad_request("anthropic-workspace-id: header is required for this credential")
        if own not in {None, named}:
            message = f"This credential cannot act on workspace `{named}`."
            raise RefusedError(403, "permission_error", message)
        return named


def _read_key(headers: Mapping[str, str]) -> str:
    """Return the API key of a request, from either header that can carry one, or ""."""
    key = headers.get("x-api-key")
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token if key is None and scheme.lower() == "bearer" else key or ""
