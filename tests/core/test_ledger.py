"""The digests of closed manifests."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from nexa.core.errors import IntegrityError, StorageError
from nexa.core.identity import sha256_file
from nexa.core.ledger import SUMS, read_sums, require_noted, write_noted
from nexa.core.manifest import ManifestFile, RunManifest, find_manifest, find_run_id

RUN_ID = "2025-10-28-141200-ab12"


def opened(folder: Path, run_id: str = RUN_ID, **facts: Any) -> ManifestFile:
    return ManifestFile.open(folder, RunManifest(run_id=run_id, run_type="train", **facts))


def test_a_digest_is_noted_when_the_run_ends_and_again_when_it_is_published(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    ledger.amend(tokens_trained=5)
    assert read_sums(tmp_path) == {}
    ledger.close("done")
    closed = read_sums(tmp_path)
    assert closed == {f"{RUN_ID}.json": sha256_file(ledger.path)}
    ledger.note_publication("/somewhere")
    assert read_sums(tmp_path) == {f"{RUN_ID}.json": sha256_file(ledger.path)} != closed


def test_sha256sum_reads_it(tmp_path: Path) -> None:
    for number in (2, 1):
        opened(tmp_path, f"2025-10-28-14120{number}-ab12").close("failed", error="why")
    assert [name[16] for name in read_sums(tmp_path)] == ["1", "2"]
    check = ["sha256sum", "--check", "--strict", SUMS]
    assert subprocess.run(check, cwd=tmp_path, capture_output=True).returncode == 0


def test_a_run_that_goes_on_has_no_digest(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    ledger.close("interrupted", error="stopped")
    again = ledger.manifest.model_copy(update={"status": "running"})
    ManifestFile(ledger.path, again).amend(attempts=2)
    assert read_sums(tmp_path) == {}
    assert (tmp_path / SUMS).read_bytes() == b""


def test_a_changed_manifest_is_neither_found_nor_written_over(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    ledger.close("done", verdict="worse")
    assert find_manifest(tmp_path, "latest").verdict == "worse"
    ledger.path.write_bytes(ledger.path.read_bytes().replace(b"worse", b"better"))
    for act in (lambda: find_manifest(tmp_path, RUN_ID), lambda: ledger.note_publication("x")):
        with pytest.raises(IntegrityError, match="changed after its run ended") as caught:
            act()
        assert "SHA256SUMS" in str(caught.value.found)
    assert find_run_id(tmp_path, "2025") == RUN_ID
    ledger.path.unlink()
    with pytest.raises(IntegrityError):
        require_noted(ledger.path)


@pytest.mark.parametrize("line", ["x", "0" * 64 + "  a.txt", "0" * 64 + " r.json", "\udcff", ""])
def test_a_line_that_is_none_is_named(tmp_path: Path, line: str) -> None:
    opened(tmp_path).close("done")
    with (tmp_path / SUMS).open("ab") as file:
        file.write(line.encode(errors="surrogateescape") + b"\n")
    with pytest.raises(IntegrityError, match="line 2 is not a digest"):
        read_sums(tmp_path)


def test_a_name_may_stand_there_once(tmp_path: Path) -> None:
    opened(tmp_path).close("done")
    path = tmp_path / SUMS
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(IntegrityError, match="line 2"):
        read_sums(tmp_path)


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError):
        write_noted(tmp_path / "file" / "r.json", b"{}", closed=True)
