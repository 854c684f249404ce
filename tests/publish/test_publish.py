from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from nexa.core.errors import GateError, IntegrityError, UsageError
from nexa.core.events import Event, listening
from nexa.core.records import Draft, PublicationBody
from nexa.core.store import Store
from nexa.publish.hub import Placed
from nexa.publish.hub_folder import HubFolder, folder_files
from nexa.publish.publish import PublishSpec, publish, read_root_digest
from nexa.publish.verify import verify_folder
from tests.publish.conftest import REPO, Publication
from tests.support.chain import Chain, build_chain, seal

Files = Mapping[str, bytes | Path]


def published(chain: Chain, hub: Path, **choices: Any) -> Draft[PublicationBody]:
    spec = PublishSpec(repo=REPO, target=HubFolder(hub), **choices)
    return publish(spec, **chain.records, manifest=chain.manifest, store=chain.store)


def test_the_folder_has_the_published_layout_and_the_draft_names_all_of_it(
    chain: Chain, tmp_path: Path
) -> None:
    draft = published(chain, tmp_path / "hub")

    folder = tmp_path / "hub" / REPO
    assert set(draft.files) == {
        *("README.md", "config.json", "generation_config.json", "model.safetensors"),
        *("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"),
        *("adapter/adapter_model.safetensors", "adapter/adapter_config.json"),
        *("nexa/records.jsonl", "nexa/manifest.json", "nexa/SHA256SUMS", "nexa/ROOT"),
        *("nexa/scores_base.jsonl", "nexa/scores_tuned.jsonl", "nexa/parity.json"),
        *("nexa/answers_base.jsonl", "nexa/answers_tuned.jsonl", "nexa/prompts.jsonl"),
    }
    assert draft.body.location == str(folder)
    assert draft.body.root == read_root_digest(folder)
    sealed = seal(chain.store, "publish", draft)
    assert chain.store.verify(sealed) == []


def test_the_published_model_loads_with_plain_transformers_and_answers_as_it_was_merged(
    chain: Chain, publication: Publication, tmp_path: Path
) -> None:
    model = AutoModelForCausalLM.from_pretrained(publication.folder)
    tokenizer = AutoTokenizer.from_pretrained(publication.folder)

    turns = [{"role": "user", "content": "Give the record."}]
    prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt")
    answer = model.generate(**prompt, max_new_tokens=4, do_sample=False)
    export = chain.store.checkout(chain.records["export"], tmp_path / "export")
    merged = AutoModelForCausalLM.from_pretrained(export)
    expected = merged.generate(**prompt, max_new_tokens=4, do_sample=False)
    assert torch.equal(answer, expected)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_the_published_adapter_loads_with_plain_peft_and_agrees_with_the_merged_model(
    chain: Chain, publication: Publication
) -> None:
    base = AutoModelForCausalLM.from_pretrained(chain.base.folder, dtype=torch.float32)
    adapted = PeftModel.from_pretrained(base, publication.folder, subfolder="adapter")
    merged = AutoModelForCausalLM.from_pretrained(publication.folder, dtype=torch.float32)

    ids = torch.tensor([[1, 40, 41, 42]])
    with torch.inference_mode():
        assert torch.allclose(adapted(ids).logits, merged(ids).logits, atol=5e-3)


def test_what_names_the_machine_is_left_out(publication: Publication) -> None:
    for path in folder_files(publication.folder).values():
        assert b"a-host-nobody-should-see" not in path.read_bytes()


def test_the_same_evidence_is_published_once(chain: Chain, tmp_path: Path) -> None:
    first = published(chain, tmp_path)
    before = {name: path.stat().st_mtime_ns for name, path in first.files.items()}
    heard: list[Event] = []
    later = Chain(
        chain.store,
        chain.base,
        chain.records,
        {**chain.manifest, "run_id": "2026-09-09-000000-ffff"},
    )

    with listening(heard.append):
        second = published(later, tmp_path)

    assert second.body == first.body
    assert {name: path.stat().st_mtime_ns for name, path in second.files.items()} == before
    assert any("already published, nothing to do" in event.get("text", "") for event in heard)


def test_a_changed_choice_is_published_over_the_old_one(chain: Chain, tmp_path: Path) -> None:
    first = published(chain, tmp_path)
    second = published(chain, tmp_path, licence="mit")

    assert first.body.root != second.body.root
    assert 'license: "mit"' in (tmp_path / REPO / "README.md").read_text()


def test_a_spoiled_publication_is_made_whole_again(chain: Chain, tmp_path: Path) -> None:
    first = published(chain, tmp_path)
    (tmp_path / REPO / "config.json").write_text("{}")

    second = published(chain, tmp_path)

    assert second.body == first.body
    verify_folder(tmp_path / REPO)


def test_an_adapter_can_be_published_alone(chain: Chain, tmp_path: Path) -> None:
    draft = published(chain, tmp_path, merge_adapters=False)

    assert "model.safetensors" not in draft.files
    assert "adapter/adapter_model.safetensors" in draft.files
    card = (tmp_path / REPO / "README.md").read_text()
    assert 'library_name: "peft"' in card
    assert "AutoTokenizer" not in card
    verify_folder(tmp_path / REPO)


def test_a_publication_without_a_card_verifies(chain: Chain, tmp_path: Path) -> None:
    draft = published(chain, tmp_path, model_card=False)

    assert "README.md" not in draft.files
    verify_folder(tmp_path / REPO)


