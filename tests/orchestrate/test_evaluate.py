from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nexa.core.errors import DataError, EvalError, ModelError, UsageError
from nexa.core.events import Event, listening
from nexa.core.identity import sha256_bytes
from nexa.core.manifest import RunManifest, find_manifest
from nexa.core.records import Artifact, Draft, ExportBody, ModelRef
from nexa.core.safety import summary_of
from nexa.lm.llama_cpp import available
from nexa.lm.resolve import resolve
from nexa.orchestrate.evaluate import (
    Asked,
    compare_models,
    evaluate_model,
    evaluate_models,
    sources_of,
)
from nexa.orchestrate.reports import find_artifact
from nexa.orchestrate.verifying.verify import verify
from tests.lm.gguf_models import write_gguf
from tests.lm.lively import write_lively
from tests.support.project import (
    Finished,
    finish,
    kinds,
    notes,
    rows,
    versions,
    write_rows,
)
from tests.support.tiny import CHATML, write_tiny_model


def body_of(project: Finished, role: str) -> Any:
    return project.tiers.store.by_digest(project.manifest.outputs[role]).body


# -- what is asked -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reference", ["latest", "checkpoint/tiny-llama-elements", "export/tiny-llama-elements"]
)
def test_what_a_run_made_has_the_run_s_own_scores_and_is_not_asked_again(
    project: Finished, reference: str
) -> None:
    before = versions(project.tiers)
    events: list[Event] = []
    with listening(events.append):
        scores = evaluate_model(reference, Asked(), project.root)
    assert scores.digest == project.manifest.outputs["tuned_scores"]
    assert set(kinds(events)) <= {"run.start", "step.reused", "note", "run.end"}
    assert versions(project.tiers) == before


def test_the_base_is_asked_what_the_config_holds_out(project: Finished, tiny_llama: Path) -> None:
    scores = evaluate_model(str(tiny_llama), Asked(), project.root)
    assert scores.digest == project.manifest.outputs["base_scores"]


def test_a_config_without_held_out_rows_asks_the_share_that_it_sets_aside(
    tmp_path: Path, tiny_llama: Path
) -> None:
    data = {"eval_path": None, "eval_fraction": 0.25}
    run = finish(tmp_path / "elements", tiny_llama, data=data)
    scores = evaluate_model(str(tiny_llama), Asked(), run.root)
    assert scores.digest == run.manifest.outputs["base_scores"]


def test_other_rows_are_frozen_from_a_file(project: Finished, tiny_llama: Path) -> None:
    path = write_rows(project.root / "more.jsonl", rows(range(200, 206)))
    asked = Asked(data=path, rows=4, max_new_tokens=8)
    scores = evaluate_model("latest", asked, project.root)
    suite = project.tiers.store.by_digest(scores.body.suite_digest)
    assert suite.label == "suite/more@v1"
    assert (suite.body.rows, suite.body.max_new_tokens) == (4, 8)
    assert scores.label == "scores/tiny-llama-elements-more@v1"
    answers = project.tiers.store.by_digest(scores.body.answers_digest)
    assert answers.inputs["export"] == project.manifest.outputs["export"]


def test_a_file_is_frozen_by_default_to_64_rows_of_160_tokens(
    project: Finished, tiny_llama: Path
) -> None:
    path = write_rows(project.root / "more.jsonl", rows(range(200, 203)))
    scores = evaluate_model(str(tiny_llama), Asked(data=path), project.root)
    suite = project.tiers.store.by_digest(scores.body.suite_digest)
    assert (suite.body.rows, suite.body.max_new_tokens) == (3, 160)


def test_a_frozen_suite_is_asked_by_its_name(project: Finished, tiny_llama: Path) -> None:
    scores = evaluate_model(str(tiny_llama), Asked(suite="elements@v1"), project.root)
    assert scores.body.suite_digest == project.manifest.outputs["suite"]


