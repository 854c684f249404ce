"""One byte of a finished run is flipped, anywhere: `verify` names the file.

Each file in turn, in its first, its middle and its last byte: those of every record (dataset,
suite, checkpoint, export, answers, scores, report), the records, the names, the recipes, the
durable copies, the manifest and its digest, the report page, the model folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from nexa.core.errors import IntegrityError
from nexa.core.ledger import SUMS
from nexa.core.manifest import ManifestFile, read_manifest
from nexa.orchestrate.verifying.verify import verify
from nexa.ui.leaderboard import from_parquet, to_parquet
from tests.support.project import Finished


@pytest.fixture(scope="module")
def whole(finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A copy of the finished project; every test leaves it as it found it."""
    return finished.copy(tmp_path_factory.mktemp("flipped") / "elements")


def flipped(path: Path, *, every: bool = False) -> Iterator[int]:
    """Flip one bit of one byte after the other, each time undoing the one before."""
    data = path.read_bytes()
    mode = path.stat().st_mode
    places = range(len(data)) if every else sorted({0, len(data) // 2, len(data) - 1})
    path.chmod(0o644)
    for place in places:
        changed = bytearray(data)
        changed[place] ^= 1
        path.write_bytes(changed)
        yield place
    path.write_bytes(data)
    path.chmod(mode)


def must_name(project: Finished, path: Path, what: str | None = None) -> None:
    """`verify` says that this file is not what it was."""
    with pytest.raises(IntegrityError) as caught:
        verify(what, project.root)
    assert caught.value.exit_code == 10
    assert str(path) in str(caught.value.found), f"{path}\n{caught.value}"


def files_below(folder: Path) -> list[Path]:
    found = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.stat().st_size]
    assert found
    return [path for path in found if not path.name.startswith(".")]


def test_a_finished_run_is_whole_and_verifying_writes_nothing(whole: Finished) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.root.rglob("*")}
    run_id = whole.manifest.run_id
    told = verify(None, whole.root)
    assert "store" in told.checks
    assert f"run {run_id}: scores and report, derived again" in told.checks
    assert verify(run_id[:10], whole.root).checks == verify("latest", whole.root).checks
    assert {path: path.stat().st_mtime_ns for path in whole.root.rglob("*")} == before


@pytest.mark.parametrize("folder", ["blobs", "records", "names", "recipes"])
def test_every_file_of_the_store_is_named(whole: Finished, folder: str) -> None:
    for path in files_below(whole.tiers.store.root / folder):
        for _ in flipped(path):
            must_name(whole, path)


SIDES = [f"{side}_{kind}" for kind in ("answers", "scores") for side in ("base", "tuned")]
ROLES = ["dataset", "eval_dataset", "suite", "checkpoint", "export", *SIDES, "report"]


@pytest.mark.parametrize("role", ROLES)
def test_every_file_of_every_record_is_named_by_its_run_and_by_its_label(
    whole: Finished, role: str
) -> None:
    store = whole.tiers.store
    digest = whole.manifest.outputs[role]
    artifact = store.by_digest(digest)
    record = store.root / "records" / artifact.kind / f"{digest}.json"
    for path in [record, *(store.path(artifact, name) for name in artifact.files)]:
        if path.stat().st_size:
            for _ in flipped(path):
                must_name(whole, path, "latest")
                must_name(whole, path, artifact.label)


def test_every_byte_of_a_record_its_name_and_its_recipe_counts(whole: Finished) -> None:
    store = whole.tiers.store
    digest = whole.manifest.outputs["suite"]
    suite = store.by_digest(digest)
    record = store.root / "records" / "suite" / f"{digest}.json"
    for _ in flipped(record, every=True):
        must_name(whole, record, suite.label)
    pointer = store.root / "names" / "suite" / suite.name / suite.version
    for _ in flipped(pointer, every=True):
        must_name(whole, pointer, suite.label)


def test_any_byte_of_the_manifest_and_of_its_digest_counts(whole: Finished) -> None:
    path = whole.tiers.manifests / f"{whole.manifest.run_id}.json"
    for place in flipped(path, every=True):
        if place % 41 == 0:
            must_name(whole, path, whole.manifest.run_id)
    for place in flipped(path.parent / SUMS, every=True):
        # A digest accuses its manifest; what is no line of digest and name accuses itself.
        if place % 5 == 0:
            must_name(whole, path.parent)


def test_every_durable_copy_is_named(whole: Finished) -> None:
    for path in files_below(Path(whole.tiers.durable)):
        if path.suffix != ".parquet" or "leaderboard" not in path.name:
            for _ in flipped(path):
                must_name(whole, path)


def test_the_leaderboard_s_numbers_are_those_of_the_scores(whole: Finished) -> None:
    (board,) = Path(whole.tiers.durable).rglob("leaderboard_*.parquet")
    data = board.read_bytes()
    entries = from_parquet(data, str(board))
    for i, entry in enumerate(entries):
        better = replace(entry, mean=entry.mean + 1e-6)
        board.write_bytes(to_parquet([*entries[:i], better, *entries[i + 1 :]]))
        must_name(whole, board, "latest")
    for torn in (data[:-9], b"", to_parquet(entries[1:])):
        board.write_bytes(torn)
        must_name(whole, board)
    board.write_bytes(data)


def test_every_file_of_the_model_folder_is_named(whole: Finished) -> None:
    for path in files_below(whole.root / "output"):
        for _ in flipped(path):
            must_name(whole, path, "latest")
            must_name(whole, path)


def test_the_dataset_registry_is_compared_with_the_store(whole: Finished) -> None:
    path = whole.root / "dataset_registry.yaml"
    text = path.read_text()
    digest = whole.manifest.outputs["dataset"]
    for changed in (text.replace(digest, "0" * 64), text.replace("v1:", "v7:"), "- no registry\n"):
        path.write_text(changed)
        must_name(whole, path)
    path.write_text(text)


def test_a_manifest_that_was_edited_and_noted_anew_still_contradicts_the_records(
    whole: Finished,
) -> None:
    path = whole.tiers.manifests / f"{whole.manifest.run_id}.json"
    sums = path.parent / SUMS
    before = path.read_bytes(), sums.read_bytes()
    forged = read_manifest(path).model_copy(update={"verdict": "improved", "seed": 7})
    path.unlink()
    sums.unlink()
    ManifestFile(path, forged)._write()
    with pytest.raises(IntegrityError) as caught:
        verify("latest", whole.root)
    assert "its seed is not what the records say" in str(caught.value.found)
    assert "durable" in str(caught.value.found)
    path.write_bytes(before[0])
    sums.write_bytes(before[1])
    verify("latest", whole.root)
