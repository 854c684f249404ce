"""Publishing a merge of models: like a whole model that was found, but its parents are known."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from nexa.core.config import PublishSection
from nexa.core.errors import GateError, IntegrityError, ModelError, UsageError
from nexa.core.records import Artifact, Draft, ExportBody, ModelRef, PublicationBody
from nexa.core.tiers import Tiers
from nexa.lm.resolve import ModelFiles, resolve
from nexa.orchestrate.merge import Numbers
from nexa.orchestrate.merge import Request as MergeRequest
from nexa.orchestrate.merge import merge as merge_models
from nexa.orchestrate.publishing.preview import preview
from nexa.orchestrate.publishing.publish import Request, publish
from nexa.orchestrate.publishing.source import detect
from nexa.publish.verify import verify_folder
from tests.publish.conftest import Publication
from tests.support.chain import seal
from tests.support.foreign import full_model, peft_adapter
from tests.support.project import Finished, rows, write_rows

WAIVED = ("worse", "forgetting")
RECIPE = {"method": "linear", "parameters": {"weight": [0.5, 0.5]}}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_rows(tmp_path / "held_out.jsonl", rows(range(100, 104)))
    return tmp_path


def sealed_export(
    root: Path, name: str, model: ModelFiles, base: ModelRef, step: str, **facts: Any
) -> Artifact[Any]:
    """A whole model as a step of the table seals one; its proof is made up."""
    inputs = facts.pop("inputs", {})
    body = ExportBody(
        **{"format": "safetensors", "dtype": "float32", "passed": True, **facts},
        base=base,
        model_digest=model.digest,
        parity={"passed": True, "checks": []},
    )
    files: dict[str, bytes | Path] = {file: model.folder / file for file in model.files}
    draft = Draft("export", name, body, {**files, "parity.json": b"{}"})
    return seal(Tiers.of(root).store, step, draft, **inputs)


@pytest.fixture
def merge(root: Path, tiny_llama: Path) -> Artifact[Any]:
    """A merge of two models, the first of which it began from."""
    base = resolve(str(tiny_llama), project=root)
    other = resolve(str(full_model(root / "other", tiny_llama, seed=5)), project=root)
    child = resolve(str(full_model(root / "child", tiny_llama)), project=root)
    parents = [base.ref, other.ref]
    return sealed_export(
        root, "merged", child, base.ref, "merge_models", parents=parents, recipe=RECIPE
    )


def published(root: Path, model: Path | str, **more: Any) -> Artifact[PublicationBody]:
    section = PublishSection(repo="you/merged", hub="local", **more.pop("section", {}))
    asked = {"eval_data": root / "held_out.jsonl", "allow": WAIVED}
    return publish(Request(section, model, **asked | more), Tiers.of(root))


@pytest.mark.parametrize("named", ["by its record", "by its folder"])
def test_its_card_names_all_parents_and_the_recipe(
    root: Path, merge: Artifact[Any], named: str
) -> None:
    model = merge.label if named == "by its record" else root / "child"
    folder = Path(published(root, model).body.location)
    verify_folder(folder)
    card = (folder / "README.md").read_text()
    assert "A merge of `tiny-llama`, `other`, compared with `tiny-llama`, evaluated" in card
    assert 'base_model_relation: "merge"' in card
    assert '- "other"' in card
    assert '- "merge"' in card
    assert '  "method": "linear",' in card
    assert "| base named by | the record of export/merged@v1 |" in card
    assert "that the merge is what its recipe says was proved when it was made" in card
    again = published(root, merge.label)
    assert Path(again.body.location) == folder
    assert again.body.root in (folder / "nexa" / "ROOT").read_text()


def test_a_record_that_tells_of_other_parents_is_found(root: Path, merge: Artifact[Any]) -> None:
    publication = Publication(Path(published(root, merge.label).body.location))

    def forge(record: dict[str, Any]) -> None:
        record["body"]["parents"] = record["body"]["parents"][:1]

    publication.forge_record("export", forge)
    with pytest.raises(IntegrityError, match="tells of other parents than were merged"):
        verify_folder(publication.folder)


def test_it_needs_rows_and_no_base(root: Path, merge: Artifact[Any]) -> None:
    with pytest.raises(GateError, match="has no report") as refused:
        published(root, merge.label, eval_data=None)
    assert refused.value.fix is not None
    assert refused.value.fix.endswith("--eval-data FILE")
    section = PublishSection(repo="you/merged", hub="local", format="gguf")
    seen = preview(Request(section, merge.label), Tiers.of(root))
    assert "model.safetensors" in seen.files
    assert "parity.json" not in seen.files
    assert any("then converted to GGUF (q8_0)" in note for note in seen.notes)


def test_another_base_can_be_named(root: Path, merge: Artifact[Any]) -> None:
    folder = Path(published(root, merge.label, base_model=str(root / "other")).body.location)
    assert "| base named by | --base-model |" in (folder / "README.md").read_text()


def test_a_base_that_is_gone_is_asked_for(root: Path, tiny_llama: Path) -> None:
    child = resolve(str(full_model(root / "child", tiny_llama)), project=root)
    gone = ModelRef(name="gone", origin="folder", digest="0" * 64)
    made = sealed_export(root, "merged", child, gone, "merge_models", parents=[gone, child.ref])
    with pytest.raises(ModelError) as refused:
        published(root, made.label)
    assert refused.value.fix == "--base-model MODEL, where gone is now"


def test_another_form_of_a_model_is_published_as_what_it_was_made_from(
    root: Path, merge: Artifact[Any], tiny_llama: Path
) -> None:
    tiers, other = Tiers.of(root), resolve(str(full_model(root / "half", tiny_llama, seed=9)))
    half = sealed_export(root, "half", other, merge.body.base, "convert", inputs={"export": merge})
    for reference in (half.label, str(root / "half")):
        with pytest.raises(UsageError, match="is another form of a model, in float32") as refused:
            detect(reference, tiers)
        assert refused.value.fix == f"nexa publish {merge.label}"
    gguf = sealed_export(
        root, "q", other, merge.body.base, "convert", inputs={"export": merge}, format="gguf"
    )
    with pytest.raises(UsageError, match=f"{gguf.label} is a GGUF file") as refused:
        detect(gguf.label, tiers)
    assert refused.value.fix == f"nexa publish {merge.label} --format gguf"
    alone = sealed_export(root, "p", other, merge.body.base, "convert", format="gguf")
    with pytest.raises(UsageError, match="is a GGUF file"):
        detect(alone.label, tiers)


def test_a_conversion_of_what_has_no_record_is_a_whole_model(root: Path, tiny_llama: Path) -> None:
    other = resolve(str(full_model(root / "half", tiny_llama, seed=9)))
    half = sealed_export(root, "half", other, other.ref, "convert")
    assert detect(half.label, Tiers.of(root)).said == f"{half.label}, a whole model"
    with pytest.raises(UsageError, match="is to be compared with"):
        published(root, half.label)


def test_the_output_of_a_run_is_known_without_its_card(project: Finished) -> None:
    folder = shutil.copytree(project.root / "output", project.root / "copy")
    (folder / "final_model.json").unlink()
    shutil.rmtree(folder / "adapter")
    found = detect(str(folder), project.tiers)
    assert found.manifest is not None
    assert found.manifest.run_id == project.manifest.run_id


def test_a_second_merge_of_a_checkpoint_is_not_what_was_evaluated(project: Finished) -> None:
    first = project.tiers.store.by_digest(project.manifest.outputs["export"])
    checkpoint = project.tiers.store.by_digest(project.manifest.outputs["checkpoint"])
    model = resolve(first.label, project=project.root)
    again = sealed_export(
        project.root, "again", model, first.body.base, "merge", inputs={"checkpoint": checkpoint}
    )
    with pytest.raises(UsageError, match="is another form") as refused:
        detect(again.label, project.tiers)
    assert refused.value.fix == f"nexa publish {project.manifest.run_id}"


def test_a_gguf_file_alone_is_refused_with_the_way_to_go(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    for reference in (tmp_path, tmp_path / "m.gguf"):
        with pytest.raises(UsageError, match="is a GGUF file") as refused:
            detect(str(reference), Tiers.of(tmp_path))
        assert refused.value.fix == "nexa publish MODEL --format gguf"


# -- adapters ------------------------------------------------------------------------------------


def test_a_merge_of_adapters_is_published_with_what_went_into_it(
    root: Path, tiny_llama: Path
) -> None:
    adapters = [str(peft_adapter(root / name, tiny_llama, seed=ord(name))) for name in "ab"]
    request = MergeRequest(
        tuple(adapters), root / "both", Numbers(method="linear"), base_model=str(tiny_llama)
    )
    made = merge_models(request, root).artifact
    folder = Path(published(root, root / "both").body.location)
    verify_folder(folder)
    card = (folder / "README.md").read_text()
    assert "An adapter on `tiny-llama` that others were merged into, evaluated and" in card
    assert "| 1 | `adopted/" in card
    assert '  "method": "linear",' in card
    again = detect(made.label, Tiers.of(root))
    assert f"{made.label}, an adapter that others were merged into, evaluated in run" in again.said
    assert published(root, made.label, eval_data=None).body.location == str(folder)


def test_a_real_merge_of_models_goes_all_the_way_to_gguf(root: Path, tiny_llama: Path) -> None:
    models = [str(full_model(root / name, tiny_llama, seed=ord(name))) for name in "ab"]
    request = MergeRequest(tuple(models), root / "both", Numbers(method="linear"))
    merge_models(request, root)
    section = {"format": "gguf"}
    folder = Path(published(root, root / "both", section=section).body.location)
    verify_folder(folder)
    card = (folder / "README.md").read_text()
    assert "A merge of `a`, `b`, compared with `a`, evaluated and published as GGUF." in card
    assert str(root) not in (folder / "nexa" / "records.jsonl").read_text()