def test_a_run_is_asked_in_the_batches_of_its_own_evaluation(
    tmp_path: Path, tiny_llama: Path
) -> None:
    run = finish(tmp_path / "elements", tiny_llama, eval={"batch_size": 3})
    scores = evaluate_model("latest", Asked(), run.root)
    assert scores.digest == run.manifest.outputs["tuned_scores"]
    base = evaluate_model(str(tiny_llama), Asked(), run.root)
    assert base.digest == run.manifest.outputs["base_scores"]


def test_what_is_asked_is_said_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="both say what is asked"):
        Asked(data=tmp_path, suite="elements")
    told: list[dict[str, Any]] = [
        {"rows": 3},
        {"max_new_tokens": 3},
        {"suite": "elements", "rows": 3},
    ]
    for asked in told:
        with pytest.raises(UsageError, match="--data FILE"):
            Asked(**asked)


def test_with_nothing_to_ask_the_ways_out_are_named(tmp_path: Path, tiny_llama: Path) -> None:
    with pytest.raises(UsageError, match="--data FILE, --suite NAME, or a config"):
        evaluate_model(str(tiny_llama), Asked(), tmp_path)


# -- the manifest --------------------------------------------------------------------------------


def newest(project: Finished) -> RunManifest:
    return find_manifest(project.tiers.manifests, "latest")


def test_an_evaluation_is_a_run_with_a_manifest_that_verifies(project: Finished) -> None:
    scores = evaluate_model("latest", Asked(), project.root)
    manifest = newest(project)
    assert (manifest.run_type, manifest.status) == ("eval", "done")
    assert manifest.eval_status == "done"
    assert manifest.student_model == "export/tiny-llama-elements"
    assert manifest.outputs["scores"] == scores.digest
    assert manifest.reused == ["answers", "scores"]
    assert manifest.inputs["suite"] == project.manifest.outputs["suite"]
    assert manifest.eval_summary == summary_of(scores.body.metrics, scores.body.safety)
    assert manifest.cost is not None
    assert project.tiers.read(f"manifests/{manifest.run_id}.json")
    assert "scores and report, derived again" in verify(manifest.run_id, project.root).checks
    assert find_artifact("latest", project.tiers).digest == scores.digest


def test_a_comparison_s_manifest_has_both_sides(project: Finished, tiny_llama: Path) -> None:
    compare_models(str(tiny_llama), "latest", Asked(), project.root)
    manifest = newest(project)
    assert set(manifest.inputs) >= {"a_model", "b_model"}
    assert manifest.outputs["a_scores"] == project.manifest.outputs["base_scores"]
    assert manifest.outputs["b_scores"] == project.manifest.outputs["tuned_scores"]
    verify("latest", project.root)


def test_an_evaluation_that_fails_says_so_in_its_manifest(project: Finished) -> None:
    asked = Asked(data=project.root / "bad.jsonl")
    (project.root / "bad.jsonl").write_text("no json at all\n")
    with pytest.raises(DataError):
        evaluate_model("latest", asked, project.root)
    manifest = newest(project)
    assert (manifest.run_type, manifest.status) == ("eval", "failed")
    assert manifest.error
    assert verify("latest", project.root).subject == f"run {manifest.run_id}"


def test_a_name_that_leads_nowhere_makes_no_run(project: Finished) -> None:
    with pytest.raises(ModelError):
        evaluate_model("nothing", Asked(), project.root)
    assert newest(project).run_id == project.manifest.run_id


def test_without_a_config_an_evaluation_is_free_and_has_its_manifest(
    tmp_path: Path, tiny_llama: Path
) -> None:
    path = write_rows(tmp_path / "more.jsonl", rows(range(200, 203)))
    evaluate_model(str(tiny_llama), Asked(data=path, max_new_tokens=4), tmp_path)
    manifest = find_manifest(tmp_path / "runs" / "manifests", "latest")
    assert (manifest.config_sha256, manifest.cost_estimate_usd_total) == (None, 0.0)


# -- side by side --------------------------------------------------------------------------------


