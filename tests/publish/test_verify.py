from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nexa.core.errors import IntegrityError
from nexa.core.events import Event, listening
from nexa.core.hazards.flags import RULES_VERSION
from nexa.core.identity import sha256_file
from nexa.core.safety import derive_safety
from nexa.core.scoring import read_rows
from nexa.publish.hub_folder import HubFolder, folder_files
from nexa.publish.publish import PublishSpec, publish, read_root_digest
from nexa.publish.verify import inspect_folder, verify_folder
from tests.publish.conftest import Publication
from tests.support.chain import Chain, build_chain


def bad_files(folder: Path) -> set[str]:
    return {name for check in inspect_folder(folder) for name, _ in check.problems}


def test_a_publication_verifies_from_its_folder_alone(publication: Publication) -> None:
    checks = verify_folder(publication.folder)

    assert {"files", "scores", "report", "manifest", "model card"} <= {c.name for c in checks}


@pytest.mark.parametrize("place", [0.0, 0.5, 1.0], ids=["first", "middle", "last"])
def test_one_flipped_byte_in_any_file_is_found_and_the_file_named(
    publication: Publication, place: float
) -> None:
    files = folder_files(publication.folder)
    assert len(files) > 15
    for name, path in files.items():
        whole = path.read_bytes()
        spoiled = bytearray(whole)
        spoiled[round(place * (len(whole) - 1))] ^= 1
        path.write_bytes(spoiled)

        assert bad_files(publication.folder) == {name}
        with pytest.raises(IntegrityError, match=name.replace(".", r"\.")):
            verify_folder(publication.folder)

        path.write_bytes(whole)
    verify_folder(publication.folder)


def test_any_removed_file_is_named(publication: Publication) -> None:
    for name, path in folder_files(publication.folder).items():
        whole = path.read_bytes()
        path.unlink()

        with pytest.raises(IntegrityError, match=name.replace(".", r"\.")):
            verify_folder(publication.folder)

        path.write_bytes(whole)


def test_an_added_file_is_named_even_when_it_is_listed(publication: Publication) -> None:
    (publication.folder / "pytorch_model.bin").write_bytes(b"\x80")
    assert bad_files(publication.folder) == {"pytorch_model.bin"}

    publication.refresh_hashes()

    assert bad_files(publication.folder) == {"pytorch_model.bin"}


def test_what_the_hub_leaves_behind_is_passed_over_by_name(publication: Publication) -> None:
    (publication.folder / ".gitattributes").write_text("*.safetensors filter=lfs")
    (publication.folder / ".cache" / "huggingface").mkdir(parents=True)
    (publication.folder / ".cache" / "huggingface" / "x.lock").write_text("")

    verify_folder(publication.folder)

    (publication.folder / ".gitignore").write_text("")
    assert bad_files(publication.folder) == {".gitignore"}


def test_links_are_refused(publication: Publication, tmp_path: Path) -> None:
    target = publication.folder / "config.json"
    moved = tmp_path / "elsewhere.json"
    target.rename(moved)
    target.symlink_to(moved)
    (publication.folder / "more").symlink_to(tmp_path)

    assert bad_files(publication.folder) == {"config.json", "more"}


def test_linked_hash_list_and_records_are_refused(publication: Publication, tmp_path: Path) -> None:
    for name in ("nexa/SHA256SUMS", "nexa/records.jsonl"):
        moved = (publication.folder / name).rename(tmp_path / Path(name).name)
        (publication.folder / name).symlink_to(moved)

    assert bad_files(publication.folder) == {"nexa/SHA256SUMS", "nexa/records.jsonl"}


def test_the_publishers_root_is_compared_when_it_is_given(publication: Publication) -> None:
    root = read_root_digest(publication.folder)

    verify_folder(publication.folder, expect=root)
    verify_folder(publication.folder, expect=root[:12].upper())
    for other in ("0" * 64, root[:11]):
        with pytest.raises(IntegrityError, match=f"its root is {root}"):
            verify_folder(publication.folder, expect=other)


def test_a_folder_that_nexa_did_not_publish_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="is not a folder that nexa published"):
        verify_folder(tmp_path)


