"""How datasets of the Hub are written, and which file of one a path in the Hub's cache is.

    org/name   hf://org/name@revision   org/name/data/train.parquet   hf://datasets/org/name

Where rows come from such a dataset, the recipe, the record and every row's lineage name its id,
its commit and the file: `hf://org/name@COMMIT/data/train.parquet`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from nexa.data.globs import is_pattern
from nexa.data.loaders import suffixes
from nexa.data.loaders.unpacking import PACKINGS

_PART = r"[A-Za-z0-9_-][A-Za-z0-9_.-]*"
# One slash after the scheme, too: that is what becomes of it in a path.
_REFERENCE = re.compile(
    rf"(?P<scheme>hf:/{{1,2}}(?:datasets/)?)?(?P<id>{_PART}/{_PART})"
    r"(?:@(?P<revision>[^/\s]+))?(?:/(?P<file>[^\s].*))?"
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_CACHED = "datasets--"


@dataclass(frozen=True)
class HubData:
    """A dataset on the Hub, or a file or folder of one."""

    id: str
    revision: str | None = None
    file: str = ""

    @property
    def reference(self) -> str:
        """The dataset as config.yaml names it."""
        return self.id + (f"@{self.revision}" if self.revision else "")


def parse_hub(reference: str | Path, root: Path = Path()) -> HubData | None:
    """What a reference names on the Hub; None where it can only mean a path below `root`.

    A path that exists wins; so does one whose first folder does, or that ends as a data file
    does: a mistyped path is never asked of the Hub. With hf:// none of this matters.
    """
    named = _REFERENCE.fullmatch(str(reference))
    if named is None:
        return None
    found = HubData(named["id"], named["revision"], (named["file"] or "").strip("/"))
    if named["scheme"]:
        return found
    first = root / found.id.partition("/")[0]
    ends_as_file = found.id.rpartition(".")[2].lower() in {*suffixes(), *PACKINGS}
    is_path = (root / Path(reference)).exists() or is_pattern(found.id)
    if is_path or first.exists() or ends_as_file:
        return None
    return found


def origin_of(path: Path) -> str | None:
    """`hf://org/name@COMMIT/file` for a file of a dataset in the Hub's cache, None for others.

    The cache's own layout: datasets--ORG--NAME/snapshots/COMMIT/FILE.
    """
    parts = path.absolute().parts
    for at, part in enumerate(parts):
        rest = parts[at + 1 :]
        is_ours = part.startswith(_CACHED) and rest[:1] == ("snapshots",) and len(rest) > 2
        if is_ours and _COMMIT.fullmatch(rest[1]):
            owner, _, name = part.removeprefix(_CACHED).partition("--")
            return f"hf://{owner}/{name}@{rest[1]}/{'/'.join(rest[2:])}"
    return None
