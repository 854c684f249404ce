from __future__ import annotations

from dataclasses import replace

import pytest

from nexa.core.records import Artifact, ExportBody
from nexa.orchestrate.exported import card, lineage_of, proof
from tests.support.project import Finished


@pytest.fixture
def export(project: Finished) -> Artifact[ExportBody]:
    found: Artifact[ExportBody] = project.tiers.store.get("export", "tiny-llama-elements")
    return found


def test_the_card_has_the_facts_of_the_record_and_no_place(
    project: Finished, export: Artifact[ExportBody]
) -> None:
    text = card(export, lineage_of(export, project.tiers.store))
    assert "| weights | bfloat16 |" in text
    assert f"| record | export/tiny-llama-elements@v1 ({export.digest[:16]}) |" in text
    assert f"| base | tiny-llama ({export.body.base.digest[:16]}) |" in text
    assert "KL divergence" in text
    assert "transformers import pipeline" in text
    assert str(project.root) not in text


def test_a_base_that_was_dequantised_is_told(export: Artifact[ExportBody]) -> None:
    base = export.body.base.model_copy(update={"quantisation": "Q4_1", "name": "a|b"})
    told = card(replace(export, body=export.body.model_copy(update={"base": base})), "")
    assert "| base was dequantised from | Q4_1 |" in told
    assert "a\\|b" in told


def test_the_lineage_is_a_line_without_the_rows_that_were_asked(
    project: Finished, export: Artifact[ExportBody]
) -> None:
    assert lineage_of(export, project.tiers.store).split(" \u2190 ") == [
        "export/tiny-llama-elements@v1",
        "checkpoint/tiny-llama-elements@v1",
        "dataset/elements@v1",
        "tiny-llama (folder)",
    ]


def test_a_proof_without_distances_is_a_count() -> None:
    checks = [{"name": "finite", "passed": True, "value": "all", "limit": "all"}]
    assert dict(proof({"checks": checks})) == {"proof": "1 of 1 checks passed (parity.json)"}
