"""What is packed is read as what it holds, and a broken packing is told."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pyarrow as pa
import pytest

from nexa.core.errors import DataError, UsageError
from nexa.data.detect import count_rows
from nexa.data.loaders import loader_for
from nexa.data.loaders.opening import reading
from nexa.data.loaders.unpacking import plain_name
from nexa.data.rows import Line

CONTENTS = {
    "x.jsonl": b'{"text": "a"}\n{"text": "b"}\n',
    "x.json": b'[{"text": "a"}, {"text": "b"}]',
    "x.csv": b"text\na\nb\n",
    "x.md": b"# a\n# b\n",
}


def lines(path: Path) -> list[Line]:
    return list(loader_for(path)(path, "x"))


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue())


def gz(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


PACKERS = {"gz": (gz, "gzip"), "zst": (zstd, "zstd")}


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize("name", CONTENTS)
def test_a_packed_file_is_read_as_what_it_holds(tmp_path: Path, name: str, packing: str) -> None:
    plain, packed = tmp_path / name, tmp_path / f"{name}.{packing}"
    plain.write_bytes(CONTENTS[name])
    packed.write_bytes(PACKERS[packing][0](CONTENTS[name]))
    assert lines(packed) == lines(plain)
    assert len(lines(packed)) == 2
    assert count_rows(packed) == 2


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize("name", CONTENTS)
def test_a_broken_packing_is_told(tmp_path: Path, name: str, packing: str) -> None:
    path = tmp_path / f"{name}.{packing}"
    pack, called = PACKERS[packing]
    whole = pack(CONTENTS[name])
    # zstd's frames bear no checksum here: what is changed in the middle may not be seen.
    changed = [whole[:10] + b"\xff" * 9 + whole[19:]] if packing == "gz" else []
    for broken in (b"not packed at all", whole[:-9], *changed):
        path.write_bytes(broken)
        with pytest.raises(DataError, match=f"is broken as {called}"):
            lines(path)


def test_frames_behind_each_other_are_one_file(tmp_path: Path) -> None:
    for packing, (pack, _) in PACKERS.items():
        path = tmp_path / f"x.jsonl.{packing}"
        path.write_bytes(pack(CONTENTS["x.jsonl"]) * 3)
        assert len(lines(path)) == 6


def test_a_packed_file_is_read_again_from_its_beginning_only(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl.zst"
    path.write_bytes(zstd(b"0123456789" * 100_000))
    with reading(path) as file:
        assert file.read(4) == b"0123"
        assert file.tell() == 4
        file.seek(0)
        assert len(file.read()) == 1_000_000
        file.seek(0)
        assert file.read(2) == b"01"
        with pytest.raises(io.UnsupportedOperation):
            file.seek(900_000)


def test_what_a_file_really_is_comes_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    for data, fix in (
        (zstd(b"{}"), "mv x.jsonl x.jsonl.zst"),
        (b"BZh91AY", "bunzip2 x.jsonl"),
        (b"%PDF-1.7", "mv x.jsonl x.pdf"),
        (b"ARROW1\0\0", "mv x.jsonl x.arrow"),
    ):
        path.write_bytes(data)
        with pytest.raises(DataError) as caught:
            lines(path)
        assert caught.value.fix == fix


def test_a_packed_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    for name in ("none.jsonl.gz", "none.jsonl.zst"):
        with pytest.raises(DataError, match="cannot read"):
            lines(tmp_path / name)


@pytest.mark.parametrize("told", ["a lot", "0", "-1", "1e999", ""])
def test_a_bound_that_is_no_number_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(gz(CONTENTS["x.jsonl"]))
    monkeypatch.setenv("NEXA_MAX_UNPACKED_GB", told)
    with pytest.raises(UsageError, match="is a number of gigabytes"):
        lines(path)


def test_names_are_told_without_their_packing() -> None:
    names = {"a.csv.GZ": "a.csv", "a.jsonl.zst": "a.jsonl", "a.csv": "a.csv", "gz": "gz"}
    assert {name: plain_name(name) for name in names} == names
