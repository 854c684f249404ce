"""What a Hub is to publishing: a place that holds files under `owner/name`.

Two kinds conform: `hub_folder.HubFolder`, a local folder, and `hub_remote.HubRemote`, the Hugging
Face Hub or whatever speaks its protocol.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nexa.core.errors import UsageError

REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


@dataclass(frozen=True)
class Placed:
    """Where a publication is (folder or address), and whether anything had to be written."""

    location: str
    changed: bool


class Hub(Protocol):
    """Where publications go."""

    def location(self, repo: str) -> str:
        """The folder or the address of a repository.

        Raises:
            UsageError: the name is not `owner/name`.
        """

    def publish(
        self,
        repo: str,
        files: Mapping[str, bytes | Path],
        *,
        private: bool,
        allow_foreign: bool = False,
    ) -> Placed:
        """Make the repository hold exactly `files` (path inside it -> content).

        A repository that is not there is created; what it holds already is not sent again. With
        `allow_foreign` files that nexa did not publish may go, where a history keeps them.

        Raises:
            UsageError: the name is not `owner/name`.
            GateError: the repository holds something that nexa did not publish.
            AccessError: no token, or one that may not write there.
            NetworkError: out of reach after its retries; what was sent is kept for the next try.
            StorageError: no space or no permission; what was published before is untouched.
        """

    def fetch(self, repo: str, folder: Path) -> Path | None:
        """All files of the repository in `folder`, or where they lie; None: no such repository.

        Raises:
            AccessError: no token, or one that may not read it.
            NetworkError: out of reach after its retries.
        """


def require_repo_name(repo: str) -> str:
    """`repo`, if it is `owner/name`.

    Raises:
        UsageError: it is not.
    """
    if not REPO.fullmatch(repo) or ".." in repo:
        raise UsageError(f"{repo!r} is not a repository's name", fix="--repo OWNER/NAME")
    return repo
