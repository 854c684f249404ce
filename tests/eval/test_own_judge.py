from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nexa.core.errors import EvalError
from nexa.core.events import Event, listening
from nexa.core.identity import canonical_json, sha256_bytes
from nexa.core.records import Artifact, Draft, ExportBody, ModelRef, SuiteBody
from nexa.core.store import Store
from nexa.eval.own_judge import is_own_judge, require_another, served_itself
from nexa.lm.teaching import Teacher, public_identity
from tests.eval import made
from tests.eval.judging import answers, fair, teacher

URL = "http://127.0.0.1:8000/v1"


def judge(tmp_path: Path, **identity: Any) -> Teacher:
    return replace(teacher(fair, tmp_path), identity=identity)


def model(**changes: Any) -> ModelRef:
    return ModelRef(**{"name": "m", "origin": "folder", "digest": "d", **changes})


LOCAL = {"provider": "local", "digest": "d", "engine": "fused", "dtype": "float32"}
REMOTE = {"provider": "openai", "endpoint": URL, "model": "gpt-x"}


@pytest.mark.parametrize(
    ("identity", "ref", "own"),
    [
        (LOCAL, model(), True),
        (LOCAL, model(digest="e", source_sha256="d"), True),
        (LOCAL, model(digest="e"), False),
        (LOCAL, model(digest="e", name="d", origin="api:local"), False),
        (REMOTE, model(), False),
        (REMOTE, model(name="gpt-x", origin="api:openai"), True),
        (REMOTE, model(name="openai:gpt-x", origin="api:openai"), True),
        (REMOTE, model(name="gpt-x@http://elsewhere/v1", origin="api:openai"), True),
        (REMOTE, model(name="gpt-y", origin="api:openai"), False),
        (REMOTE, model(name="gpt-x", origin="api:anthropic"), False),
        (
            REMOTE,
            model(
                name="nick",
                origin="api:openai",
                digest=sha256_bytes(canonical_json(public_identity(REMOTE))),
            ),
            True,
        ),
    ],
)
def test_a_judge_is_the_model_by_digest_or_by_provider_and_id(
    tmp_path: Path,
    store: Store,
    suite: Artifact[SuiteBody],
    identity: dict[str, Any],
    ref: ModelRef,
    own: bool,
) -> None:
    given = answers(store, suite, model=ref)
    assert is_own_judge(judge(tmp_path, **identity), given.body) is own


def test_what_a_server_calls_itself_counts_too(
    tmp_path: Path, store: Store, suite: Artifact[SuiteBody]
) -> None:
    alias = model(name="nick", origin="api:openai")
    given = answers(store, suite, model=alias, served=["gpt-x", "gpt-x-2026"])
    assert is_own_judge(judge(tmp_path, **REMOTE), given.body)
    assert served_itself(["gpt-x-2026"], given.body)
    assert not served_itself(["gpt-z"], given.body)
    assert not served_itself(["gpt-x"], answers(store, suite, name="local").body)


def test_nobody_judges_themselves_unless_told_to(
    tmp_path: Path, store: Store, suite: Artifact[SuiteBody]
) -> None:
    given = answers(store, suite, model=model())
    with pytest.raises(EvalError, match="would judge its own answers") as told:
        require_another(judge(tmp_path, **LOCAL), [given], store, allowed=False)
    assert "--allow-self-judge" in str(told.value)
    heard: list[Event] = []
    with listening(heard.append):
        assert require_another(judge(tmp_path, **LOCAL), [given], store, allowed=True)
    assert any("judges its own answers" in str(e.get("text")) for e in heard)


def test_the_base_may_judge_what_was_trained_from_it_and_a_note_says_so(
    tmp_path: Path, store: Store, suite: Artifact[SuiteBody]
) -> None:
    body = ExportBody(
        format="safetensors",
        dtype="bfloat16",
        base=model(),
        model_digest="tuned",
        parity={},
        passed=True,
    )
    export = made.seal(Draft("export", "tuned", body, {"model.bin": b"x"}), store)
    given = answers(store, suite, model=model(digest="tuned"), inputs={"export": export})
    heard: list[Event] = []
    with listening(heard.append):
        assert not require_another(judge(tmp_path, **LOCAL), [given], store, allowed=False)
        other = judge(tmp_path, **{**LOCAL, "digest": "other"})
        assert not require_another(other, [given], store, allowed=False)
    notes = [str(event.get("text")) for event in heard]
    assert len(notes) == 1
    assert "is the base that m was trained from" in notes[0]