def test_base_and_run_are_compared_as_the_report_did(project: Finished, tiny_llama: Path) -> None:
    report = body_of(project, "report")
    events: list[Event] = []
    with listening(events.append):
        compared = compare_models(str(tiny_llama), "latest", Asked(), project.root)
    assert compared == report.comparisons
    assert "step.start" not in kinds(events)


def test_the_other_way_round_the_sign_turns(project: Finished, tiny_llama: Path) -> None:
    path = write_rows(project.root / "more.jsonl", rows(range(200, 206)))
    there = compare_models(str(tiny_llama), "latest", Asked(data=path), project.root)
    back = compare_models("latest", str(tiny_llama), Asked(data=path), project.root)
    assert [c.difference.mean for c in back] == [-c.difference.mean for c in there]
    assert [(c.better, c.worse) for c in back] == [(c.worse, c.better) for c in there]


def test_without_a_config_the_suite_is_that_of_the_run_on_either_side(
    project: Finished, tiny_llama: Path
) -> None:
    (project.root / "config.yaml").unlink()
    for pair in ((str(tiny_llama), "latest"), ("latest", str(tiny_llama))):
        assert compare_models(*pair, Asked(), project.root)


def test_a_run_that_made_no_model_is_refused_and_latest_is_one_that_did(
    project: Finished,
) -> None:
    path = project.tiers.manifests / "9999-01-01-000000-0000.json"
    path.write_text('{"run_id": "9999-01-01-000000-0000", "run_type": "train"}')
    with pytest.raises(ModelError, match="has made no model"):
        evaluate_model("9999-01-01", Asked(), project.root)
    events: list[Event] = []
    with listening(events.append):
        scores = evaluate_model("latest", Asked(), project.root)
    assert scores.digest == project.manifest.outputs["tuned_scores"]
    assert len(notes(events)) == 1


def test_the_option_for_an_alias_s_source_is_for_aliases(
    project: Finished, tiny_llama: Path
) -> None:
    asked = Asked(base_source="wheel")
    with pytest.raises(ModelError, match="for aliases with several sources"):
        compare_models(str(tiny_llama), "latest", asked, project.root)
    with pytest.raises(ModelError, match="for aliases with several sources"):
        evaluate_model("latest", asked, project.root)


def test_an_alias_beside_a_run_gets_the_source_alone() -> None:
    assert sources_of(["smollm2-135m", "latest"], "wheel") == ["wheel", "auto"]
    assert sources_of(["latest", "smollm2-135m"], "hub") == ["auto", "hub"]
    assert sources_of(["smollm2-135m", "smollm2-135m"], "hub") == ["hub", "hub"]
    assert sources_of(["./a", "./b"], "auto") == ["auto", "auto"]


def test_models_that_were_asked_in_different_words_are_not_compared(
    project: Finished, tmp_path: Path
) -> None:
    template = CHATML.replace("\n", " ")
    other = write_tiny_model(tmp_path / "other", chat_template=template)
    with pytest.raises(EvalError, match="were not taken alike"):
        compare_models(str(other), "latest", Asked(), project.root)


def test_one_engine_answers_for_both_models_that_are_compared(
    project: Finished, tiny_llama: Path, tmp_path: Path
) -> None:
    write_lively(tmp_path / "gelu", hidden_act="gelu")
    compare_models(str(tiny_llama), str(tmp_path / "gelu"), Asked(), project.root)
    outputs = newest(project).outputs
    bodies = [project.tiers.store.by_digest(outputs[f"{side}_answers"]).body for side in "ab"]
    assert [body.decoding["engine"] for body in bodies] == ["transformers", "transformers"]
    assert [body.engine_reason for body in bodies] == ["asked for", "asked for"]
    assert body_of(project, "base_answers").decoding["engine"] == "fused"


# -- several at once -----------------------------------------------------------------------------


