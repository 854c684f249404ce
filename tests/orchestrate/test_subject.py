from __future__ import annotations

from pathlib import Path

import pytest

from nexa.core.errors import ModelError, UsageError
from nexa.core.tiers import Tiers
from nexa.lm.resolve import resolve
from nexa.orchestrate.adoption import trainer_step
from nexa.orchestrate.export import Request, export
from nexa.orchestrate.runner import run_step
from nexa.orchestrate.subject import detect
from nexa.weights.adopt import AdoptSpec
from tests.support.foreign import CONFIG, as_trainer_checkpoint, full_model, peft_adapter
from tests.support.project import Finished

NAME = "tiny-llama-elements"


@pytest.mark.parametrize(
    ("reference", "said", "adapter"),
    [
        ("latest", "what run {} made", False),
        (f"export/{NAME}", f"export/{NAME}@v1", False),
        (f"checkpoint/{NAME}", f"checkpoint/{NAME}@v1, merged before", True),
        ("./output", f"export/{NAME}@v1, by its files", False),
        ("./output/adapter", f"the adapter checkpoint/{NAME}@v1, merged before", True),
    ],
)
def test_what_is_named_is_told_apart(
    project: Finished, reference: str, said: str, adapter: bool
) -> None:
    found = detect(reference, project.tiers)
    assert found.said == said.format(project.manifest.run_id)
    assert found.is_adapter is adapter
    assert found.has_parts
    assert found.name == NAME
    assert found.export is not None
    assert found.digest == found.export.body.model_digest


def test_what_nobody_here_made_is_what_its_files_say(tmp_path: Path, tiny_llama: Path) -> None:
    tiers = Tiers.of(tmp_path)
    whole = detect(str(tiny_llama), tiers)
    assert (whole.said, whole.name) == ("a whole model (folder)", "tiny-llama")
    assert whole.model is not None
    assert whole.digest == whole.model.digest
    assert not whole.has_parts
    adapter = detect(str(peft_adapter(tmp_path / "An Adapter", tiny_llama)), tiers)
    assert (adapter.said, adapter.name) == ("an adapter", "an-adapter")
    assert (adapter.is_adapter, adapter.has_parts) == (True, True)
    assert len(adapter.digest) == 64


def test_a_checkpoint_that_is_not_merged_is_told_as_such(
    project: Finished,
) -> None:
    store = project.tiers.store
    for version in store.versions("export", NAME):
        (store.root / "names" / "export" / NAME / version).unlink()
    found = detect(f"checkpoint/{NAME}", project.tiers)
    assert found.said == f"checkpoint/{NAME}@v1, not merged yet"
    assert found.checkpoint is not None
    assert found.digest == found.checkpoint.digest


def test_the_record_of_a_whole_model_that_was_found_has_nothing_to_merge(
    tmp_path: Path, tiny_llama: Path
) -> None:
    model = resolve(str(full_model(tmp_path / "full", tiny_llama)), project=tmp_path)
    base = resolve(str(tiny_llama), project=tmp_path)
    spec = AdoptSpec(base, "--base-model", model.files, model, name="found")
    run_step("adopt", spec, {}, store=Tiers.of(tmp_path).store)
    with pytest.raises(UsageError, match=r"adopted/found is .*: there is no adapter to merge"):
        export(Request("adopted/found", tmp_path / "out"), tmp_path)


def test_weights_as_pickles_are_refused(tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / CONFIG).write_text("{}")
    (tmp_path / "adapter" / "adapter_model.bin").write_bytes(b"\x80a pickle")
    with pytest.raises(ModelError, match=r"has no adapter_model\.safetensors") as refused:
        detect(str(tmp_path / "adapter"), Tiers.of(tmp_path))
    assert refused.value.found == f"{CONFIG}, adapter_model.bin"


def test_the_trainer_s_step_is_read_where_there_is_one(tmp_path: Path) -> None:
    assert trainer_step(tmp_path) is None
    assert trainer_step(as_trainer_checkpoint(tmp_path, step=7)) == 7
    (tmp_path / "trainer_state.json").write_text('{"global_step": "many"}')
    assert trainer_step(tmp_path) is None
