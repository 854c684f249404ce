from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from nexa.core import events
from nexa.core.errors import EvalError
from nexa.core.identity import canonical_json, fingerprint, sha256_bytes
from nexa.core.records import Artifact, DatasetBody, Draft, ExportBody, SuiteBody
from nexa.core.store import Store
from nexa.eval.generate import GenerateSpec, generate, require_one_bos
from nexa.eval.suite import FreezeSpec, freeze, read_suite
from nexa.lm.chat import ChatTemplate
from nexa.lm.llama_cpp import available, runtime_version
from nexa.lm.load import LoadedModel, load
from nexa.lm.local import generate as answer
from nexa.lm.resolve import ModelFiles, resolve
from tests.eval import made
from tests.lm.gguf_models import write_gguf


@pytest.fixture
def model(tiny_llama: Path) -> ModelFiles:
    return resolve(str(tiny_llama))


@pytest.fixture
def loaded(model: ModelFiles) -> LoadedModel:
    return load(model, dtype="float32")


def test_answers_are_the_models_own_in_the_suites_order(
    store: Store, suite: Artifact[SuiteBody], model: ModelFiles, loaded: LoadedModel
) -> None:
    spec = GenerateSpec(model=model, name="base", dtype="float32", batch_size=5)
    draft = generate(spec, suite=suite, store=store)
    rows = [json.loads(line) for line in draft.files["answers.jsonl"].splitlines()]
    questions = read_suite(suite, store)
    assert [row["id"] for row in rows] == [question.id for question in questions]
    template = ChatTemplate(loaded.tokenizer)
    for row, question in zip(rows, questions, strict=True):
        (alone,) = answer(
            loaded,
            [template.prompt(question.messages)],
            max_new_tokens=24,
            stop_ids=template.stop_ids,
        )
        assert row["text"] == loaded.tokenizer.decode(alone.ids, skip_special_tokens=True)
        assert (row["new_tokens"], row["stopped"]) == (alone.new_tokens, alone.stopped)
        assert row["latency_s"] >= 0


def test_the_record_says_how_the_answers_were_made(
    store: Store, suite: Artifact[SuiteBody], model: ModelFiles, loaded: LoadedModel
) -> None:
    spec = GenerateSpec(model=model, name="base", dtype="float32")
    body = generate(spec, suite=suite, store=store).body
    assert body.decoding == {
        "method": "greedy",
        "engine": "fused",
        "dtype": "float32",
        "batch_size": 64,
        "cache": "contiguous",
        "max_new_tokens": 24,
        "device": "cpu",
    }
    assert body.engine_reason == "it computes llama in float32"
    template = ChatTemplate(loaded.tokenizer)
    first = template.prompt(read_suite(suite, store)[0].messages)
    assert body.first_prompt_sha256 == sha256_bytes(canonical_json(first))
    assert body.template_sha256 == template.sha256
    assert (body.suite_digest, body.rows) == (suite.digest, 12)
    assert body.model.digest == model.digest
    # A random model knows nothing: about the log of its vocabulary.
    assert body.general_cross_entropy == pytest.approx(5.77, abs=0.1)
    assert len(body.general_text_sha256) == 64


def test_transformers_answers_alike_and_the_record_says_that_it_did(
    store: Store, suite: Artifact[SuiteBody], model: ModelFiles
) -> None:
    fused = generate(
        GenerateSpec(model=model, name="fused", dtype="float32"), suite=suite, store=store
    )
    asked = GenerateSpec(model=model, name="theirs", dtype="float32", engine="transformers")
    theirs = generate(asked, suite=suite, store=store)
    told = theirs.body.decoding
    assert told == {**fused.body.decoding, "engine": "transformers", "cache": "static"}
    assert theirs.body.engine_reason == "asked for"
    ours, other = (
        [json.loads(line)["text"] for line in draft.files["answers.jsonl"].splitlines()]
        for draft in (fused, theirs)
    )
    assert ours == other
    assert fused.body.general_cross_entropy == pytest.approx(
        theirs.body.general_cross_entropy, rel=1e-5
    )


