"""The last look before files leave the machine: no text file may hold a credential."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from nexa.core.errors import GateError
from nexa.core.secrets import find_secrets

TEXT_SUFFIXES = frozenset(
    {
        ".json",
        ".jsonl",
        ".jinja",
        ".md",
        ".txt",
        ".yaml",
        ".yml",
        ".py",
        ".toml",
        ".csv",
        ".html",
        "",
    }
)


def refuse_secrets(files: Mapping[str, bytes | Path]) -> None:
    """Look through every text file of a publication.

    Raises:
        GateError: names each file and line that holds what looks like a credential, never the
            credential itself.
    """
    found = [
        f"{name} line {line}"
        for name, content in sorted(files.items())
        if PurePosixPath(name).suffix.lower() in TEXT_SUFFIXES
        for line in find_secrets(_text(content))
    ]
    if found:
        more = f"\nand {len(found) - 10} more" if len(found) > 10 else ""
        raise GateError(
            "cannot publish: a file holds what looks like a secret",
            found="\n".join(found[:10]) + more,
            fix="take it out of the data or the model's folder, revoke it, and run again",
        )


def _text(content: bytes | Path) -> str:
    data = content if isinstance(content, bytes) else content.read_bytes()
    return data.decode(errors="replace")
