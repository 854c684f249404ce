"""How a training went, read off what it sealed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nexa.core.manifest import RunManifest
from nexa.core.records import Draft
from nexa.core.tiers import Tiers
from nexa.lm.resolve import resolve
from nexa.orchestrate.run_facts import training_facts
from tests.support.chain import checkpoint_draft, seal
from tests.support.project import Finished


def facts_of(folder: Path, model: Path, resolved: dict[str, Any], **body: Any) -> dict[str, Any]:
    """The facts of a run whose checkpoint tells this."""
    tiers = Tiers.of(folder)
    draft = checkpoint_draft(resolve(str(model)), folder / "trained", **body)
    files = dict(draft.files) | {"resolved.json": json.dumps(resolved).encode()}
    whole = Draft(draft.kind, draft.name, draft.body, files)
    sealed = seal(tiers.store, "finetune", whole)
    run = RunManifest(run_id="a", run_type="train", outputs={"checkpoint": sealed.digest})
    return training_facts(run, tiers)


def test_what_happened_on_the_way_is_told(tmp_path: Path, tiny_llama: Path) -> None:
    resolved = {
        **{"total_steps": 9, "precision": "bfloat16", "threads": 2, "micro_tokens": 2048},
        "halvings": [{"step": 3, "from": 4096, "to": 2048, "why": "planted"}],
    }
    told = facts_of(
        tmp_path,
        tiny_llama,
        resolved,
        stopped="after step 5 of 9: time",
        best_step=4,
        validation_rows=32,
        rollbacks=["from step 3 to step 2: loss"],
        variant="dora",
    )
    assert told["steps"] == "5 of 9"
    assert (told["stopped"], told["best_step"]) == ("after step 5 of 9: time", 4)
    assert told["validation_rows"] == 32
    assert told["rollbacks"] == ["from step 3 to step 2: loss"]
    assert told["halvings"] == ["step 3: 4096 to 2048 tokens a pass"]
    assert (told["variant"], told["micro_tokens"]) == ("dora", 2048)
    assert "prefix" not in told
    assert "quantization" not in told


def test_a_run_without_training_or_without_its_store_has_no_facts(
    project: Finished, tmp_path: Path
) -> None:
    assert training_facts(project.manifest, project.tiers)["steps"] == "4 of 4"
    assert training_facts(project.manifest, Tiers.of(tmp_path / "elsewhere")) == {}
    nothing = project.manifest.model_copy(update={"outputs": {}})
    assert training_facts(nothing, project.tiers) == {}
