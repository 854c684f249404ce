"""Rows that lie elsewhere (`s3://`, `gs://`, `https://`, ...): fetched once into the user's cache.

    $NEXA_CACHE/data/URL/STATE/...   the files as they lie below the address
    $NEXA_CACHE/data/URL/last.json   which of them was fetched last
    $NEXA_CACHE/data/URL/.lock       held while they are fetched

URL and STATE are digests: of the address, and of what the other side says of its files (names,
sizes, ETags or times). So a file that was changed there is fetched again, and one that was not is
never. HTTP is spoken with Python's own client, everything else by the drivers of fsspec, which
find their credentials themselves. An address with a secret in it is not taken.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from nexa.core.errors import DataError, NetworkError
from nexa.core.events import emit, progress
from nexa.core.identity import canonical_json, sha256_bytes
from nexa.core.store import require_space, storage_error, write_atomic
from nexa.data.remote_files import RemoteFile, Unreachable, listed
from nexa.lm.derived import cache_root

# One slash after the scheme, too: that is what becomes of it in a path.
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+):/{1,2}(?P<rest>[^/].*|/.*)")
_SECRET = re.compile(r"sig|token|secret|password|credential|key", re.IGNORECASE)
HUB = ("hf",)
HERE = ("file", "local")
PIECE_BYTES = 1 << 20
LAST = "last.json"
UNMARKED = "unmarked"


@dataclass(frozen=True)
class Fetched:
    """Files that were brought here: `path` is the file, or the folder of all of them.

    `base` is the address of `folder`: a file's own is `base`/its path below `folder`.
    """

    path: Path
    folder: Path
    base: str


def address_of(reference: str | Path) -> str | None:
    """A reference as an address of rows elsewhere; None for a path and for the Hub's own names."""
    found = _URL.fullmatch(str(reference))
    if found is None or found["scheme"].lower() in HUB:
        return None
    return f"{found['scheme'].lower()}://{found['rest'].removeprefix('/')}"


def local_path(address: str) -> Path | None:
    """The path of an address of this machine (`file://...`), None for any other."""
    scheme, _, rest = address.partition("://")
    return Path("/" + unquote(rest)) if scheme in HERE else None


def shown(address: str) -> str:
    """An address without what may be a secret."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def fetch(address: str) -> Fetched:
    """The files of an address, brought here if they are not here as they are there.

    An address is a file's, a folder's, or a pattern (`s3://bucket/rows/*.jsonl`). Where the other
    side cannot be reached, what was fetched last is taken, and that is told.

    Raises:
        DataError: nothing is there, or the address has a secret in it.
        AccessError: the credentials that the driver found do not open it.
        MissingExtra: the driver of such addresses is not installed.
        NetworkError: it cannot be reached, and was never fetched.
        StorageError: no space for it.
    """
    require_no_secret(address)
    name = shown(address)
    home = cache_root() / "data" / sha256_bytes(address.encode())[:16]
    with _alone(home):
        try:
            with listed(address, name) as found:
                folder = home / _state(found.files)
                if folder.name == UNMARKED or not folder.is_dir():
                    _bring(found.files, folder, name)
                    told = {"state": folder.name, "base": found.base, "single": found.single}
                    write_atomic(home / LAST, canonical_json(told))
        except Unreachable as error:
            return _last(home, error, name)
    return Fetched(folder / found.single, folder, found.base)


def require_no_secret(address: str) -> None:
    """Refuse an address with a password or a signature: it would be written down.

    Raises:
        DataError: says where credentials belong.
    """
    parts = urlsplit(address)
    keys = [key for key, _ in parse_qsl(parts.query) if _SECRET.search(key)]
    if "@" not in parts.netloc and not keys:
        return
    raise DataError(
        f"{shown(address)} is given with a secret in its address, which would be written down",
        found=f"the parameters {', '.join(keys)}" if keys else "a user or password before '@'",
        fix="fetch the file yourself and give its path, or leave the secret to the driver's own "
        "environment (AWS_PROFILE, GOOGLE_APPLICATION_CREDENTIALS)",
    )


def _state(files: Mapping[str, RemoteFile]) -> str:
    if any(file.size_bytes is None and not file.mark for file in files.values()):
        return UNMARKED
    told = [[path, str(file.size_bytes), file.mark] for path, file in sorted(files.items())]
    return sha256_bytes(canonical_json(told))[:16]


def _bring(files: Mapping[str, RemoteFile], folder: Path, name: str) -> None:
    """All files into a folder that is there whole or not at all."""
    total = sum(file.size_bytes or 0 for file in files.values())
    require_space(folder, total, f"the rows of {name}")
    aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        with progress(f"fetching {name}", total=total / 1e6 or None, unit="MB") as bar:
            for path, file in files.items():
                target = aside / _inside(path, name)
                target.parent.mkdir(parents=True, exist_ok=True)
                with file.open() as source, target.open("xb") as copy:
                    got = _copy(source, copy, lambda size: bar.advance(size / 1e6))
                if file.size_bytes is not None and got != file.size_bytes:
                    raise NetworkError(
                        f"{path} of {name} did not arrive whole",
                        found=f"{got:,} of {file.size_bytes:,} bytes",
                        fix="run the same command again",
                    )
        shutil.rmtree(folder, ignore_errors=True)  # only what is not marked is replaced
        aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _copy(source: IO[bytes], copy: IO[bytes], tell: Any) -> int:
    got = 0
    while piece := source.read(PIECE_BYTES):
        try:
            copy.write(piece)
        except OSError as error:
            raise storage_error(Path(copy.name), error) from error
        got += len(piece)
        tell(len(piece))
    return got


def _inside(path: str, name: str) -> PurePosixPath:
    """A file's path as the other side names it, if it stays below the folder."""
    inside = PurePosixPath(path)
    if inside.is_absolute() or ".." in inside.parts or not inside.parts:
        raise DataError(f"{name} names a file outside of itself", found=path)
    return inside


def _last(home: Path, error: Unreachable, name: str) -> Fetched:
    """What was fetched before, where the other side cannot be asked."""
    if not (home / LAST).is_file():
        raise NetworkError(
            f"cannot reach {name}, and nothing of it was fetched before",
            found=str(error),
            fix="see that the address is right and the network up, or give a local file",
        ) from error
    told = json.loads((home / LAST).read_bytes())
    emit("note", text=f"{name} cannot be reached ({error}): what was fetched last is taken")
    folder = home / told["state"]
    return Fetched(folder / told["single"], folder, told["base"])


@contextlib.contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Only one process fetches an address; what a killed one left is cleared."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        lock = (home / ".lock").open("w")
    except OSError as error:
        raise storage_error(home, error) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in home.glob(".*.*"):
            shutil.rmtree(left, ignore_errors=True)
        yield