@pytest.mark.skipif(available() is not None, reason=str(available()))
def test_llama_cpp_answers_for_a_gguf_file_and_the_record_says_that_it_did(
    store: Store,
    dataset: Artifact[DatasetBody],
    model: ModelFiles,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    short = made.seal(
        freeze(FreezeSpec(name="short", rows=2, max_new_tokens=12), dataset=dataset, store=store),
        store,
    )
    # A request a token: the whole text, cut into bytes by this tokenizer, would be thousands.
    monkeypatch.setattr("nexa.eval.general_text.general_text", lambda: b"The ice on the lake.")
    write_gguf(tmp_path / "m.gguf", model.folder)
    gguf = resolve(str(tmp_path / "m.gguf"))
    spec = GenerateSpec(model=gguf, name="gguf", engine="llama.cpp")
    by_llama_cpp = generate(spec, suite=short, store=store)
    in_torch = generate(
        GenerateSpec(model=gguf, name="torch", dtype="float32"), suite=short, store=store
    )
    assert by_llama_cpp.body.decoding == {
        "method": "greedy",
        "engine": "llama.cpp",
        "version": runtime_version(),
        "batch_size": 1,
        "cache": "float32",
        "max_new_tokens": 12,
        "device": "cpu",
    }
    assert by_llama_cpp.body.engine_reason == "it runs m.gguf as it is"
    first, second = (
        [json.loads(line)["text"] for line in draft.files["answers.jsonl"].splitlines()]
        for draft in (by_llama_cpp, in_torch)
    )
    assert first == second
    assert by_llama_cpp.body.general_cross_entropy == pytest.approx(
        in_torch.body.general_cross_entropy, rel=1e-4
    )


def test_a_name_is_no_part_of_what_is_made(model: ModelFiles) -> None:
    spec = GenerateSpec(model=model, name="base")
    renamed = dataclasses.replace(spec, name="other")
    assert fingerprint("generate", 1, spec, {}) == fingerprint("generate", 1, renamed, {})
    faster = dataclasses.replace(spec, batch_size=8)
    assert fingerprint("generate", 1, spec, {}) != fingerprint("generate", 1, faster, {})


def test_answers_that_cannot_be_given_whole_are_told(
    store: Store, suite: Artifact[SuiteBody], model: ModelFiles
) -> None:
    heard: list[events.Event] = []
    with events.listening(heard.append):
        generate(GenerateSpec(model=model, name="base", dtype="float32"), suite=suite, store=store)
    (note,) = [event["text"] for event in heard if event["kind"] == "note"]
    assert "12 of 12 wanted answers are longer than max_new_tokens 24" in note


def test_answers_that_have_room_are_not_told(
    store: Store, dataset: Artifact[DatasetBody], model: ModelFiles
) -> None:
    spec = FreezeSpec(name="roomy", rows=2, max_new_tokens=100)
    roomy = made.seal(freeze(spec, dataset=dataset, store=store), store)
    heard: list[events.Event] = []
    with events.listening(heard.append):
        generate(GenerateSpec(model=model, name="base", dtype="float32"), suite=roomy, store=store)
    assert not [event for event in heard if event["kind"] == "note"]


def test_answers_of_an_export_are_those_of_its_very_files(
    store: Store, suite: Artifact[SuiteBody], model: ModelFiles
) -> None:
    def sealed(digest: str) -> Artifact[ExportBody]:
        body = ExportBody(
            format="safetensors",
            dtype="float32",
            base=model.ref,
            model_digest=digest,
            parity={},
            passed=True,
        )
        return made.seal(Draft("export", "tuned", body), store)

    spec = GenerateSpec(model=model, name="tuned", dtype="float32")
    draft = generate(spec, suite=suite, export=sealed(model.digest), store=store)
    assert draft.body.model.digest == model.digest
    with pytest.raises(EvalError, match="is not the model of export/tuned@v2"):
        generate(spec, suite=suite, export=sealed("0" * 64), store=store)


def test_answers_of_an_exported_gguf_file_are_those_of_that_very_file(
    store: Store, suite: Artifact[SuiteBody], model: ModelFiles, tmp_path: Path
) -> None:
    write_gguf(tmp_path / "m.gguf", model.folder)
    files = resolve(str(tmp_path / "m.gguf"))

    def sealed(content: bytes) -> Artifact[ExportBody]:
        body = ExportBody(
            format="gguf",
            dtype="f32",
            base=model.ref,
            model_digest="0" * 64,
            parity={},
            passed=True,
        )
        return made.seal(Draft("export", "tuned", body, {"m.gguf": content}), store)

    spec = GenerateSpec(model=files, name="tuned", dtype="float32")
    export = sealed((tmp_path / "m.gguf").read_bytes())
    assert generate(spec, suite=suite, export=export, store=store).body.model == files.ref
    with pytest.raises(EvalError, match="is not the model of export/tuned@v2"):
        generate(spec, suite=suite, export=sealed(b"another"), store=store)


def test_two_beginnings_of_text_are_refused(loaded: LoadedModel) -> None:
    tokenizer = loaded.tokenizer
    assert tokenizer.bos_token_id is None
    require_one_bos(loaded, "r1", [5, 5])  # a tokenizer without the token cannot err
    tokenizer.bos_token = "<|im_start|>"
    try:
        require_one_bos(loaded, "r1", [1, 7, 1])
        require_one_bos(loaded, "r1", [7, 1])
        with pytest.raises(EvalError, match="row r1 begins with 2 beginning-of-text tokens"):
            require_one_bos(loaded, "r1", [1, 1, 7])
    finally:
        tokenizer.bos_token = None


def test_a_lost_beginning_of_text_is_refused(loaded: LoadedModel) -> None:
    class AddsBos:
        bos_token_id = 1

        def __call__(self, text: str) -> dict[str, list[int]]:
            return {"input_ids": [1]}

        def decode(self, ids: list[int]) -> str:
            return "hello"

    adding = dataclasses.replace(loaded, tokenizer=AddsBos())
    require_one_bos(adding, "r1", [1, 7])
    with pytest.raises(EvalError, match=r"begins with 0 (.|\n)*hello"):
        require_one_bos(adding, "r1", [7])


def test_nobody_is_told_of_answers_whose_length_is_not_known(
    store: Store, model: ModelFiles
) -> None:
    held = made.dataset(store, {"eval": [made.row("r", "Double it.", "assert f(2) == 4")]}, "code")
    spec = FreezeSpec(name="code", task="code", max_new_tokens=2)
    suite = made.seal(freeze(spec, dataset=held, store=store), store)
    heard: list[events.Event] = []
    with events.listening(heard.append):
        generate(GenerateSpec(model=model, name="m", dtype="float32"), suite=suite, store=store)
    assert not [event for event in heard if event["kind"] == "note"]


@pytest.mark.skipif(available() is not None, reason=str(available()))
def test_llama_cpp_says_how_likely_choices_are(
    store: Store, model: ModelFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = json.dumps({"choices": ["iron", "gold"], "answer": 0})
    held = made.dataset(store, {"eval": [made.row("r", "Metal?", target)]}, "choices")
    spec = FreezeSpec(name="choices", task="multiple_choice")
    suite = made.seal(freeze(spec, dataset=held, store=store), store)
    monkeypatch.setattr("nexa.eval.general_text.general_text", lambda: b"The ice on the lake.")
    write_gguf(tmp_path / "m.gguf", model.folder)
    gguf = resolve(str(tmp_path / "m.gguf"))
    asked = GenerateSpec(model=gguf, name="gguf", engine="llama.cpp")
    by_llama_cpp = generate(asked, suite=suite, store=store)
    in_torch = generate(
        GenerateSpec(model=gguf, name="torch", dtype="float32"), suite=suite, store=store
    )
    assert by_llama_cpp.body.decoding["version"] == runtime_version()
    first, second = (
        json.loads(draft.files["answers.jsonl"])["log_likelihoods"]
        for draft in (by_llama_cpp, in_torch)
    )
    assert first == pytest.approx(second, rel=1e-4)
