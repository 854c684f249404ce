"""Whether a judge is the model whose answers it is given: nobody is judge in their own cause."""

from __future__ import annotations

from collections.abc import Sequence

from nexa.core.errors import EvalError
from nexa.core.events import emit
from nexa.core.identity import canonical_json, sha256_bytes
from nexa.core.records import AnswersBody, Artifact
from nexa.core.store import Store
from nexa.lm.teaching import Teacher, public_identity

FIX = "another judge, or --allow-self-judge, which the record will tell"


def is_own_judge(teacher: Teacher, answers: AnswersBody) -> bool:
    """Whether the judge is the model that answered, as far as both are known.

    Of local models by the digest of their files, or of the file that they were taken out of; of an
    API by its provider and model id, whatever address it is asked at.
    """
    identity, model = teacher.identity, answers.model
    kept = {
        str(identity.get("digest")),
        sha256_bytes(canonical_json(dict(identity))),
        sha256_bytes(canonical_json(public_identity(identity))),
    }
    if model.digest in kept or (model.source_sha256 or "-") in kept:
        return True
    provider = str(identity.get("provider"))
    if not model.origin.startswith("api:") or provider == "local":
        return False
    same_provider = model.origin == f"api:{provider}"
    asked = str(identity.get("model"))
    return same_provider and asked in {_model_id(model.name, provider), *(answers.served or ())}


def served_itself(served: Sequence[str], answers: AnswersBody) -> bool:
    """Whether servers told that judge and model were the same, whatever they are called here."""
    return bool(set(served) & set(answers.served or ()))


def require_another(
    teacher: Teacher, answers: Sequence[Artifact[AnswersBody]], store: Store, *, allowed: bool
) -> bool:
    """Refuse a model that would judge itself, unless that is allowed; whether it would.

    A judge that the model was trained from is another model, and a note says what it is.

    Raises:
        EvalError: it would, and nobody allowed it.
    """
    own = [one for one in answers if is_own_judge(teacher, one.body)]
    if own:
        refuse_own(teacher.name, own[0].body.model.name, allowed=allowed)
    for one in answers:
        if _base_of(one, store) == teacher.identity.get("digest", ""):
            emit(
                "note",
                text=f"the judge {teacher.name} is the base that {one.body.model.name} was "
                "trained from: it may lean to answers like its own",
            )
    return bool(own)


def refuse_own(judge: str, model: str, *, allowed: bool) -> None:
    """Tell of a model that judges itself.

    Raises:
        EvalError: nobody allowed it.
    """
    if not allowed:
        raise EvalError(
            f"{judge} would judge its own answers", found=f"they are those of {model}", fix=FIX
        )
    emit("note", text=f"{judge} judges its own answers, as was allowed; the record tells so")


def _model_id(name: str, provider: str) -> str:
    """The model id in what a user calls an API's model: no provider, no address."""
    return name.partition("@http")[0].removeprefix(f"{provider}:")


def _base_of(answers: Artifact[AnswersBody], store: Store) -> str | None:
    """The digest of the base of the export that answered, if it was one."""
    export = answers.inputs.get("export")
    return None if export is None else str(store.by_digest(export).body.base.digest)