def test_several_models_are_asked_the_same_and_set_beside_the_first(
    project: Finished, tiny_llama: Path
) -> None:
    made = evaluate_models([str(tiny_llama), "latest"], Asked(), project.root)
    assert [each.scores.digest for each in made] == [
        project.manifest.outputs["base_scores"],
        project.manifest.outputs["tuned_scores"],
    ]
    assert made[0].minus_first is None
    assert made[1].minus_first == body_of(project, "report").comparisons
    manifest = newest(project)
    assert manifest.inputs.keys() == {"model", "m2_model", "suite"}
    assert manifest.outputs.keys() == {"answers", "scores", "m2_answers", "m2_scores"}
    assert manifest.student_model == "tiny-llama"
    first = made[0].scores.body
    assert manifest.eval_summary == summary_of(first.metrics, first.safety)
    verify("latest", project.root)


def test_one_that_was_asked_in_other_words_stays_by_itself(
    project: Finished, tmp_path: Path
) -> None:
    other = write_tiny_model(tmp_path / "other", chat_template=CHATML.replace("\n", " "))
    events: list[Event] = []
    with listening(events.append):
        made = evaluate_models(["latest", str(other)], Asked(), project.root)
    assert made[1].minus_first is None
    assert made[1].scores.body.model.name == "other"
    assert "other is not compared with export/tiny-llama-elements" in notes(events)[-1]


def merged(project: Finished, model: Path, parents: list[ModelRef]) -> Artifact[ExportBody]:
    """An export with the files of a model, as `nexa merge` seals one."""
    found = resolve(str(model))
    body = ExportBody(
        format="safetensors",
        dtype="float32",
        base=parents[0],
        parents=parents,
        recipe={"method": "linear"},
        model_digest=found.digest,
        parity={},
        passed=True,
    )
    draft = Draft("export", "merged", body, {name: found.folder / name for name in found.files})
    recipe = sha256_bytes(repr(draft).encode())
    return project.tiers.store.seal(
        draft, step={"name": "merge_models", "version": 1}, fingerprint=recipe, inputs={}
    )


def test_a_merged_model_and_its_parents_are_asked_by_one_command(
    project: Finished, tiny_llama: Path, tmp_path: Path
) -> None:
    child = write_tiny_model(tmp_path / "child", seed=5)
    parents = [
        resolve(reference, project=project.root).ref
        for reference in (str(tiny_llama), "export/tiny-llama-elements")
    ]
    export = merged(project, child, parents)
    for named in (export.label, str(child)):  # the record, or the folder that has its files
        made = evaluate_models([named], Asked(), project.root, parents=True)
        assert [each.scores.body.model.digest for each in made] == [
            export.body.model_digest,
            *(parent.digest for parent in parents),
        ]
        assert [each.minus_first is None for each in made] == [True, False, False]
    assert made[2].scores.digest == project.manifest.outputs["tuned_scores"]


def test_what_was_merged_from_an_adapter_has_its_base_for_a_parent(project: Finished) -> None:
    made = evaluate_models(["latest"], Asked(), project.root, parents=True)
    assert [each.scores.digest for each in made] == [
        project.manifest.outputs["tuned_scores"],
        project.manifest.outputs["base_scores"],
    ]


def test_an_exported_gguf_file_is_known_by_its_bytes(
    project: Finished, tiny_llama: Path, tmp_path: Path
) -> None:
    write_gguf(tmp_path / "m.gguf", tiny_llama)
    base = resolve(str(tiny_llama), project=project.root).ref
    body = ExportBody(
        format="gguf", dtype="f32", base=base, model_digest="0" * 64, parity={}, passed=True
    )
    draft = Draft("export", "tiny-f32", body, {"tiny.gguf": tmp_path / "m.gguf"})
    project.tiers.store.seal(
        draft, step={"name": "convert", "version": 1}, fingerprint="f" * 64, inputs={}
    )
    asked = Asked(engine="fused")
    made = evaluate_models([str(tmp_path / "m.gguf")], asked, project.root, parents=True)
    assert [each.scores.body.model.name for each in made] == ["m.gguf", "tiny-llama"]
    assert made[1].minus_first is not None
    [same] = evaluate_models(["export/tiny-f32"], asked, project.root)
    assert same.scores.body.metrics == made[0].scores.body.metrics


