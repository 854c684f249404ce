from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import nexa
from nexa.core.hardware import this_machine
from nexa.core.identity import canonical_json, sha256_bytes, sha256_file
from nexa.orchestrate.provenance import (
    code_digest,
    library_versions,
    next_run_id,
    opening_facts,
    versions_of,
)

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_a_manifest_opens_with_machine_code_and_libraries(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("model: {path: m}\n")
    facts = opening_facts(START, run_type="train", config_path=config, ledger=tmp_path)
    assert facts.run_id.startswith("2026-01-02-030405-")
    assert (facts.run_type, facts.status) == ("train", "running")
    assert facts.nexa_version == nexa.__version__
    assert facts.config_sha256 == sha256_file(config)
    assert facts.machine == this_machine().to_json() | {
        "memory_bytes": facts.machine["memory_bytes"]
    }
    assert facts.hostname
    assert facts.code_digest == code_digest()
    assert facts.lock_digest == sha256_bytes(canonical_json(facts.versions))


def test_a_run_without_a_config_has_no_digest_of_one(tmp_path: Path) -> None:
    facts = opening_facts(START, run_type="eval", config_path=None, ledger=tmp_path)
    assert facts.config_sha256 is None


def test_runs_of_one_second_sort_in_the_order_in_which_they_began(tmp_path: Path) -> None:
    names = []
    for _ in range(5):
        names.append(next_run_id(START, tmp_path))
        (tmp_path / f"{names[-1]}.json").touch()
    assert sorted(set(names)) == names
    assert next_run_id(START.replace(second=6), tmp_path) > names[-1]


def test_runs_of_two_projects_have_two_names(tmp_path: Path) -> None:
    assert len({next_run_id(START, tmp_path / "empty") for _ in range(8)}) > 1


def test_the_code_s_digest_is_over_every_source_file() -> None:
    root = Path(nexa.__file__).parent
    files = {str(p.relative_to(root)): sha256_file(p) for p in sorted(root.rglob("*.py"))}
    assert "orchestrate/provenance.py" in files
    assert code_digest() == sha256_bytes(canonical_json(files))


def test_the_libraries_are_those_that_nexa_needs_with_their_versions() -> None:
    versions = library_versions()
    assert versions["torch"] == version("torch")
    assert versions["transformers"] == version("transformers")
    assert "pytest" not in versions
    assert list(versions) == sorted(versions)


def test_extras_and_what_is_not_installed_are_left_out() -> None:
    asked = ["torch>=2", "pytest; extra == 'test'", "no-such-package-anywhere", "click"]
    assert versions_of(asked) == {"click": version("click"), "torch": version("torch")}
