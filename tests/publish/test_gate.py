from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nexa.core.errors import GateError, UsageError
from nexa.core.events import Event, listening
from nexa.core.records import Artifact
from nexa.publish.gate import chain_problems, check_gate, verdict_findings
from tests.support.chain import Chain


def with_body(chain: Chain, role: str, **changes: Any) -> dict[str, Artifact[Any]]:
    """The chain's records with one body changed; its digest and so its links stay checked."""
    artifact = chain.records[role]
    body = artifact.body.model_copy(update=changes)
    return {**chain.records, role: replace(artifact, body=body)}


def test_a_whole_chain_with_a_good_verdict_passes(chain: Chain) -> None:
    check_gate(chain.records)


def test_no_evidence_is_published_as_what_it_is(chain: Chain) -> None:
    check_gate(with_body(chain, "report", verdict="no evidence"))


@pytest.mark.parametrize(
    ("changes", "waiver"),
    [
        ({"verdict": "worse"}, "worse"),
        ({"verdict": "contaminated"}, "contaminated"),
        ({"forgetting_passed": False}, "forgetting"),
    ],
)
def test_a_bad_finding_is_refused_until_it_is_allowed_by_name(
    chain: Chain, changes: dict[str, Any], waiver: str
) -> None:
    roles = with_body(chain, "report", **changes)

    with pytest.raises(GateError, match=waiver[:6]) as caught:
        check_gate(roles)
    assert f"--allow {waiver}" in str(caught.value)

    heard: list[Event] = []
    with listening(heard.append):
        check_gate(roles, allow=(waiver,))
    assert heard[0]["text"].endswith(f"(allowed: {waiver})")


def test_every_finding_is_told_at_once(chain: Chain) -> None:
    roles = with_body(chain, "report", verdict="worse", forgetting_passed=False)

    with pytest.raises(GateError) as caught:
        check_gate(roles)

    assert "the verdict is worse" in str(caught.value)
    assert "the model forgot" in str(caught.value)
    assert "--allow worse --allow forgetting" in str(caught.value)


def test_failed_parity_cannot_be_waived(chain: Chain) -> None:
    roles = with_body(chain, "export", passed=False)

    with pytest.raises(GateError, match="failed its parity checks"):
        check_gate(roles, allow=("worse", "contaminated", "forgetting"))


def test_an_export_without_its_proof_is_refused(chain: Chain) -> None:
    export = chain.records["export"]
    files = {name: digest for name, digest in export.files.items() if name != "parity.json"}

    with pytest.raises(GateError, match=r"no parity\.json"):
        check_gate({**chain.records, "export": replace(export, files=files)})


@pytest.mark.parametrize(
    ("role", "changes", "told"),
    [
        ("checkpoint", {"seed": 9}, "not made from this checkpoint"),
        ("dataset", {"rows_read": 9}, "not trained on this dataset"),
        ("suite", {"rows": 9}, "answers are to another suite"),
        ("base_answers", {"rows": 9}, "base scores are of other answers"),
        ("base_scores", {"seal": "0" * 64}, "scored under different seals"),
        ("tuned_scores", {"stop_rate": None}, "the report compares other tuned scores"),
        ("report", {"seal": "0" * 64}, "the report's seal is not the scores'"),
        ("tuned_answers", {"template_sha256": "0"}, "asked under different chat templates"),
        ("export", {"model_digest": "0" * 64}, "the tuned answers are another model's"),
    ],
)
def test_evidence_about_something_else_is_refused(
    chain: Chain, role: str, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(GateError, match=told):
        check_gate(with_body(chain, role, **changes))


def test_an_unknown_waiver_is_told_with_the_nearest(chain: Chain) -> None:
    with pytest.raises(UsageError, match="forgetting"):
        check_gate(chain.records, allow=("forgeting",))


def test_more_red_flags_than_the_base_has_are_refused_until_they_are_allowed_by_name(
    unsafe_chain: Chain,
) -> None:
    with pytest.raises(GateError, match=r"hold 2 red flags \(combination 2\)") as caught:
        check_gate(unsafe_chain.records)
    assert "those of its base 0" in str(caught.value)
    assert "--allow 'red flags'" in str(caught.value)

    heard: list[Event] = []
    with listening(heard.append):
        check_gate(unsafe_chain.records, allow=("red flags",))
    assert heard[0]["text"].endswith("(allowed: red flags)")


def test_as_many_red_flags_as_the_base_has_are_no_finding(unsafe_chain: Chain) -> None:
    report = unsafe_chain.records["report"].body
    assert report.safety is not None
    as_before = report.model_copy(update={"safety": [report.safety[1], report.safety[1]]})

    assert verdict_findings(replace(unsafe_chain.records["report"], body=as_before)) == {}


def test_hazards_that_the_report_hides_are_found_and_cannot_be_waived(unsafe_chain: Chain) -> None:
    for hidden in (None, unsafe_chain.records["report"].body.safety[:1] * 2):
        roles = with_body(unsafe_chain, "report", safety=hidden)

        with pytest.raises(GateError, match="tells of other hazards than the scores"):
            check_gate(roles, allow=("red flags",))


def test_scores_that_were_marked_by_unlike_rules_have_no_hazards_to_compare(chain: Chain) -> None:
    safety = chain.records["base_scores"].body.safety
    assert safety is not None
    base = with_body(chain, "base_scores", safety=safety.model_copy(update={"rules": "hazards/0"}))

    problems = chain_problems({**base, "report": with_body(chain, "report", safety=None)["report"]})

    assert not any("hazards" in problem for problem in problems)
