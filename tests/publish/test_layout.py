from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from nexa.core.identity import sha256_bytes
from nexa.publish.layout import read_root, read_sums, root_text, sums_text
from tests.publish.conftest import Publication


def test_the_hash_list_reads_back_and_its_order_is_fixed() -> None:
    digests = {"b c.txt": sha256_bytes(b"1"), "a/b": sha256_bytes(b"2")}

    data = sums_text(digests)

    assert data == sums_text(dict(reversed(digests.items())))
    assert read_sums(data) == digests


@pytest.mark.parametrize("data", [b"\xff\n", b"zz  a\n", b"", b"a" * 64 + b"  a"])
def test_a_hash_list_in_another_form_is_none(data: bytes) -> None:
    assert read_sums(data) is None or data == b""


def test_the_systems_own_tool_reads_the_hash_list(publication: Publication) -> None:
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "nexa/SHA256SUMS"],
        cwd=publication.folder,
        capture_output=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout


def test_the_root_tells_which_of_the_three_was_changed() -> None:
    data = root_text(b"records", b"sums")

    found = read_root(data)

    assert found is not None
    assert found[:2] == (sha256_bytes(b"records"), sha256_bytes(b"sums"))
    for place in range(0, len(data), 7):
        spoiled = bytearray(data)
        spoiled[place] ^= 1
        assert read_root(bytes(spoiled)) is None


def test_a_published_file_of_a_subfolder_keeps_its_place(publication: Publication) -> None:
    sums = read_sums((publication.folder / "nexa" / "SHA256SUMS").read_bytes())

    assert sums is not None
    assert all((publication.folder / Path(name)).is_file() for name in sums)
