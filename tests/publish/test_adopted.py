"""A publication of a model that Nexa did not train: honest, whole, and as hard to forge as any."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nexa.core.errors import GateError, IntegrityError
from nexa.core.events import Event, listening
from nexa.publish import layout
from nexa.publish.card import render_card
from nexa.publish.gate import check_gate
from nexa.publish.hub_folder import HubFolder
from nexa.publish.publish import PublishSpec, publish
from nexa.publish.records import read_records
from nexa.publish.verify import verify_folder
from tests.publish.conftest import REPO, Publication
from tests.support.adopted import build_adopted
from tests.support.chain import Chain
from tests.support.project import notes

UNKNOWN = "training data unknown to Nexa: contamination was not checked"


@pytest.fixture(scope="session")
def adapter(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    return build_adopted(tmp_path_factory.mktemp("adapter"), tiny_llama)


@pytest.fixture(scope="session")
def whole(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    return build_adopted(tmp_path_factory.mktemp("whole"), tiny_llama, full=True)


def placed(chain: Chain, hub: Path, **choices: Any) -> Path:
    spec = PublishSpec(repo=REPO, target=HubFolder(hub), **choices)
    publish(spec, **chain.records, manifest=chain.manifest, store=chain.store)
    return hub / REPO


@pytest.fixture(scope="session")
def _theirs(adapter: Chain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return placed(adapter, tmp_path_factory.mktemp("hub"))


@pytest.fixture
def theirs(_theirs: Path, tmp_path: Path) -> Publication:
    return Publication(shutil.copytree(_theirs, tmp_path / "published"))


# -- what it says --------------------------------------------------------------------------------


def test_it_is_whole_and_says_what_nobody_could_look_for(theirs: Publication) -> None:
    verify_folder(theirs.folder)
    card = (theirs.folder / layout.CARD).read_text()
    assert "A LoRA adapter on `tiny-llama` that Nexa did not train" in card
    assert card.count("raining data unknown to Nexa: contamination was not checked") == 3
    assert "| training data, settings and cost | unknown to Nexa |" in card
    assert "| step | 60, by the word of the Trainer that saved it |" in card
    assert "| left out | README.md |" in card
    assert "The adapter alone, on its base (tiny-llama)" in card
    assert "trained on" not in card.replace("rows of the suite were trained on", "")
    header = theirs.lines()[0]
    assert "dataset" not in header["roles"]
    assert header["card_version"] == "adopted/1"
    assert (theirs.folder / "adapter" / "adapter_model.safetensors").is_file()
    assert "tiny-llama" in (theirs.folder / "adapter" / "adapter_config.json").read_text()


def test_whole_weights_are_published_as_they_were_found(whole: Chain, tmp_path: Path) -> None:
    folder = placed(whole, tmp_path)
    verify_folder(folder)
    card = (folder / layout.CARD).read_text()
    assert "A whole model, compared with `tiny-llama`, that Nexa did not train" in card
    assert "| kind | a whole model, its files as they were found |" in card
    assert "nothing shows what training made of the base" in card
    assert "| left out | nothing |" in card
    found = whole.records["checkpoint"].body.found
    listed = layout.read_sums((folder / layout.SUMS).read_bytes()) or {}
    assert {name: listed[name] for name in found} == found
    assert not (folder / "adapter").exists()
    with pytest.raises(GateError, match="there is no adapter"):
        placed(whole, tmp_path / "other", merge_adapters=False)


def test_a_dequantised_base_is_named_and_no_more_is_claimed(
    theirs: Publication,
) -> None:
    def dequantised(record: dict[str, Any]) -> None:
        record["body"]["base"]["quantisation"] = "Q4_1"
        record["body"]["trainer_step"] = None

    theirs.forge_record("checkpoint", dequantised)
    card = render_card(read_records((theirs.folder / layout.RECORDS).read_bytes()))
    assert "dequantised from Q4_1; whether the adapter was trained on such a copy" in card
    assert "| step |" not in card


def test_the_adapter_alone_can_be_published(adapter: Chain, tmp_path: Path) -> None:
    folder = placed(adapter, tmp_path, merge_adapters=False)
    verify_folder(folder)
    assert not (folder / "model.safetensors").exists()


def test_the_gate_says_it_too(adapter: Chain) -> None:
    events: list[Event] = []
    with listening(events.append):
        check_gate(adapter.records)
    assert notes(events) == [UNKNOWN]


# -- what it cannot be made to say ---------------------------------------------------------------


def refused(publication: Publication) -> str:
    with pytest.raises(IntegrityError) as caught:
        verify_folder(publication.folder)
    return str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors",
        "adapter/adapter_model.safetensors",
        "README.md",
        "nexa/answers_tuned.jsonl",
        "nexa/records.jsonl",
        "nexa/manifest.json",
    ],
)
def test_a_flipped_byte_is_found_and_named(theirs: Publication, name: str) -> None:
    path = theirs.folder / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert name in refused(theirs)


def edit_card(theirs: Publication) -> None:
    theirs.edit("README.md", "| training data, settings and cost | unknown to Nexa |", "")
    theirs.refresh_hashes()


def edit_verdict(theirs: Publication) -> None:
    theirs.forge_record("report", lambda record: record["body"].update(verdict="improved!"[:8]))
    theirs.forge_record("report", lambda record: record["body"].update(forgetting_nats=-1.0))


def claim_clean_rows(theirs: Publication) -> None:
    theirs.forge_record("report", lambda record: record["body"].update(contaminated_rows=[]))


def claim_a_dataset(theirs: Publication) -> None:
    theirs.edit("nexa/manifest.json", '"dataset_id": null', '"dataset_id": "clean@v1"')
    theirs.refresh_hashes()


def claim_tokens(theirs: Publication) -> None:
    theirs.edit("nexa/manifest.json", '"tokens_trained": 0', '"tokens_trained": 5000')
    theirs.refresh_hashes()


def claim_another_card(theirs: Publication) -> None:
    header, *records = theirs.lines()
    theirs.write_lines([{**header, "card_version": "1"}, *records])
    theirs.refresh_hashes()


def name_a_dataset_role(theirs: Publication) -> None:
    header, *records = theirs.lines()
    roles = {**header["roles"], "dataset": header["roles"]["suite"]}
    theirs.write_lines([{**header, "roles": roles}, *records])
    theirs.refresh_hashes()


def claim_another_adapter(theirs: Publication) -> None:
    theirs.forge_record("export", lambda record: record["inputs"].update(checkpoint="0" * 64))


@pytest.mark.parametrize(
    ("forge", "told"),
    [
        (edit_card, "it was edited"),
        (edit_verdict, "forgetting_nats of the report does not follow"),
        (claim_clean_rows, "looked for contamination in rows that are unknown"),
        (claim_a_dataset, "dataset_id is clean@v1, the records say None"),
        (claim_tokens, "tokens_trained is 5000, the records say 0"),
        (claim_another_card, "is for other models"),
        (name_a_dataset_role, "the roles are"),
        (claim_another_adapter, "the export was not made from this checkpoint"),
    ],
)
def test_a_forger_who_refreshes_every_hash_is_found(
    theirs: Publication, forge: Callable[[Publication], None], told: str
) -> None:
    forge(theirs)
    assert told in refused(theirs)


def test_a_run_of_nexa_s_own_is_never_without_its_dataset(publication: Publication) -> None:
    header, *records = publication.lines()
    roles = {role: digest for role, digest in header["roles"].items() if role != "dataset"}
    publication.write_lines([{**header, "roles": roles}, *records])
    publication.refresh_hashes()
    assert "the roles are" in refused(publication)


def test_a_run_of_nexa_s_own_is_never_unchecked(publication: Publication) -> None:
    def unchecked(record: dict[str, Any]) -> None:
        record["body"]["contaminated_rows"] = None

    publication.forge_record("report", unchecked)
    assert "contamination was not checked" in refused(publication)


def test_a_report_on_another_dataset_is_found(publication: Publication) -> None:
    def elsewhere(record: dict[str, Any]) -> None:
        record["inputs"]["dataset"] = json.loads(json.dumps(record["inputs"]["suite"]))

    publication.forge_record("report", elsewhere)
    assert "looked for contamination in another dataset" in refused(publication)