def test_a_fully_trained_model_is_published_without_an_adapter(
    tiny_llama: Path, tmp_path: Path
) -> None:
    chain = build_chain(tmp_path, tiny_llama, full=True)

    draft = published(chain, tmp_path / "hub")

    assert not any(name.startswith("adapter") for name in draft.files)
    card = (tmp_path / "hub" / REPO / "README.md").read_text()
    assert "| method | full |" in card
    assert "peft" not in card
    with pytest.raises(GateError, match="there is no adapter"):
        published(chain, tmp_path / "other", merge_adapters=False)


def test_a_worse_model_is_refused_unless_it_is_allowed(tiny_llama: Path, tmp_path: Path) -> None:
    chain = build_chain(tmp_path, tiny_llama, tuned_right=False)

    with pytest.raises(GateError, match="the verdict is worse"):
        published(chain, tmp_path / "hub")
    assert not (tmp_path / "hub").exists()

    published(chain, tmp_path / "hub", allow=("worse",))
    assert "**Verdict: worse.**" in (tmp_path / "hub" / REPO / "README.md").read_text()


def test_a_secret_in_an_answer_stops_the_publication_and_is_not_told(
    chain: Chain, tmp_path: Path
) -> None:
    secret = "hf_" + "Abcd" * 9
    manifest = {**chain.manifest, "versions": {"torch": secret}}
    spec = PublishSpec(repo=REPO, target=HubFolder(tmp_path))

    with pytest.raises(GateError, match="looks like a secret") as caught:
        publish(spec, **chain.records, manifest=manifest, store=chain.store)

    assert secret not in str(caught.value)
    assert "nexa/manifest.json line" in str(caught.value)
    assert not (tmp_path / REPO).exists()


class LossyHub(HubFolder):
    """A Hub that does not hold what it was given."""

    def publish(self, repo: str, files: Files, **options: Any) -> Placed:
        placed = super().publish(repo, files, **options)
        self.spoil(self.root / repo)
        return placed

    def spoil(self, folder: Path) -> None:
        shutil.rmtree(folder)


class FlippingHub(LossyHub):
    """A Hub that flips a byte."""

    def spoil(self, folder: Path) -> None:
        path = folder / "model.safetensors"
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


@pytest.mark.parametrize(
    ("hub", "told"),
    [
        (LossyHub, "is not there after it was published"),
        (FlippingHub, "model.safetensors: has other bytes"),
    ],
)
def test_nothing_counts_as_published_that_cannot_be_read_back_whole(
    chain: Chain, tmp_path: Path, hub: type[LossyHub], told: str
) -> None:
    spec = PublishSpec(repo=REPO, target=hub(tmp_path / "hub"), scratch=tmp_path / "scratch")
    (tmp_path / "scratch").mkdir()
    with pytest.raises(IntegrityError, match=told):
        publish(spec, **chain.records, manifest=chain.manifest, store=chain.store)
    assert not any((tmp_path / "scratch").iterdir())


def test_what_a_hub_adds_of_its_own_is_not_part_of_the_record(chain: Chain, tmp_path: Path) -> None:
    published(chain, tmp_path / "hub")
    (tmp_path / "hub" / REPO / ".gitattributes").write_text("*.safetensors filter=lfs\n")
    draft = published(chain, tmp_path / "hub")
    assert ".gitattributes" not in draft.files
    assert "config.json" in draft.files


def test_a_gap_in_the_lineage_is_refused(chain: Chain, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    shutil.copytree(chain.store.root, store.root)
    (store.root / "records" / "suite" / f"{chain.records['suite'].digest}.json").unlink()

    with pytest.raises(GateError, match="has a gap"):
        published(Chain(store, chain.base, chain.records, chain.manifest), tmp_path / "hub")


def test_bytes_that_are_gone_are_told_before_anything_is_written(
    chain: Chain, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    shutil.copytree(chain.store.root, store.root)
    store.path(chain.records["suite"], "prompts.jsonl").unlink()

    with pytest.raises(IntegrityError, match=r"the bytes of prompts\.jsonl are gone"):
        published(Chain(store, chain.base, chain.records, chain.manifest), tmp_path / "hub")
    assert not (tmp_path / "hub" / REPO).exists()


def test_a_repository_that_is_no_owner_and_name_is_refused(chain: Chain, tmp_path: Path) -> None:
    for repo in ("elements", "../etc/passwd", "me/..", "me/a/b", "-me/x"):
        with pytest.raises(UsageError, match="not a repository's name"):
            publish(
                PublishSpec(repo=repo, target=HubFolder(tmp_path)),
                **chain.records,
                manifest=chain.manifest,
                store=chain.store,
            )


def test_a_root_that_contradicts_itself_is_told(publication: Publication) -> None:
    (publication.folder / "nexa" / "ROOT").write_text("nexa-root/1\n")

    with pytest.raises(IntegrityError, match="contradicts itself"):
        read_root_digest(publication.folder)


def test_ancestors_that_play_no_role_are_shipped_too(tiny_llama: Path, tmp_path: Path) -> None:
    chain = build_chain(tmp_path, tiny_llama, held_out_dataset=True)

    published(chain, tmp_path / "hub")

    lines = (tmp_path / "hub" / REPO / "nexa" / "records.jsonl").read_bytes().splitlines()
    names = [json.loads(line).get("name") for line in lines[1:]]
    assert "elements-eval" in names
    verify_folder(tmp_path / "hub" / REPO)
