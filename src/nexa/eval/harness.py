"""Tasks of the lm-evaluation-harness as sealed artifacts: suite, answers, scores.

Three steps, each re-runnable alone. lm-eval writes the questions and marks the answers, by its own
code; the model is Nexa's. Scoring hands the sealed answers to lm-eval's own evaluation, so that
every number is what lm-eval would say of them.
"""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nexa.core.errors import EvalError
from nexa.core.identity import canonical_json, sha256_bytes, where
from nexa.core.records import (
    AnswersBody,
    Artifact,
    Draft,
    ExportBody,
    Interval,
    ScoresBody,
    SuiteBody,
)
from nexa.core.scoring import derive_scores, read_rows, write_rows
from nexa.core.store import Store
from nexa.eval.general_text import general_cross_entropy, general_text_sha256
from nexa.eval.generate import require_sealed
from nexa.eval.harness_model import HarnessModel, Response
from nexa.eval.harness_tasks import (
    BYTE_PROBABILITY,
    FEWSHOT_SEED,
    PREFIX,
    Loaded,
    inside,
    instances_of,
    longest_answer,
    metric_name,
    metrics_of,
    questions_of,
    row_id,
)
from nexa.eval.safety import RULES_VERSION, marks, safety_of
from nexa.eval.spent import on_this_machine
from nexa.lm.chat import ChatTemplate
from nexa.lm.llama_cpp import runtime_version
from nexa.lm.local import CACHES, LLAMA_CPP, Choice, Engine, choose, close_model, open_model
from nexa.lm.resolve import ModelFiles

IDENTITY = "harness.json"
RESULTS = "lm_eval.json"
# lm-eval draws 100,000 samples for the error of a metric that is no mean; so many are enough.
BOOTSTRAP = 1000
Z = 1.959963984540054  # 95 % of a normal distribution lie within so many standard errors
DECIMALS = 9  # as records keep them
_NO_ERROR = 0  # groups of an interval that nobody knows the width of


@dataclass(frozen=True)
class HarnessSuiteSpec:
    """Which task, by all that makes it what it is."""

    task: str
    identity: Mapping[str, Any]
    loaded: Loaded = where()
    name: str = where()


@dataclass(frozen=True)
class HarnessAnswersSpec:
    """Which model answers, and how; see `GenerateSpec`."""

    model: ModelFiles
    loaded: Loaded = where()
    name: str = where()
    batch_size: int = 1
    dtype: str = "bfloat16"
    engine: Engine = "auto"
    chat_template: bool = False
    cost_per_hour_usd: float = where(default=0.0)


@dataclass(frozen=True)
class HarnessScoresSpec:
    """The task says how answers are marked; there is nothing else to choose."""

    loaded: Loaded = where()
    name: str = where()


def harness_suite(spec: HarnessSuiteSpec, *, store: Store) -> Draft[SuiteBody]:
    """Write down a task's questions.

    The draft's files are `prompts.jsonl` and `harness.json`, which holds what tells the task from
    any other: lm-eval's version, the task's, the digest of its whole configuration, its examples.

    Raises:
        EvalError: a task without a metric that single rows have.
    """
    loaded = spec.loaded
    with inside(loaded.cache):
        rows, metrics = questions_of(loaded), metrics_of(loaded)
    domains: dict[str, int] = defaultdict(int)
    for row in rows:
        if row["domain"]:
            domains[row["domain"]] += 1
    body = SuiteBody(
        task=f"{PREFIX}{spec.task}",
        rows=len(rows),
        groups=len({row["group"] for row in rows}),
        domains=dict(sorted(domains.items())),
        metrics=metrics,
        primary=metrics[0],
        max_new_tokens=longest_answer(loaded),
    )
    identity = canonical_json(dict(loaded.identity))
    return Draft("suite", spec.name, body, {"prompts.jsonl": write_rows(rows), IDENTITY: identity})


