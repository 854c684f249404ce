"""A clean check is kept until anything it looked at changes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nexa.core.events import Event, listening
from nexa.core.tiers import Tiers
from nexa.orchestrate.check import cache
from nexa.orchestrate.check.report import CheckReport, Result
from tests.support.project import notes

KEY = "ab" * 32
REPORT = CheckReport((), (Result("config", "passed", "lora", 0.5),), {"parameters": 3})


@pytest.fixture
def tiers(tmp_path: Path) -> Tiers:
    return Tiers.of(tmp_path)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"weights")
    return path


def test_what_was_kept_is_found(tiers: Tiers, model: Path) -> None:
    assert cache.find(tiers, KEY) is None
    cache.keep(tiers, KEY, REPORT, [model])
    found = cache.find(tiers, KEY)
    assert found is not None
    assert (found.results, found.facts, found.cached) == (REPORT.results, REPORT.facts, True)


def test_a_model_that_was_written_since_is_looked_at_anew(tiers: Tiers, model: Path) -> None:
    cache.keep(tiers, KEY, REPORT, [model])
    before = model.stat()
    model.write_bytes(b"WEIGHTS")  # as many bytes
    os.utime(model, ns=(before.st_atime_ns, before.st_mtime_ns))  # and the same time
    assert cache.find(tiers, KEY) is None
    cache.keep(tiers, KEY, REPORT, [model])
    model.unlink()
    assert cache.find(tiers, KEY) is None


@pytest.mark.parametrize("content", ["", "[]", '{"results": []}', '{"results": [{"x": 1}]}'])
def test_a_torn_entry_is_made_again_and_said(tiers: Tiers, content: str) -> None:
    path = tiers.root / ".nexa" / "checks" / f"{KEY}.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    events: list[Event] = []
    with listening(events.append):
        assert cache.find(tiers, KEY) is None
    [note] = notes(events)
    assert "is made again" in note


def test_old_entries_go(tiers: Tiers, model: Path) -> None:
    folder = tiers.root / ".nexa" / "checks"
    for number in range(cache.KEPT + 3):
        cache.keep(tiers, f"{number:064}", REPORT, [model])
        os.utime(folder / f"{number:064}.json", (number, number))
    cache.keep(tiers, KEY, REPORT, [model])
    left = {path.stem for path in folder.iterdir()}
    assert len(left) == cache.KEPT
    assert KEY in left
    assert f"{0:064}" not in left


def test_the_key_hangs_on_the_text_of_config_and_data(tmp_path: Path) -> None:
    config, data = tmp_path / "config.yaml", tmp_path / "train.jsonl"
    config.write_text("a: 1\n")
    data.write_text("{}\n")
    first = cache.key_of(config, [data], rehearse=True)
    assert first == cache.key_of(config, [data], rehearse=True)
    assert first != cache.key_of(config, [data], rehearse=False)
    data.write_text("{ }\n")
    second = cache.key_of(config, [data], rehearse=True)
    config.write_text("a: 2\n")
    assert len({first, second, cache.key_of(config, [data], rehearse=True)}) == 3
