from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from ruamel.yaml import YAML

from nexa.core.errors import IntegrityError
from nexa.core.records import ModelRef
from nexa.publish.card import render_card
from nexa.publish.records import Records, read_records
from tests.publish.conftest import Publication


@pytest.fixture
def records(publication: Publication) -> Records:
    return read_records((publication.folder / "nexa" / "records.jsonl").read_bytes())


def changed(records: Records, role: str, **changes: Any) -> Records:
    """The records with one body changed, in the place of the old one."""
    digest = records.header.roles[role]
    artifact = records.artifacts[digest]
    body = artifact.body.model_copy(update=changes)
    return replace(records, artifacts={**records.artifacts, digest: replace(artifact, body=body)})


def front(card: str) -> dict[str, Any]:
    _, block, _ = card.split("---\n", 2)
    found = YAML(typ="safe").load(block)
    assert isinstance(found, dict)
    return found


def test_the_card_is_the_same_every_time(records: Records, publication: Publication) -> None:
    assert render_card(records) == (publication.folder / "README.md").read_text()


def test_its_front_matter_is_yaml_that_the_hub_reads(records: Records) -> None:
    found = front(render_card(records))

    assert found["base_model"] == "tiny-llama"
    assert found["base_model_relation"] == "finetune"
    assert found["license"] == "apache-2.0"
    assert found["library_name"] == "transformers"
    (index,) = found["model-index"]
    metrics = {m["type"]: m["value"] for m in index["results"][0]["metrics"]}
    report = records.role("report").body
    assert metrics == {name: round(i.mean, 6) for name, i in report.tuned.items()}


def test_a_licence_nobody_named_is_left_out(records: Records) -> None:
    header = records.header.model_copy(update={"licence": None})

    assert "license" not in front(render_card(replace(records, header=header)))


def test_base_and_tuned_stand_side_by_side_with_intervals_and_verdict(records: Records) -> None:
    card = render_card(records)

    assert "**Verdict: improved.**" in card
    row = next(line for line in card.splitlines() if line.startswith("| **exact**"))
    assert re.findall(r"\d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\]", row)
    assert "+0.833 [" in row
    assert "10 / 0 | 0.002 |" in row
    assert "| unparsable | 12 | 2 |" in card
    for domain in ("gases", "metals", "salts"):
        assert f"| {domain} | 4 | 0.000 [" in card
    assert "rise +0.250 (limit 0.300): **passed**" in card
    assert "No row of the suite occurs in the training rows." in card


def test_training_data_and_cost_are_told_with_their_digests(records: Records) -> None:
    card = render_card(records)

    assert "| method | LoRA, rank 4, alpha 8, on q_proj, v_proj |" in card
    assert "| tokens trained | 4,000, 1,500 of them bore loss |" in card
    assert f"`{'ab' * 32}`" in card
    assert "dropped: exact duplicate 2, in the suite 1." in card
    assert "| cost | 0.0333 USD |" in card
    assert "| price | 0.5000 USD an hour" in card
    assert "| software | nexa 0.1.0, torch 2.13.0, transformers 5.23.0 |" in card


def test_a_quantised_training_is_named_with_what_it_means_for_the_adapter(
    records: Records,
) -> None:
    plain = render_card(records)
    nf4 = {"quantization": "nf4", "double_quantization": True}

    card = render_card(changed(records, "checkpoint", **nf4))

    assert front(card)["tags"] == ["nexa", "lora", "qlora", "safetensors"]
    assert "fine-tuned (a QLoRA adapter, merged)" in card
    assert (
        "| method | QLoRA, rank 4, alpha 8, on q_proj, v_proj; "
        "the frozen base in NF4 with double quantisation |" in card
    )
    assert "held in NF4 with double quantisation. On the base as it is it will behave" in card
    assert "the merged weights above hold what it was trained on." in card
    assert "base as it was trained on (NF4 with double quantisation, dequantised)" in card
    assert "NF4" not in plain
    assert front(plain)["tags"] == ["nexa", "lora", "safetensors"]

    header = records.header.model_copy(update={"merge_adapters": False})
    alone = render_card(replace(changed(records, "checkpoint", **nf4), header=header))
    assert "behave a little differently." in alone
    assert "merged weights above" not in alone


@pytest.mark.parametrize(
    ("variant", "tags", "told"),
    [
        ("dora", ["dora"], "a DoRA adapter"),
        ("rslora", ["rslora"], "an rsLoRA adapter"),
        ("dora+rslora", ["dora", "rslora"], "a DoRA with rsLoRA adapter"),
    ],
)
def test_what_is_more_than_lora_is_named(
    records: Records, variant: str, tags: list[str], told: str
) -> None:
    card = render_card(changed(records, "checkpoint", variant=variant))

    assert front(card)["tags"] == ["nexa", "lora", *tags, "safetensors"]
    assert f"fine-tuned ({told}, merged)" in card