def harness_answers(
    spec: HarnessAnswersSpec,
    *,
    suite: Artifact[SuiteBody],
    export: Artifact[ExportBody] | None = None,
    store: Store,
) -> Draft[AnswersBody]:
    """Ask a model of this machine all that a task asks.

    The draft's file is `answers.jsonl`: id, text, new_tokens, stopped, latency_s, and `responses`,
    what the model said to each request in lm-eval's form. Where choices were weighed, the text is
    that of the likeliest.

    Raises:
        EvalError: the loaded task is not the suite's; the model is not that export; a prompt with
            two beginning-of-text tokens; answers that are not simply the likeliest.
        ModelError: a model that cannot be loaded.
    """
    if export is not None:
        require_sealed(spec.model, export)
    _require_same(spec.loaded, suite, store)
    choice = choose(spec.model, dtype=spec.dtype, engine=spec.engine)
    opened = open_model(spec.model, dtype=spec.dtype, engine=spec.engine)
    try:
        # llama.cpp takes one text at a time.
        batch_size = 1 if choice.engine == LLAMA_CPP else spec.batch_size
        model = HarnessModel(opened, batch_size)
        start = time.perf_counter()
        said, first_ids = _asked(spec, model)
        wall_s = time.perf_counter() - start
        cross_entropy = general_cross_entropy(opened)
        template = ChatTemplate(opened.tokenizer).sha256 if spec.chat_template else ""
    finally:
        close_model(opened)
    rows = [_answer(each) for each in said.values()]
    body = AnswersBody(
        model=spec.model.ref,
        suite_digest=suite.digest,
        rows=len(rows),
        decoding=_decoding(spec, choice, batch_size, suite.body.max_new_tokens),
        engine_reason=choice.reason,
        stopped=sum(row["stopped"] for row in rows),
        new_tokens=sum(row["new_tokens"] for row in rows),
        template_sha256=template,
        first_prompt_sha256=sha256_bytes(canonical_json(first_ids)),
        general_cross_entropy=round(cross_entropy, DECIMALS),
        general_text_sha256=general_text_sha256(),
        spent=on_this_machine(
            rows,
            input_tokens=sum(r.input_tokens for each in said.values() for r in each.responses),
            wall_s=wall_s,
            cost_per_hour_usd=spec.cost_per_hour_usd,
        ),
    )
    return Draft("answers", spec.name, body, {"answers.jsonl": write_rows(rows)})


def harness_scores(
    spec: HarnessScoresSpec,
    *,
    suite: Artifact[SuiteBody],
    answers: Artifact[AnswersBody],
    store: Store,
) -> Draft[ScoresBody]:
    """Mark the answers, by lm-eval's own evaluation.

    The draft's files are `scores.jsonl` and `lm_eval.json`, lm-eval's results as it gives them.
    Metrics that no single row has are in the body's `corpus`, with 95 % intervals from lm-eval's
    standard errors; where it has none, both ends are the number itself and `groups` is 0.

    Raises:
        EvalError: the loaded task is not the suite's, the answers are another suite's, or a row's
            score is not a number from 0 to 1.
    """
    loaded = spec.loaded
    _require_same(loaded, suite, store)
    if answers.body.suite_digest != suite.digest:
        raise EvalError(f"{answers.label} does not answer {suite.label}")
    given = {row["id"]: row for row in read_rows(store.path(answers, "answers.jsonl").read_bytes())}
    results = _evaluated(loaded, given)
    questions = read_rows(store.path(suite, "prompts.jsonl").read_bytes())
    found = _row_scores(loaded, results["samples"])
    generated = suite.body.max_new_tokens > 0
    rows = [
        _scored(q, given[q["id"]], found[q["id"]], suite.body.metrics, generated=generated)
        for q in questions
    ]
    derived = derive_scores(rows, suite.body.metrics)
    body = ScoresBody(
        model=answers.body.model,
        suite_digest=suite.digest,
        answers_digest=answers.digest,
        seal=_seal(suite, answers, generated=generated),
        metrics=derived.metrics,
        by_domain=derived.by_domain,
        stop_rate=derived.stop_rate,
        general_cross_entropy=answers.body.general_cross_entropy,
        counts=derived.counts,
        missing=derived.missing,
        bounds=derived.bounds,
        corpus=_corpus(loaded, results["results"], suite.body.metrics) or None,
        safety=safety_of(rows) if generated else None,
        spent=answers.body.spent,
    )
    kept = {name: results[name] for name in ("results", "versions", "n-shot", "n-samples")}
    files = {
        "scores.jsonl": write_rows(rows),
        RESULTS: json.dumps(kept, sort_keys=True, default=str).encode(),
    }
    return Draft("scores", spec.name, body, files)


