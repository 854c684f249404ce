"""The order of the checks, what is told when one cannot be asked, and the gate of a training."""

from __future__ import annotations

from pathlib import Path

import pytest

from nexa.core.errors import LeakError
from nexa.core.events import Event, listening
from nexa.lm.resolve import resolve
from nexa.orchestrate.check.flight import ORDER, flight_check, require_clean
from tests.support.chain import random_adapter
from tests.support.project import notes, rows, write_config, write_project, write_rows


def test_a_check_needs_only_checks_before_it() -> None:
    seen: set[str] = set()
    for name, needs in ORDER.items():
        assert set(needs) <= seen
        seen.add(name)


def test_without_a_configuration_nothing_else_is_asked(tmp_path: Path) -> None:
    report = flight_check(tmp_path / "config.yaml")
    assert (report.exit_code, report.results[0].state) == (3, "failed")
    assert {result.detail for result in report.results[1:]} == {"needs config"}
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_is_a_finding_and_the_rest_is_still_looked_at(
    tmp_path: Path, tiny_llama: Path
) -> None:
    config = write_config(tmp_path, tiny_llama)
    report = flight_check(config, rehearse=False)
    assert report.exit_code == 4
    states = {result.check: result.state for result in report.results}
    assert (states["files"], states["formats"]) == ("failed", "not run")
    assert (states["weights"], states["template"]) == ("passed", "passed")


def test_scratch_that_is_no_folder_is_told_and_nothing_is_rehearsed(
    tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("NEXA_SCRATCH", str(tmp_path / "file"))
    report = flight_check(write_project(tmp_path, tiny_llama))
    [found] = report.findings
    assert (found.check, found.exit_code) == ("disk", 11)
    assert "no folder" in str(found.found)
    assert {r.check: r.state for r in report.results}["merge"] == "skipped"


def test_the_gate_raises_the_first_finding_and_tells_the_others(
    tmp_path: Path, tiny_llama: Path
) -> None:
    config = write_project(tmp_path, tiny_llama, lora={"target_modules": ["nothing"]})
    write_rows(tmp_path / "train.jsonl", rows(range(90, 110)))
    events: list[Event] = []
    with listening(events.append), pytest.raises(LeakError):
        require_clean(config, rehearse=False)
    assert any("also found (trainable): nothing would be trained" in n for n in notes(events))


def test_the_gate_lets_a_clean_configuration_through(tmp_path: Path, tiny_llama: Path) -> None:
    config = write_project(tmp_path, tiny_llama)
    assert not require_clean(config, rehearse=False).cached
    assert require_clean(config, rehearse=False).cached
    assert not flight_check(config, rehearse=False, fresh=True).cached


def test_an_adapter_is_nothing_to_start_from(tmp_path: Path, tiny_llama: Path) -> None:
    adapter = random_adapter(resolve(str(tiny_llama)), tmp_path / "adapter")
    config = adapter / "adapter_config.json"
    config.write_text(config.read_text().replace('"tiny-llama"', f'"{tiny_llama}"'))
    report = flight_check(write_project(tmp_path, adapter), rehearse=False)
    assert (report.exit_code, report.findings[0].check) == (5, "model")
    assert "export/NAME@vN" in str(report.findings[0].fix)


def test_gguf_is_asked_for_where_it_is_published_and_nowhere_else(
    tmp_path: Path, tiny_llama: Path
) -> None:
    plain = write_project(tmp_path / "plain", tiny_llama)
    names = [result.check for result in flight_check(plain, rehearse=False).results]
    assert "gguf" not in names
    publish = {"repo": "you/it", "hub": "local", "format": "gguf", "quantization": "q8_0"}
    asked = write_project(tmp_path / "asked", tiny_llama, publish=publish)
    report = flight_check(asked, rehearse=False)
    states = {result.check: result.state for result in report.results}
    assert list(states)[-3:] == ["merge", "gguf", "publish"]
    assert states["gguf"] == "skipped"
    assert [what for _, _, what in report.facts["planned"]][2] == "GGUF files"


def test_a_conversion_to_gguf_is_rehearsed_with_its_size_and_time(
    tmp_path: Path, tiny_llama: Path
) -> None:
    publish = {"repo": "you/it", "hub": "local", "format": "gguf", "quantization": "f16"}
    report = flight_check(write_project(tmp_path, tiny_llama, publish=publish))
    assert report.findings == ()
    told = {result.check: result.detail for result in report.results}
    assert told["gguf"].startswith("f16: 0.1 MB in ")
    assert report.facts["gguf"]["f16"]["bytes"] > 50_000