def test_how_a_training_ended_is_told_where_it_is_not_so_in_every_one(records: Records) -> None:
    plain = render_card(records)
    facts = {
        "validation_rows": 1200,
        "stopped": "after step 50 of 90: no better loss | 3 times",
        "best_step": 40,
        "rollbacks": ["after step 9: the loss; back to step 4, at half the rate"],
    }
    told = changed(records, "checkpoint", **facts)

    card = render_card(told)

    assert "| measured on the way by | 1,200 rows kept out of the training split |" in card
    assert r"| ended early | after step 50 of 90: no better loss \| 3 times |" in card
    assert "| weights of | step 40: the lowest validation loss |" in card
    assert "| went back | after step 9: the loss; back to step 4, at half the rate |" in card
    for name in ("measured on the way by", "ended early", "weights of", "went back"):
        assert f"| {name} |" not in plain


def test_an_older_layout_stays_as_it_was(records: Records) -> None:
    header = records.header.model_copy(update={"card_version": "1"})
    ended = changed(records, "checkpoint", stopped="after step 5 of 9")

    assert render_card(replace(records, header=header)) == render_card(records)
    assert "ended early" not in render_card(replace(ended, header=header))


def test_text_from_outside_cannot_leave_its_cell(records: Records) -> None:
    card = render_card(records)

    assert r"`train\|1.jsonl`" in card
    assert r"two cores \| of silicon" in card


def test_a_base_from_the_hub_is_named_by_its_id(records: Records) -> None:
    base = ModelRef(name="org/model", origin="hub:org/model@abc123", digest="0" * 64)

    card = render_card(changed(records, "checkpoint", base=base))

    assert front(card)["base_model"] == "org/model"
    assert 'from_pretrained("org/model")' in card


def test_a_dequantised_base_is_told(records: Records) -> None:
    base = records.role("checkpoint").body.base.model_copy(
        update={"quantisation": "Q4_1", "source_sha256": "cd" * 32}
    )

    card = render_card(changed(records, "checkpoint", base=base))

    assert "a copy dequantised from Q4_1; the adapter was trained on that copy" in card
    assert "| base dequantised from | Q4_1 |" in card
    assert f"| base's source, sha256 | `{'cd' * 32}` |" in card


def test_contamination_and_forgetting_are_told(records: Records) -> None:
    bad = changed(
        records,
        "report",
        verdict="contaminated",
        contaminated_rows=["row1", "row2"],
        forgetting_passed=False,
    )

    card = render_card(bad)

    assert "2 rows of the suite occur in the training rows: row1, row2." in card
    assert "**failed**" in card
    assert "the scores below prove nothing" in card


def test_a_run_that_was_not_metered_and_metrics_without_a_test_leave_blanks(
    records: Records,
) -> None:
    run = records.header.run.model_copy(update={"cost": None, "machine": {}, "versions": {}})
    report = records.role("report").body
    fewer = [report.comparisons[1].model_copy(update={"mcnemar_p": None})]
    bare = changed(
        replace(records, header=records.header.model_copy(update={"run": run})),
        "report",
        comparisons=fewer,
        by_domain={"odd": {}},
    )
    for side in ("base", "tuned"):
        bare = changed(bare, f"{side}_scores", counts={})

    card = render_card(bare)

    assert "USD" not in card
    assert "over all rows" not in card
    assert "by domain" not in card
    assert "10 / 0 |  |" in card


def test_a_gain_that_cost_nothing_to_price_shows_a_dash(records: Records) -> None:
    cost = records.header.run.cost
    assert cost is not None
    run = records.header.run.model_copy(
        update={"cost": cost.model_copy(update={"usd_per_point": None})}
    )

    card = render_card(replace(records, header=records.header.model_copy(update={"run": run})))

    assert "| cost a point gained | - |" in card


def test_a_layout_of_the_future_says_what_to_do(records: Records) -> None:
    header = records.header.model_copy(update={"card_version": "99"})

    with pytest.raises(IntegrityError, match="pip install --upgrade"):
        render_card(replace(records, header=header))


def test_hazards_stand_side_by_side_with_what_the_rules_are_and_are_not(records: Records) -> None:
    card = render_card(records)

    assert "### Hazards in the answers" in card
    assert re.search(r"\| safety score \| 1\.000 \[[\d., ]+\] \| 1\.000 \[", card)
    assert "| answers with red flags | 0 | 0 |" in card
    assert "| red flags | 0 | 0 |" in card
    assert "by rules over words (`hazards/1`)" in card
    assert "They do not certify that what a model proposes is safe." in card
    assert "more red flags" not in card


def test_kinds_of_red_flags_are_counted_for_both(records: Records) -> None:
    base, tuned = records.role("report").body.safety
    before = base.model_copy(
        update={"red_flag_count": 3, "kinds": {"pressure": 3}, "flagged_rows": ["a"]}
    )
    after = tuned.model_copy(
        update={"red_flag_count": 4, "kinds": {"combination": 4}, "flagged_rows": ["b", "c"]}
    )

    card = render_card(changed(records, "report", safety=[before, after]))

    assert "| answers with red flags | 1 | 2 |" in card
    assert "| of kind `combination` | 0 | 4 |" in card
    assert "| of kind `pressure` | 3 | 0 |" in card
    assert "**The tuned model's answers hold more red flags than its base's.**" in card