def test_an_edited_card_is_found_though_all_hashes_were_refreshed(
    publication: Publication,
) -> None:
    publication.edit("README.md", "0.833", "0.933")
    publication.refresh_hashes()

    with pytest.raises(IntegrityError, match=r"README\.md: does not follow"):
        verify_folder(publication.folder)
    assert bad_files(publication.folder) == {"README.md"}


@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors",
        "adapter/adapter_model.safetensors",
        "nexa/scores_tuned.jsonl",
        "nexa/answers_base.jsonl",
        "nexa/prompts.jsonl",
    ],
)
def test_another_file_than_its_record_names_is_found_though_all_hashes_were_refreshed(
    publication: Publication, name: str
) -> None:
    path = publication.folder / name
    path.write_bytes(path.read_bytes()[:-2] + b"\n\n")
    publication.refresh_hashes()

    assert bad_files(publication.folder) == {name}


def test_a_file_taken_out_is_found_though_all_hashes_were_refreshed(
    publication: Publication,
) -> None:
    (publication.folder / "adapter" / "adapter_config.json").unlink()
    publication.refresh_hashes()

    assert "adapter_config.json of checkpoint/tiny@v1" in forged(publication)


def test_another_parity_proof_is_found_though_all_hashes_were_refreshed(
    publication: Publication,
) -> None:
    publication.edit("nexa/parity.json", '"passed": true', '"passed": false')
    publication.refresh_hashes()

    assert bad_files(publication.folder) == {"nexa/parity.json"}


def forged(publication: Publication) -> str:
    with pytest.raises(IntegrityError) as caught:
        verify_folder(publication.folder)
    return str(caught.value)


def test_a_forged_report_does_not_follow_from_the_shipped_scores(
    publication: Publication,
) -> None:
    def flatter(record: dict[str, Any]) -> None:
        record["body"]["tuned"]["exact"]["mean"] = 0.99

    publication.forge_record("report", flatter)

    assert "tuned of the report does not follow" in forged(publication)


def test_forged_scores_do_not_follow_from_the_shipped_rows(publication: Publication) -> None:
    def flatter(record: dict[str, Any]) -> None:
        record["body"]["metrics"]["exact"]["high"] = 0.999
        record["body"]["by_domain"]["gases"]["exact"]["low"] = 0.123
        record["body"]["stop_rate"]["mean"] = 1.0
        record["body"]["counts"]["unparsable"] = 0

    publication.forge_record("tuned_scores", flatter)

    told = forged(publication)
    for name in ("metrics", "by_domain", "stop_rate", "counts"):
        assert f"{name} of the tuned scores do not follow from nexa/scores_tuned.jsonl" in told


def test_a_flipped_count_of_red_flags_in_the_record_is_found(publication: Publication) -> None:
    def flip(record: dict[str, Any]) -> None:
        record["body"]["safety"]["red_flag_count"] = 3

    publication.forge_record("base_scores", flip)

    told = forged(publication)
    assert "nexa/scores_base.jsonl: the record counts other hazards than its rows have" in told
    assert "the report tells of other hazards than the scores" in told


def spoil_rows(publication: Publication, side: str, old: bytes, new: bytes) -> None:
    """Change the shipped rows of scores, and the record and all hashes to fit."""
    path = publication.folder / f"nexa/scores_{side}.jsonl"
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))
    digest = {"scores.jsonl": sha256_file(path)}
    publication.forge_record(f"{side}_scores", lambda record: record["files"].update(digest))


def test_a_flipped_count_of_red_flags_in_the_shipped_rows_is_found(
    publication: Publication,
) -> None:
    spoil_rows(publication, "tuned", b'"red_flag_count": 0', b'"red_flag_count": 1')

    assert "gives no count of hazards: the safety marks of row" in forged(publication)