# -- asking --------------------------------------------------------------------------------------


@dataclass
class _Said:
    """What a model said about one row of a task."""

    id: str
    texts: list[str] = field(default_factory=list)
    """Of each response: the text that was weighed, or the one that was written."""
    kind: str = ""
    responses: list[Response] = field(default_factory=list)


def _asked(spec: HarnessAnswersSpec, model: HarnessModel) -> tuple[dict[str, _Said], list[int]]:
    """All responses, by row, and the ids of the very first prompt."""
    loaded = spec.loaded
    by_kind: dict[str, list[Any]] = defaultdict(list)
    with inside(loaded.cache):
        for task in loaded.tasks.values():
            for instance in instances_of(task, loaded, model if spec.chat_template else None):
                by_kind[instance.request_type] += [instance] * (instance.repeats or 1)
    said: dict[str, _Said] = {}
    for kind, requests in by_kind.items():
        getattr(model, kind)(requests)
        for request, response in zip(requests, model.responses, strict=True):
            each = said.setdefault(row_id(request), _Said(row_id(request)))
            each.kind = kind
            each.texts.append(response.value if kind == "generate_until" else request.args[-1])
            each.responses.append(response)
    first = next(iter(by_kind.values()))[0]
    return said, model.prompt_ids(first)


def _answer(said: _Said) -> dict[str, Any]:
    """A line of `answers.jsonl`."""
    responses = said.responses
    if said.kind == "generate_until":
        text = said.texts[0]
    elif said.kind == "loglikelihood" and len(responses) > 1:
        best = max(range(len(responses)), key=lambda i: responses[i].value[0])
        text = said.texts[best].strip()
    else:  # one text that was weighed: the model wrote nothing
        text = ""
    return {
        "id": said.id,
        "text": text,
        "new_tokens": sum(response.new_tokens for response in responses),
        "stopped": all(response.stopped for response in responses),
        "latency_s": round(sum(response.latency_s for response in responses), 3),
        "responses": [response.value for response in responses],
    }


def _decoding(
    spec: HarnessAnswersSpec, choice: Choice, batch_size: int, max_new_tokens: int
) -> dict[str, Any]:
    """What answers hang on beside model and prompts."""
    version = (
        {"version": runtime_version()} if choice.engine == LLAMA_CPP else {"dtype": spec.dtype}
    )
    return {
        "method": "greedy" if max_new_tokens else "likelihood",
        "engine": choice.engine,
        **version,
        "batch_size": batch_size,
        "cache": CACHES[choice.engine],
        "max_new_tokens": max_new_tokens,
        "chat_template": spec.chat_template,
        "device": "cpu",
    }


def _require_same(loaded: Loaded, suite: Artifact[SuiteBody], store: Store) -> None:
    sealed = store.path(suite, IDENTITY).read_bytes()
    if sealed != canonical_json(dict(loaded.identity)):
        raise EvalError(
            f"the task {loaded.name} is not what {suite.label} was made of",
            found="lm-eval's version, the task's configuration, its data or its examples differ",
        )


# -- marking -------------------------------------------------------------------------------------


