"""What lies at an address: its files with their sizes and marks, and their bytes.

Two doors: HTTP by Python's own client (one file), and every file system that fsspec has a driver
for (a file, a folder, a pattern).
"""

from __future__ import annotations

import contextlib
import http.client
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from nexa.core.errors import AccessError, DataError, MissingExtra, NexaError
from nexa.data.globs import alternatives, is_pattern
from nexa.data.loaders import suffix_of, suffixes

SILENCE_S = 60.0  # without a byte for so long, a connection is dead
HTTP = ("http", "https")
REFUSED = (401, 403, 407)
ABSENT = (404, 410)
# The package of each driver, where it is not named as fsspec names it.
DRIVERS = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
    "sftp": "paramiko",
    "ssh": "paramiko",
    "oss": "ossfs",
}
# What drivers raise beside OSError, by the modules that have it once a driver is in use.
_DRIVER_ERRORS = (
    ("botocore.exceptions", "BotoCoreError"),
    ("google.auth.exceptions", "GoogleAuthError"),
    ("azure.core.exceptions", "AzureError"),
    ("aiohttp", "ClientError"),
)


class Unreachable(Exception):
    """The other side cannot be asked; the reason in a few words."""


@dataclass(frozen=True)
class RemoteFile:
    """One file there. `mark` changes when its bytes do: its ETag, else when it was written.

    Where neither mark nor size is told, whether it was changed cannot be known.
    """

    size_bytes: int | None
    mark: str
    open: Callable[[], contextlib.AbstractContextManager[IO[bytes]]]


@dataclass(frozen=True)
class Listing:
    """The files by their paths below `base`; `single` is the one that was asked for by name."""

    files: Mapping[str, RemoteFile]
    base: str
    single: str = ""


@contextlib.contextmanager
def listed(address: str, name: str) -> Iterator[Listing]:
    """What lies at an address, for as long as the block; `name` is how it is told.

    Raises:
        Unreachable: nobody answers, there or in the middle of a file.
        DataError: nothing is there; or no driver knows such an address.
        AccessError: it is not for us.
        MissingExtra: the driver is not installed.
    """
    if urlsplit(address).scheme in HTTP:
        with _over_http(address, name) as listing:
            yield listing
    else:
        with _told(name, address):
            yield _in_file_system(address, name)


@contextlib.contextmanager
def _over_http(address: str, name: str) -> Iterator[Listing]:
    base, _, last = name.rpartition("/")
    file = unquote(last) or "rows"
    try:
        with urllib.request.urlopen(address, timeout=SILENCE_S) as answer:
            told = answer.headers
            size = told.get("Content-Length", "")
            mark = told.get("ETag") or told.get("Last-Modified") or ""
            found = RemoteFile(
                int(size) if size.isdecimal() else None,
                mark,
                lambda: contextlib.nullcontext(answer),
            )
            yield Listing({file: found}, base, file)
    except NexaError:
        raise
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in REFUSED:
            raise AccessError(f"{name} is not for us", found=f"HTTP {error.code}") from error
        if error.code in ABSENT:
            raise DataError(f"there is no {name}", found=f"HTTP {error.code}") from error
        raise Unreachable(f"HTTP {error.code}") from error
    except urllib.error.URLError as error:
        raise Unreachable(str(error.reason)) from error
    except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise Unreachable(str(error) or type(error).__name__) from error


def _in_file_system(address: str, name: str) -> Listing:
    """A file, the data files below a folder, or what a pattern names."""
    system, place = _system(address, name)
    place = place.rstrip("/")
    if is_pattern(place):
        return _by_pattern(system, place, address, name)
    if system.isdir(place):
        below = [path for path in system.find(place) if _is_data(path, place)]
        return _listing(system, below, place, address.rstrip("/"), name)
    file = PurePosixPath(place).name
    base = address.rstrip("/").rpartition("/")[0]
    return Listing({file: _file(system, place)}, base, file)


def _by_pattern(system: Any, place: str, address: str, name: str) -> Listing:
    found = sorted({path for one in alternatives(place) for path in system.glob(one)})
    parts = place.split("/")
    fixed = next((n for n, part in enumerate(parts) if is_pattern(part)), 0)
    root = "/".join(parts[:fixed])
    base = address.removesuffix("/".join(parts[fixed:])).rstrip("/")
    return _listing(system, [path for path in found if system.isfile(path)], root, base, name)


def _listing(system: Any, paths: list[str], root: str, base: str, name: str) -> Listing:
    if not paths:
        raise DataError(f"no data file is at {name}")
    return Listing(
        {path.removeprefix(root).lstrip("/"): _file(system, path) for path in paths}, base
    )


def _file(system: Any, path: str) -> RemoteFile:
    told = system.info(path)
    marks = (told.get(key) for key in ("ETag", "etag", "md5Hash", "LastModified", "mtime"))
    mark = next((str(mark) for mark in marks if mark), str(told.get("created") or ""))
    return RemoteFile(told.get("size"), mark, partial(system.open, path, "rb"))


def _is_data(path: str, root: str) -> bool:
    inside = PurePosixPath(path.removeprefix(root).lstrip("/"))
    hidden = any(part.startswith(".") for part in inside.parts)
    return suffix_of(inside) in suffixes() and not hidden


def _system(address: str, name: str) -> tuple[Any, str]:
    import fsspec

    scheme = urlsplit(address).scheme
    try:
        system, place = fsspec.core.url_to_fs(address)
    except ImportError as error:
        package = DRIVERS.get(scheme)
        raise MissingExtra(
            f"{scheme}:// needs a driver that is not installed",
            found=str(error),
            fix=f"pip install {package}" if package else None,
        ) from error
    except ValueError as error:
        raise DataError(
            f"{name} is no address that rows can be read from",
            found=f"no driver knows {scheme}://",
            fix="give a path, a dataset of the Hub (org/name), or s3://, gs://, https://",
        ) from error
    return system, place


@contextlib.contextmanager
def _told(name: str, address: str) -> Iterator[None]:
    """A driver's errors as Nexa's; what it says may hold the whole address, so it is shortened."""
    try:
        yield
    except NexaError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"there is no {name}") from error
    except PermissionError as error:
        raise AccessError(
            f"{name} is not for us",
            found=type(error).__name__,
            fix="see that the driver finds its credentials: AWS_PROFILE, "
            "GOOGLE_APPLICATION_CREDENTIALS, ...",
        ) from error
    except _driver_errors() as error:
        said = str(error).replace(address, name)
        raise Unreachable(f"{type(error).__name__}: {said}"[:200]) from error


def _driver_errors() -> tuple[type[Exception], ...]:
    """The system's own, and those of the drivers that are in use."""
    modules = ((sys.modules.get(module), error) for module, error in _DRIVER_ERRORS)
    known = [getattr(module, error) for module, error in modules if module is not None]
    return (OSError, *known)
