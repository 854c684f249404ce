"""What must be true before anything leaves the machine.

Parity and a chain that hangs together cannot be waived. A bad verdict can, by naming it: the card
says it either way.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal, get_args

from nexa.core.errors import GateError, UsageError, nearest
from nexa.core.events import emit
from nexa.core.records import Artifact

Waiver = Literal["no evidence", "worse", "contaminated", "forgetting"]
WAIVERS: tuple[str, ...] = get_args(Waiver)
# "no evidence" is published as what it is; these two would mislead whoever only sees the weights.
REFUSED_VERDICTS = ("worse", "contaminated")


def check_gate(roles: Mapping[str, Artifact[Any]], *, allow: Collection[str] = ()) -> None:
    """Refuse a publication without its evidence; tells every reason at once.

    Args:
        roles: role -> record, as `publish.records.ROLES` names them.
        allow: findings that the user has looked at and waives: "worse", "contaminated",
            "forgetting". What is waived is emitted as a note, and the card says it.

    Raises:
        UsageError: a waiver that does not exist.
        GateError: parity is missing or failed, the evidence is of other weights, or the report's
            finding is refused.
    """
    for word in allow:
        if word not in WAIVERS:
            raise UsageError(
                f"{word!r} is not a finding that can be allowed",
                found=", ".join(WAIVERS),
                fix=nearest(word, WAIVERS),
            )
    broken = _parity_problems(roles["export"]) + chain_problems(roles)
    findings = _findings(roles["report"])
    refused = [text for name, text in findings.items() if name not in allow]
    if broken or refused:
        waivable = [name for name in findings if name not in allow]
        raise GateError(
            f"cannot publish {roles['export'].label}",
            found="\n".join(broken + refused),
            fix="run the training again; the evidence cannot be waived"
            if broken
            else "look at the report; to publish all the same: "
            + " ".join(
                f"--allow {name!r}" if " " in name else f"--allow {name}" for name in waivable
            ),
        )
    for name, text in findings.items():
        emit("note", text=f"published although {text} (allowed: {name})")


def chain_problems(roles: Mapping[str, Artifact[Any]]) -> list[str]:
    """Where the evidence is not about these weights, these rows or this suite."""
    export, checkpoint = roles["export"], roles["checkpoint"]
    base, tuned = roles["base_answers"], roles["tuned_answers"]
    equal = {
        "the export was not made from this checkpoint": (
            export.inputs.get("checkpoint"),
            checkpoint.digest,
        ),
        "the checkpoint was not trained on this dataset": (
            checkpoint.inputs.get("dataset"),
            roles["dataset"].digest,
        ),
        "the tuned answers are another model's": (
            tuned.body.model.digest,
            export.body.model_digest,
        ),
        "the base answers are another model's": (
            base.body.model.digest,
            checkpoint.body.base.digest,
        ),
        "the export's base is not the checkpoint's": (
            export.body.base.digest,
            checkpoint.body.base.digest,
        ),
        "base and tuned were asked under different chat templates": (
            base.body.template_sha256,
            tuned.body.template_sha256,
        ),
        "the model was trained under another chat template": (
            checkpoint.body.template_sha256,
            tuned.body.template_sha256,
        ),
        "base and tuned were scored under different seals": (
            roles["base_scores"].body.seal,
            roles["tuned_scores"].body.seal,
        ),
        "the report's seal is not the scores'": (
            roles["report"].body.seal,
            roles["tuned_scores"].body.seal,
        ),
    }
    for side in ("base", "tuned"):
        scores, answers = roles[f"{side}_scores"], roles[f"{side}_answers"]
        equal |= {
            f"the {side} answers are to another suite": (
                answers.inputs.get("suite"),
                roles["suite"].digest,
            ),
            f"the {side} scores are of other answers": (
                scores.inputs.get("answers"),
                answers.digest,
            ),
            f"the report compares other {side} scores": (
                roles["report"].inputs.get(side),
                scores.digest,
            ),
        }
    return [sentence for sentence, (found, wanted) in equal.items() if found != wanted]


def _parity_problems(export: Artifact[Any]) -> list[str]:
    if "parity.json" not in export.files:
        return ["the export has no parity.json: nothing shows that it is the trained model"]
    if not export.body.passed:
        return ["the export failed its parity checks"]
    return []


def _findings(report: Artifact[Any]) -> dict[str, str]:
    """What the report holds against publishing: waiver -> sentence."""
    body = report.body
    findings = {}
    if body.verdict in REFUSED_VERDICTS:
        findings[body.verdict] = f"the verdict is {body.verdict}: {body.reason}"
    if not body.forgetting_passed:
        findings["forgetting"] = (
            f"the model forgot: cross-entropy on general text rose by {body.forgetting_nats:.3f} "
            f"nats a token, the limit is {body.forgetting_limit_nats:.3f}"
        )
    return findings
