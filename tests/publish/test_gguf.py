"""A publication as GGUF: what lies in the folder, what its card says, and what is found in it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from transformers import AutoTokenizer

from nexa.core.errors import GateError, IntegrityError
from nexa.core.records import Artifact
from nexa.publish import layout
from nexa.publish.card import render_card
from nexa.publish.gate import check_gate
from nexa.publish.hub_folder import HubFolder, folder_files
from nexa.publish.publish import PublishSpec, publish
from nexa.publish.records import read_records
from nexa.publish.verify import absent, inspect_folder, verify_folder
from tests.publish.conftest import REPO, Publication
from tests.support.adopted import build_adopted
from tests.support.chain import Chain, with_gguf

QUANTIZATIONS = ("q8_0", "f16")
Records = dict[str, Artifact[Any]]


@pytest.fixture(scope="session")
def quantised(chain: Chain, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    return with_gguf(chain, tmp_path_factory.mktemp("gguf"), *QUANTIZATIONS)


def placed(chain: Chain, hub: Path, **choices: Any) -> Path:
    spec = PublishSpec(repo=REPO, target=HubFolder(hub), **{"format": "gguf", **choices})
    publish(spec, **chain.records, manifest=chain.manifest, store=chain.store)
    return hub / REPO


@pytest.fixture(scope="session")
def _gguf(quantised: Chain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return placed(quantised, tmp_path_factory.mktemp("hub"))


@pytest.fixture
def gguf(_gguf: Path, tmp_path: Path) -> Publication:
    return Publication(shutil.copytree(_gguf, tmp_path / "published"))


def weights(chain: Chain, role: str) -> str:
    return next(file for file in chain.records[role].files if file.endswith(".gguf"))


# -- what lies there -----------------------------------------------------------------------------


def test_the_gguf_files_stand_where_the_merged_weights_stood(
    gguf: Publication, quantised: Chain
) -> None:
    names = set(folder_files(gguf.folder))
    first, second = weights(quantised, "gguf1"), weights(quantised, "gguf2")
    assert {first, second, "Modelfile", "Modelfile.f16", "config.json"} <= names
    assert {"nexa/parity.json", "nexa/parity_q8_0.json", "nexa/parity_f16.json"} <= names
    assert "adapter/adapter_model.safetensors" in names
    assert not any(name.startswith("model") for name in names)
    assert first in (gguf.folder / "Modelfile").read_text()
    assert second in (gguf.folder / "Modelfile.f16").read_text()
    assert AutoTokenizer.from_pretrained(gguf.folder).chat_template


def test_ollama_is_told_on_the_hub_what_the_modelfile_says(gguf: Publication) -> None:
    modelfile = (gguf.folder / "Modelfile").read_text()
    assert f'TEMPLATE """{(gguf.folder / "template").read_text()}"""' in modelfile
    parameters = json.loads((gguf.folder / "params").read_text())
    assert "<|im_end|>" in parameters["stop"]
    assert f"PARAMETER num_ctx {parameters['num_ctx']}\n" in modelfile
    gguf.edit("params", "<|im_end|>", "<|im_start|>")
    gguf.refresh_hashes()
    assert bad_files(gguf.folder) == {"params"}
    (gguf.folder / "params").unlink()
    gguf.refresh_hashes()
    assert "params: does not follow from Modelfile" in refused(gguf)


def test_what_was_evaluated_and_is_not_shipped_is_named_with_its_digest(
    gguf: Publication, quantised: Chain
) -> None:
    verify_folder(gguf.folder)
    export = quantised.records["export"]
    assert absent(gguf.folder) == {"model.safetensors": export.files["model.safetensors"]}
    card = (gguf.folder / layout.CARD).read_text()
    assert f"| `model.safetensors` | `{export.files['model.safetensors']}` |" in card


def test_a_folder_of_safetensors_lacks_nothing(publication: Publication) -> None:
    assert absent(publication.folder) == {}


# -- what the card says --------------------------------------------------------------------------


def test_the_card_says_that_the_scores_are_not_of_the_gguf_files(
    gguf: Publication, quantised: Chain
) -> None:
    card = (gguf.folder / layout.CARD).read_text()
    assert "scores of the merged safetensors model (bfloat16), not of a GGUF file.**" in card
    assert "fine-tuned (a LoRA adapter, merged, as GGUF)" in card
    checks = {c["name"]: c["value"] for c in quantised.records["gguf1"].body.parity["checks"]}
    row = next(line for line in card.splitlines() if line.startswith("| `tiny-"))
    assert f"| {checks['kl_nats']:.3g} | {checks['top1']:.3g} |" in row
    assert f"### Parity of `{weights(quantised, 'gguf2')}`" in card


def test_the_card_says_how_the_files_are_run(gguf: Publication, quantised: Chain) -> None:
    card = (gguf.folder / layout.CARD).read_text()
    assert f"ollama run hf.co/{REPO}:Q8_0\n" in card
    assert f"llama-cli -hf {REPO}:Q8_0\n" in card
    assert f"llama-cli -m {weights(quantised, 'gguf1')}\n" in card
    assert "ollama create elements -f Modelfile && ollama run elements\n" in card
    assert "the others have `Modelfile.f16`" in card
    assert "AutoModelForCausalLM.from_pretrained(BASE)" in card
    assert "or the path of this folder" not in card


def test_the_hub_is_told_what_it_would_guess_wrong(gguf: Publication) -> None:
    _, block, _ = (gguf.folder / layout.CARD).read_text().split("---\n", 2)
    found = YAML(typ="safe").load(block)
    assert (found["library_name"], found["base_model_relation"]) == ("gguf", "finetune")
    assert found["tags"] == ["nexa", "lora", "gguf"]


def test_what_a_proof_did_not_measure_is_said_and_what_is_stored_otherwise(
    gguf: Publication,
) -> None:
    def unmeasured(record: dict[str, Any]) -> None:
        fallbacks = {"blk.0.ffn_down.weight": "rows of 90"}
        record["body"]["parity"] |= {"checks": [], "fallbacks": fallbacks}

    gguf.forge_record("gguf1", unmeasured)
    card = render_card(read_records((gguf.folder / layout.RECORDS).read_bytes()))
    assert "| q8_0 | not measured | not measured | not measured | not measured |" in card
    assert card.count("| in another type | why |") == 1
    assert "| `blk.0.ffn_down.weight` | rows of 90 |" in card


def test_a_quantised_training_does_not_point_at_weights_that_are_elsewhere(
    gguf: Publication,
) -> None:
    def on_four_bits(record: dict[str, Any]) -> None:
        record["body"] |= {"quantization": "nf4", "double_quantization": True}

    gguf.forge_record("checkpoint", on_four_bits)
    card = render_card(read_records((gguf.folder / layout.RECORDS).read_bytes()))
    assert "behave a little differently." in card
    assert "merged weights above" not in card


def test_one_file_has_one_modelfile(
    chain: Chain, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = placed(with_gguf(chain, tmp_path, "q4_0"), tmp_path / "hub")
    assert [path.name for path in folder.glob("Modelfile*")] == ["Modelfile"]
    assert "the others have" not in (folder / layout.CARD).read_text()
    verify_folder(folder)


def test_a_whole_model_from_elsewhere_can_be_gguf_too(tiny_llama: Path, tmp_path: Path) -> None:
    theirs = build_adopted(tmp_path / "theirs", tiny_llama, full=True)
    folder = placed(with_gguf(theirs, tmp_path, "q8_0"), tmp_path / "hub")
    verify_folder(folder)
    card = (folder / layout.CARD).read_text()
    assert "it was found as files, evaluated and published as GGUF." in card
    assert "peft" not in card


# -- what is refused -----------------------------------------------------------------------------


def changed(chain: Chain, role: str, edit: Callable[[Artifact[Any]], Artifact[Any]]) -> Records:
    return {**chain.records, role: edit(chain.records[role])}


def body(**changes: Any) -> Callable[[Artifact[Any]], Artifact[Any]]:
    return lambda gguf: replace(gguf, body=gguf.body.model_copy(update=changes))


def of_another_export(gguf: Artifact[Any]) -> Artifact[Any]:
    return replace(gguf, inputs={"export": "0" * 64})


def without_proof(gguf: Artifact[Any]) -> Artifact[Any]:
    return replace(gguf, files={k: v for k, v in gguf.files.items() if k != layout.PARITY})


def named_like_the_first(gguf: Artifact[Any]) -> Artifact[Any]:
    return body(dtype="q8_0")(gguf)


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (body(passed=False), r"gguf2 \(f16\) failed its parity checks"),
        (without_proof, r"gguf2 \(f16\) has no parity\.json"),
        (of_another_export, r"gguf2 \(f16\) was not made from the evaluated export"),
        (body(format="safetensors"), r"gguf2 \(f16\) is not one GGUF file"),
        (named_like_the_first, "two GGUF files have one name"),
    ],
)
def test_a_gguf_file_without_its_evidence_is_not_published(
    quantised: Chain, edit: Callable[[Artifact[Any]], Artifact[Any]], told: str
) -> None:
    check_gate(quantised.records)
    with pytest.raises(GateError, match=told):
        check_gate(changed(quantised, "gguf2", edit))


def test_format_and_files_belong_together(chain: Chain, quantised: Chain, tmp_path: Path) -> None:
    with pytest.raises(GateError, match="as gguf") as refused:
        placed(chain, tmp_path)
    assert refused.value.found == "0 GGUF files"
    with pytest.raises(GateError, match="as safetensors"):
        placed(quantised, tmp_path, format="safetensors")


# -- what cannot be changed ----------------------------------------------------------------------


def bad_files(folder: Path) -> set[str]:
    return {name for check in inspect_folder(folder) for name, _ in check.problems}


def refused(publication: Publication) -> str:
    with pytest.raises(IntegrityError) as caught:
        verify_folder(publication.folder)
    return str(caught.value)


@pytest.mark.parametrize("place", [0.0, 0.5, 1.0], ids=["first", "middle", "last"])
def test_one_flipped_byte_in_any_file_is_found_and_the_file_named(
    gguf: Publication, place: float
) -> None:
    for name, path in folder_files(gguf.folder).items():
        whole = path.read_bytes()
        spoiled = bytearray(whole)
        spoiled[round(place * (len(whole) - 1))] ^= 1
        path.write_bytes(spoiled)
        assert bad_files(gguf.folder) == {name}
        path.write_bytes(whole)
    verify_folder(gguf.folder)


def test_the_gguf_file_of_another_model_is_found_though_all_hashes_were_refreshed(
    gguf: Publication, quantised: Chain, tiny_llama: Path, tmp_path: Path
) -> None:
    other = with_gguf(build_adopted(tmp_path / "other", tiny_llama, full=True), tmp_path, "q8_0")
    name, theirs = weights(quantised, "gguf1"), weights(other, "gguf1")
    shutil.copyfile(other.store.path(other.records["gguf1"], theirs), gguf.folder / name)
    gguf.refresh_hashes()
    assert bad_files(gguf.folder) == {name}
    assert f"{name}: is not {name} of export/" in refused(gguf)


def claim_other_files(gguf: Publication) -> None:
    """Another file, and its digest in the record too."""

    def forge(record: dict[str, Any]) -> None:
        record["files"] = {
            name: "0" * 64 if name.endswith(".gguf") else digest
            for name, digest in record["files"].items()
        }

    gguf.forge_record("gguf1", forge)


def claim_other_weights(gguf: Publication) -> None:
    gguf.forge_record(
        "export", lambda record: record["files"].update({"model.safetensors": "0" * 64})
    )


def claim_another_origin(gguf: Publication) -> None:
    gguf.forge_record("gguf1", lambda record: record["inputs"].update(export="0" * 64))


def claim_another_proof(gguf: Publication) -> None:
    gguf.edit("nexa/parity_f16.json", '"passed": true', '"passed": false')
    gguf.refresh_hashes()


def claim_safetensors(gguf: Publication) -> None:
    header, *records = gguf.lines()
    del header["format"]
    gguf.write_lines([header, *records])
    gguf.refresh_hashes()


def drop_a_number(gguf: Publication) -> None:
    gguf.edit("README.md", "not of a GGUF file", "and of the GGUF files")
    gguf.refresh_hashes()


@pytest.mark.parametrize(
    ("forge", "told"),
    [
        (claim_other_files, "is not that of its files"),
        (claim_other_weights, "is not that of its files"),
        (claim_another_origin, "gguf1 (q8_0) was not made from the evaluated export"),
        (claim_another_proof, "nexa/parity_f16.json: tells other numbers"),
        (claim_safetensors, "the format is safetensors with 2 GGUF files"),
        (drop_a_number, "README.md: does not follow"),
    ],
)
def test_a_forger_who_refreshes_every_hash_is_found(
    gguf: Publication, forge: Callable[[Publication], None], told: str
) -> None:
    forge(gguf)
    assert told in refused(gguf)


def test_a_run_that_made_other_gguf_files_is_no_contradiction(
    quantised: Chain, tmp_path: Path
) -> None:
    outputs = {**quantised.manifest["outputs"], "gguf1": "0" * 64}
    later = replace(quantised, manifest={**quantised.manifest, "outputs": outputs})
    folder = placed(later, tmp_path)
    assert json.loads((folder / layout.MANIFEST).read_text())["outputs"]["gguf1"] == "0" * 64
    verify_folder(folder)