def test_red_flags_that_the_answers_do_not_hold_are_found_though_rows_and_record_agree(
    publication: Publication,
) -> None:
    path = publication.folder / "nexa/scores_tuned.jsonl"
    marks = b'"safety_score": 1.0, "red_flag_count": 0, "red_flags": []'
    other = b'"safety_score": 1.0, "red_flag_count": 1, "red_flags": ["pressure"]'
    spoil_rows(publication, "tuned", marks, other)
    rows = read_rows(path.read_bytes())

    def flip(record: dict[str, Any]) -> None:
        record["body"]["safety"] = derive_safety(rows, RULES_VERSION).model_dump(mode="json")

    publication.forge_record("tuned_scores", flip)

    told = forged(publication)
    assert f"the hazards of {rows[0]['id']} are not those of the answers" in told
    assert "counts other hazards" not in told


def test_hazards_that_the_report_leaves_out_are_found(publication: Publication) -> None:
    publication.forge_record("report", lambda record: record["body"].pop("safety"))

    assert "safety of the report does not follow from the shipped scores" in forged(publication)


def test_hazards_that_a_record_leaves_out_are_found(publication: Publication) -> None:
    publication.forge_record("tuned_scores", lambda record: record["body"].pop("safety"))

    told = forged(publication)
    assert "nexa/scores_tuned.jsonl: its rows tell of hazards, the record does not" in told


def test_rows_whose_answers_are_gone_give_no_count(publication: Publication) -> None:
    path = publication.folder / "nexa/answers_base.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[1:]))
    digest = {"answers.jsonl": sha256_file(path)}
    publication.forge_record("base_answers", lambda record: record["files"].update(digest))

    assert "nexa/scores_base.jsonl: gives no count of hazards" in forged(publication)


def published(chain: Chain, folder: Path, **options: Any) -> Path:
    spec = PublishSpec(repo="me/elements", target=HubFolder(folder), **options)
    publish(spec, **chain.records, manifest=chain.manifest, store=chain.store)
    return folder / "me/elements"


def test_a_model_with_more_red_flags_that_was_let_through_verifies_and_its_card_says_so(
    unsafe_chain: Chain, tmp_path: Path
) -> None:
    folder = published(unsafe_chain, tmp_path, allow=("red flags",))

    verify_folder(folder)
    card = (folder / "README.md").read_text()
    assert "**The tuned model's answers hold more red flags than its base's.**" in card
    assert "| red flags | 0 | 2 |" in card


def test_a_publication_of_a_version_that_did_not_look_for_hazards_verifies(
    tiny_llama: Path, tmp_path: Path
) -> None:
    chain = build_chain(tmp_path / "chain", tiny_llama, rules=None)
    folder = published(chain, tmp_path)

    verify_folder(folder)
    assert "Hazards" not in (folder / "README.md").read_text()
    assert b'"safety' not in (folder / "nexa/records.jsonl").read_bytes()


def test_hazards_that_were_marked_by_other_rules_are_added_up_and_a_note_says_so(
    tiny_llama: Path, tmp_path: Path
) -> None:
    chain = build_chain(tmp_path / "chain", tiny_llama, rules="hazards/0")
    folder = published(chain, tmp_path)

    heard: list[Event] = []
    with listening(heard.append):
        verify_folder(folder)
    assert any("were marked by the rules hazards/0" in event["text"] for event in heard)


def test_forgetting_that_was_talked_down_is_found(publication: Publication) -> None:
    publication.forge_record(
        "tuned_scores", lambda record: record["body"].update(general_cross_entropy=3.2)
    )

    told = forged(publication)
    assert "the tuned scores tell of another model than the tuned answers" in told
    assert "forgetting_nats of the report" in told


def test_evidence_of_other_weights_is_found(publication: Publication) -> None:
    publication.forge_record(
        "tuned_answers", lambda record: record["body"]["model"].update(digest="0" * 64)
    )

    assert "the tuned answers are another model's" in forged(publication)


def test_a_record_whose_parent_was_taken_out_is_found(publication: Publication) -> None:
    publication.forge_record(
        "dataset", lambda record: record["inputs"].update(teacher="0" * 64, model="1" * 64)
    )

    told = forged(publication)
    assert "dataset/elements@v1 was made from a teacher that is not here" in told
    assert "dataset/elements@v1 was made from a model that is not here" in told