def test_a_conversion_has_what_was_converted_for_a_parent(
    project: Finished, tiny_llama: Path, tmp_path: Path
) -> None:
    write_gguf(tmp_path / "m.gguf", tiny_llama)
    base = resolve(str(tiny_llama), project=project.root).ref
    body = ExportBody(
        format="gguf", dtype="f32", base=base, model_digest="0" * 64, parity={}, passed=True
    )
    draft = Draft("export", "tiny-f32", body, {"tiny.gguf": tmp_path / "m.gguf"})
    project.tiers.store.seal(
        draft,
        step={"name": "convert", "version": 1},
        fingerprint="f" * 64,
        inputs={"export": project.manifest.outputs["export"]},
    )
    asked = Asked(engine="fused")
    made = evaluate_models(["export/tiny-f32"], asked, project.root, parents=True)
    names = [each.scores.body.model.name for each in made]
    assert names == ["export/tiny-f32", "export/tiny-llama-elements"]


def test_parents_that_cannot_be_known_are_an_error_that_names_them(
    project: Finished, tiny_llama: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="those of one model"):
        evaluate_models([str(tiny_llama), "latest"], Asked(), project.root, parents=True)
    with pytest.raises(ModelError, match=r"nothing here says what .*tiny-llama was made from"):
        evaluate_models([str(tiny_llama)], Asked(), project.root, parents=True)
    gone = write_tiny_model(tmp_path / "gone", seed=3)
    child = write_tiny_model(tmp_path / "child", seed=5)
    export = merged(project, child, [resolve(str(gone), project=project.root).ref])
    gone.rename(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match=r"merged@v1 was made from is no longer(.|\n)*gone"):
        evaluate_models([export.label], Asked(), project.root, parents=True)


# -- GGUF files ----------------------------------------------------------------------------------

needs_llama_cpp = pytest.mark.skipif(available() is not None, reason=str(available()))


@pytest.fixture
def gguf(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny model as a GGUF file, and a short text in the place of the general one."""
    monkeypatch.setattr("nexa.eval.general_text.general_text", lambda: b"The ice on the lake.")
    write_gguf(tmp_path / "m.gguf", tiny_llama)
    return tmp_path / "m.gguf"


@needs_llama_cpp
def test_a_gguf_file_is_answered_by_llama_cpp(project: Finished, gguf: Path) -> None:
    path = write_rows(project.root / "more.jsonl", rows(range(200, 203)))
    asked = Asked(data=path, max_new_tokens=4)
    events: list[Event] = []
    with listening(events.append):
        made = evaluate_models([str(gguf), str(gguf)], asked, project.root)
    assert any("m.gguf: answered by llama.cpp" in note for note in notes(events))
    answers = project.tiers.store.by_digest(made[0].scores.body.answers_digest)
    assert answers.body.decoding["engine"] == "llama.cpp"
    assert made[1].minus_first is not None
    assert {c.difference.mean for c in made[1].minus_first} == {0}
    in_torch = evaluate_model(
        str(gguf), Asked(data=path, max_new_tokens=4, engine="transformers"), project.root
    )
    assert in_torch.body.seal != made[0].scores.body.seal


@needs_llama_cpp
def test_a_gguf_file_beside_another_model_is_answered_as_that_is(
    project: Finished, gguf: Path, tiny_llama: Path
) -> None:
    path = write_rows(project.root / "more.jsonl", rows(range(200, 203)))
    asked = Asked(data=path, max_new_tokens=4)
    events: list[Event] = []
    with listening(events.append):
        compared = compare_models(str(tiny_llama), str(gguf), asked, project.root)
    assert {c.difference.mean for c in compared} == {0}
    assert any("m.gguf: dequantised and answered by torch" in note for note in notes(events))
    only = Asked(data=path, max_new_tokens=4, engine="llama.cpp")
    with pytest.raises(ModelError, match="runs GGUF files, and tiny-llama is none"):
        compare_models(str(tiny_llama), str(gguf), only, project.root)
