"""What must be true before anything leaves the machine.

Parity and a chain that hangs together cannot be waived. A bad verdict can, by naming it: the card
says it either way.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal, get_args

from nexa.core.errors import GateError, UsageError, nearest
from nexa.core.events import emit
from nexa.core.records import Artifact, Safety
from nexa.core.scoring import NOT_CHECKED
from nexa.publish.layout import PARITY
from nexa.publish.records import gguf_roles, is_adopted

Waiver = Literal["no evidence", "worse", "contaminated", "forgetting", "red flags", "foreign files"]
WAIVERS: tuple[str, ...] = get_args(Waiver)
RED_FLAGS: Waiver = "red flags"  # more of them than the base's answers have
FOREIGN_FILES: Waiver = "foreign files"  # of a Hub repository, whose history keeps them
# "no evidence" is published as what it is; these two would mislead whoever only sees the weights.
REFUSED_VERDICTS = ("worse", "contaminated")


def check_gate(roles: Mapping[str, Artifact[Any]], *, allow: Collection[str] = ()) -> None:
    """Refuse a publication without its evidence; tells every reason at once.

    Args:
        roles: role -> record, as `publish.records.ROLES` names them.
        allow: findings that the user has looked at and waives: "worse", "contaminated",
            "forgetting", "red flags". What is waived is emitted as a note, and the card says it.

    Raises:
        UsageError: a waiver that does not exist.
        GateError: parity is missing or failed, the evidence is of other weights, or the report's
            finding is refused.
    """
    require_evidence(roles, allow=allow)
    for name, text in verdict_findings(roles["report"]).items():
        emit("note", text=f"published although {text} (allowed: {name})")
    if is_adopted(roles["checkpoint"]):
        emit("note", text=NOT_CHECKED)


def require_evidence(roles: Mapping[str, Artifact[Any]], *, allow: Collection[str] = ()) -> None:
    """The part of `check_gate` that refuses, and says nothing where it does not.

    Raises:
        UsageError, GateError: as `check_gate`.
    """
    require_waivers(allow)
    broken, findings = evidence_problems(roles), verdict_findings(roles["report"])
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


def require_waivers(allow: Collection[str]) -> None:
    """Refuse a waiver that does not exist.

    Raises:
        UsageError: names it, and those there are.
    """
    for word in allow:
        if word not in WAIVERS:
            raise UsageError(
                f"{word!r} is not a finding that can be allowed",
                found=", ".join(WAIVERS),
                fix=nearest(word, WAIVERS),
            )


def evidence_problems(roles: Mapping[str, Artifact[Any]]) -> list[str]:
    """What no waiver helps against: parity that failed, evidence of something else."""
    proofs = ["export", *gguf_roles(roles)]
    unproved = [problem for role in proofs for problem in parity_problems(role, roles[role])]
    return unproved + chain_problems(roles)


def chain_problems(roles: Mapping[str, Artifact[Any]]) -> list[str]:
    """Where the evidence is not about these weights, these rows or this suite."""
    export, checkpoint = roles["export"], roles["checkpoint"]
    base, tuned = roles["base_answers"], roles["tuned_answers"]
    equal = {
        "the export was not made from this checkpoint": (
            export.inputs.get("checkpoint"),
            checkpoint.digest,
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
        "the report tells of other hazards than the scores": (
            roles["report"].body.safety,
            _safety(roles),
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
    equal |= _training_data(roles) | _gguf_files(roles)
    return [sentence for sentence, (found, wanted) in equal.items() if found != wanted]


def _safety(roles: Mapping[str, Artifact[Any]]) -> list[Safety] | None:
    """The hazards of both scores, where both were looked at alike."""
    base, tuned = (roles[f"{side}_scores"].body.safety for side in ("base", "tuned"))
    alike = base is not None and tuned is not None and base.rules == tuned.rules
    return [base, tuned] if alike else None


def _gguf_files(roles: Mapping[str, Artifact[Any]]) -> dict[str, tuple[Any, Any]]:
    """Each GGUF file is the evaluated export in another form, and no two are the same file."""
    export = roles["export"]
    equal: dict[str, tuple[Any, Any]] = {}
    names: list[str] = []
    for role in gguf_roles(roles):
        gguf = roles[role]
        what = f"{role} ({gguf.body.dtype})"
        inside = [file for file in gguf.files if file.endswith(".gguf")]
        names += [gguf.body.dtype, *inside]
        equal |= {
            f"{what} was not made from the evaluated export": (
                gguf.inputs.get("export"),
                export.digest,
            ),
            f"{what} has another base than the evaluated export": (
                gguf.body.base.digest,
                export.body.base.digest,
            ),
            f"{what} is not one GGUF file": ((gguf.body.format, len(inside)), ("gguf", 1)),
        }
    return equal | {"two GGUF files have one name": (len(names), len(set(names)))}


def _training_data(roles: Mapping[str, Artifact[Any]]) -> dict[str, tuple[Any, Any]]:
    """What is known of the rows the model was trained on: all, or honestly nothing."""
    checkpoint, report = roles["checkpoint"], roles["report"]
    looked = report.body.contaminated_rows is not None
    if is_adopted(checkpoint):
        return {
            "the report looked for contamination in rows that are unknown": (looked, False),
            "the report was made with a dataset that the model does not name": (
                report.inputs.get("dataset"),
                None,
            ),
        }
    dataset = roles["dataset"].digest
    return {
        "the checkpoint was not trained on this dataset": (
            checkpoint.inputs.get("dataset"),
            dataset,
        ),
        "the report looked for contamination in another dataset": (
            report.inputs.get("dataset"),
            dataset,
        ),
        "contamination was not checked": (looked, True),
    }


def parity_problems(role: str, export: Artifact[Any]) -> list[str]:
    """What is wrong with the proof of an export; the role says which of several it is."""
    what = "the export" if role == "export" else f"{role} ({export.body.dtype})"
    if PARITY not in export.files:
        return [f"{what} has no {PARITY}: nothing shows that it is the trained model"]
    if not export.body.passed:
        return [f"{what} failed its parity checks"]
    return []


def verdict_findings(report: Artifact[Any]) -> dict[str, str]:
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
    if body.safety:
        base, tuned = body.safety
        if tuned.red_flag_count > base.red_flag_count:
            kinds = ", ".join(f"{kind} {count}" for kind, count in tuned.kinds.items())
            findings[RED_FLAGS] = (
                f"the tuned model's answers hold {tuned.red_flag_count} red flags ({kinds}), those "
                f"of its base {base.red_flag_count}"
            )
    return findings