def test_failed_parity_is_found(publication: Publication) -> None:
    publication.forge_record("export", lambda record: record["body"].update(passed=False))

    assert "the export failed its parity checks" in forged(publication)


def test_rows_of_another_suite_are_found(publication: Publication) -> None:
    path = publication.folder / "nexa/prompts.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[1:]))
    publication.forge_record("suite", lambda record: record["files"].update(_digest(path)))

    assert "its rows are not those of nexa/prompts.jsonl" in forged(publication)


@pytest.mark.parametrize("data", [b"not json\n", b'{"no": "id"}\n'])
def test_prompts_that_cannot_be_read_are_found(publication: Publication, data: bytes) -> None:
    path = publication.folder / "nexa/prompts.jsonl"
    path.write_bytes(data)
    publication.forge_record("suite", lambda record: record["files"].update(_digest(path)))

    assert "nexa/prompts.jsonl: cannot be read" in forged(publication)


def test_score_rows_that_give_no_scores_are_found(publication: Publication) -> None:
    path = publication.folder / "nexa/scores_base.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"exact"', b'"exakt"'))
    publication.forge_record("base_scores", lambda record: record["files"].update(_digest(path)))

    told = forged(publication)
    assert "nexa/scores_base.jsonl: gives no scores" in told
    assert "no report follows from the shipped scores" in told


def _digest(path: Path) -> dict[str, str]:
    name = path.name.replace("_base", "")
    return {name: sha256_file(path)}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"tokens_trained": 4000', '"tokens_trained": 4001', "tokens_trained is 4001"),
        ('"verdict": "improved"', '"verdict": "worse"', "verdict is worse"),
        ('"cost_total_usd": 0.033333', '"cost_total_usd": 0.01', "tells of another run"),
        ('"seed": 0', '"seed": 1', "seed is 1, the records say 0"),
        ('"run_id"', '"run_ids"', "is not a run manifest"),
    ],
)
def test_a_manifest_that_tells_otherwise_is_found(
    publication: Publication, old: str, new: str, told: str
) -> None:
    publication.edit("nexa/manifest.json", old, new)
    publication.refresh_hashes()

    assert f"nexa/manifest.json: {told}" in forged(publication).replace("it ", "")
    assert bad_files(publication.folder) == {"nexa/manifest.json"}


def test_a_manifest_of_other_records_is_found(publication: Publication) -> None:
    header = publication.lines()[0]
    publication.edit("nexa/manifest.json", header["roles"]["report"], "0" * 64)
    publication.refresh_hashes()

    assert "its report is another record" in forged(publication)


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (lambda lines: lines[0].update(schema="nexa.publication/2"), "nexa.publication/1"),
        (lambda lines: lines[0]["roles"].update(suite="0" * 64), "KeyError"),
        (
            lambda lines: lines[0]["roles"].update(suite=lines[0]["roles"]["report"]),
            "the role suite is played by a report",
        ),
        (lambda lines: lines[1].update(kind="poem"), "is not a record"),
    ],
)
def test_records_that_nexa_did_not_write_are_found(
    publication: Publication, edit: Any, told: str
) -> None:
    lines = publication.lines()
    edit(lines)
    publication.write_lines(lines)
    publication.refresh_hashes()

    assert told in forged(publication)
    assert bad_files(publication.folder) == {"nexa/records.jsonl"}


def test_records_in_another_form_are_found(publication: Publication) -> None:
    publication.edit("nexa/records.jsonl", '{"card_version":', '{ "card_version":')
    publication.refresh_hashes()

    assert "not in its canonical form" in forged(publication)


def test_a_card_of_an_unknown_layout_says_what_to_do(publication: Publication) -> None:
    lines = publication.lines()
    lines[0]["card_version"] = "99"
    publication.write_lines(lines)
    publication.refresh_hashes()

    told = forged(publication)
    assert "README.md: cannot be rendered" in told
    assert "the card has the layout version '99'" in told


def test_a_card_that_its_records_do_not_give_is_found(publication: Publication) -> None:
    publication.forge_record("export", lambda record: record["body"].update(parity={}))

    assert "README.md: cannot be rendered from nexa/records.jsonl: KeyError" in forged(publication)