def _evaluated(loaded: Loaded, given: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """lm-eval's own evaluation of answers that are there already."""
    from lm_eval.api.model import LM
    from lm_eval.evaluator import evaluate

    left = {name: list(row["responses"]) for name, row in given.items()}

    def next_of(request: Any) -> Any:
        value = left[row_id(request)].pop(0)
        return tuple(value) if isinstance(value, list) else value

    class Answered(LM):  # type: ignore[misc]  # lm-eval ships no types
        """A model that has said all it has to say."""

        def loglikelihood(self, requests: Sequence[Any], **_: Any) -> list[Any]:
            return [next_of(request) for request in requests]

        loglikelihood_rolling = generate_until = loglikelihood

    with inside(loaded.cache):
        for task in loaded.tasks.values():
            task.set_fewshot_seed(seed=FEWSHOT_SEED)
        results: dict[str, Any] = evaluate(
            Answered(),
            {"tasks": dict(loaded.tasks), "groups": {}},
            limit=loaded.limit,
            bootstrap_iters=BOOTSTRAP,
            confirm_run_unsafe_code=loaded.unsafe_code,
        )
    return results


def _row_scores(
    loaded: Loaded, samples: Mapping[str, Sequence[Mapping[str, Any]]]
) -> dict[str, dict[str, Any]]:
    """What lm-eval says of each row: metric -> value, as it is."""
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    for leaf, task in loaded.tasks.items():
        for sample in samples[leaf]:
            scores = found[f"{task.config.task}/{sample['doc_id']}"]
            for metric in sample["metrics"]:
                scores[metric_name(metric, sample["filter"])] = sample[metric]
            if task.OUTPUT_TYPE == "loglikelihood_rolling":
                nats, size_bytes = scores["bits_per_byte"]
                scores[BYTE_PROBABILITY] = math.exp(nats / size_bytes) if size_bytes else None
    return found


def _scored(
    question: Mapping[str, Any],
    answer: Mapping[str, Any],
    scores: Mapping[str, Any],
    metrics: Sequence[str],
    *,
    generated: bool,
) -> dict[str, Any]:
    """A line of `scores.jsonl`; only what a model wrote is looked through for hazards."""
    return {
        "id": question["id"],
        "group": question["group"],
        "domain": question["domain"],
        "stopped": int(answer["stopped"]),
        **{metric: _number(question["id"], metric, scores.get(metric)) for metric in metrics},
        **(marks(answer["text"]) if generated else {}),
        "detail": {},
    }


def _number(row: str, metric: str, value: Any) -> float | None:
    """A score from 0 to 1; None where lm-eval gives the row none.

    Raises:
        EvalError: it is another number.
    """
    if value is None:
        return None
    number = float(value)
    if not 0 <= number <= 1:
        raise EvalError(
            f"{metric} of row {row} is {number:g}: scores here run from 0 to 1",
            fix="lm-eval's own command tells such a metric",
        )
    return number


def _corpus(
    loaded: Loaded, results: Mapping[str, Mapping[str, Any]], metrics: Sequence[str]
) -> dict[str, Interval]:
    """Metrics that no row has, by task where there are several."""
    found = {}
    for leaf in loaded.tasks:
        told = results[leaf]
        for key, value in told.items():
            metric, _, filter_name = key.partition(",")
            number = isinstance(value, int | float) and not isinstance(value, bool)
            name = metric_name(metric, filter_name)
            if not filter_name or not number or metric.endswith("_stderr") or name in metrics:
                continue
            error = told.get(f"{metric}_stderr,{filter_name}")
            label = name if len(loaded.tasks) == 1 else f"{leaf}: {name}"
            found[label] = _interval(float(value), error, int(told["sample_len"]))
    return found


def _interval(value: float, error: Any, rows: int) -> Interval:
    known = isinstance(error, int | float) and math.isfinite(error)
    half = Z * float(error) if known else 0.0
    return Interval(
        mean=round(value, DECIMALS),
        low=round(value - half, DECIMALS),
        high=round(value + half, DECIMALS),
        n=rows,
        groups=rows if known else _NO_ERROR,
    )


def _seal(suite: Artifact[SuiteBody], answers: Artifact[AnswersBody], *, generated: bool) -> str:
    """What made the numbers: the task with all that it is made of, and how it was answered."""
    ruler = {
        "task": suite.body.task,
        "harness": suite.files[IDENTITY],
        "metrics": list(suite.body.metrics),
        "decoding": answers.body.decoding,
        "template_sha256": answers.body.template_sha256,
        "general_text_sha256": answers.body.general_text_sha256,
    }
    rules = {"safety_rules": RULES_VERSION} if generated else {}
    return sha256_bytes(canonical_json({**ruler, **rules}))
