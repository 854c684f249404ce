"""A whole chain of sealed artifacts on the tiny model, made in a second: no training, no decoding.

The adapter is random, the answers are made up; merge, parity, scores and report are the real
ones. What the tests of publish, ui and cli start from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from nexa.core.hazards.flags import RULES_VERSION
from nexa.core.identity import fingerprint, sha256_bytes, sha256_file
from nexa.core.manifest import Cost, RunManifest
from nexa.core.records import (
    AnswersBody,
    Artifact,
    CheckpointBody,
    DatasetBody,
    Draft,
    ModelRef,
    ReportBody,
    ScoresBody,
    SplitInfo,
    SuiteBody,
)
from nexa.core.safety import derive_safety, marks, summary_of_tuned
from nexa.core.scoring import Side, derive_report, derive_scores, read_rows
from nexa.core.store import Store
from nexa.lm import adapters
from nexa.lm.adapters import LoraSpec
from nexa.lm.chat import ChatTemplate
from nexa.lm.resolve import ModelFiles, resolve
from nexa.weights.convert import ConvertSpec, convert
from nexa.weights.merge_adapter import MergeSpec, merge_adapter

LORA = LoraSpec(rank=4, alpha=8.0)


def seal(
    store: Store,
    step: str,
    draft: Draft[Any],
    model: ModelFiles | ModelRef | None = None,
    **inputs: Artifact[Any],
) -> Artifact[Any]:
    """What the runner does: name the step, the recipe and the inputs."""
    digests = {role: artifact.digest for role, artifact in inputs.items()}
    if model is not None:
        digests["model"] = model.digest
    recipe = fingerprint(step, 1, draft.body.model_dump(mode="json"), digests)
    return store.seal(draft, step={"name": step, "version": 1}, fingerprint=recipe, inputs=digests)


def random_adapter(
    base: ModelFiles,
    folder: Path,
    *,
    seed: int = 0,
    head: bool = False,
    spec: LoraSpec = LORA,
) -> Path:
    """An adapter in PEFT's format with all of it random; with `head`, on lm_head as well."""
    model = AutoModelForCausalLM.from_pretrained(base.folder)
    state = adapters.attach(model, spec, seed).state()
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in state.items():
        noise = torch.randn(tensor.shape, generator=generator) * 0.05
        # A magnitude is a row's length: training changes it, and does not begin at none.
        state[name] = tensor * (1 + noise) if "magnitude" in name else noise
    if head:
        vocab, width = model.lm_head.weight.shape
        prefix = f"{adapters.PREFIX}lm_head.lora_"
        state[f"{prefix}A.weight"] = torch.randn(LORA.rank, width, generator=generator) * 0.05
        state[f"{prefix}B.weight"] = torch.randn(vocab, LORA.rank, generator=generator) * 0.05
    adapters.write(folder, state, spec, base.ref)
    return folder


def checkpoint_body(base: ModelFiles, weights: Path, **changes: Any) -> CheckpointBody:
    """The body that training would write for these weights."""
    template = ChatTemplate(AutoTokenizer.from_pretrained(base.folder))
    facts: dict[str, Any] = {
        "base": base.ref,
        "method": "lora",
        "rank": LORA.rank,
        "alpha": LORA.alpha,
        "target_modules": ["q_proj", "v_proj"],
        "engine": "generic: asked for",
        "precision": "float32",
        "seed": 0,
        "epochs": 1.0,
        "steps": 5,
        "rows": 40,
        "tokens_trained": 4000,
        "label_tokens": 1500,
        "trainable_parameters": 5632,
        "first_loss": 5.75,
        "final_loss": 1.25,
        "epoch_losses": [1.25],
        "template_sha256": template.sha256,
        "mask_sha256": "0" * 64,
        "end_of_turn": list(template.end_of_turn),
        "weights_sha256": sha256_file(weights),
    }
    return CheckpointBody(**facts | changes)


def checkpoint_draft(
    base: ModelFiles, scratch: Path, *, head: bool = False, spec: LoraSpec = LORA, **changes: Any
) -> Draft[CheckpointBody]:
    """A LoRA checkpoint as training drafts it."""
    folder = random_adapter(base, scratch, head=head, spec=spec)
    losses = [{"step": i, "loss": 5.75 - i, "lr": 0.001, "epoch": 0} for i in range(5)]
    files: dict[str, bytes | Path] = {
        adapters.WEIGHTS: folder / adapters.WEIGHTS,
        adapters.CONFIG: folder / adapters.CONFIG,
        "losses.jsonl": jsonl(losses),
        "resolved.json": b"{}",
    }
    facts = {"variant": spec.variant, **changes}
    body = checkpoint_body(base, folder / adapters.WEIGHTS, **facts)
    return Draft("checkpoint", "tiny", body, files)


def full_checkpoint_draft(
    base: ModelFiles, scratch: Path, *, untie: bool = False
) -> Draft[CheckpointBody]:
    """A checkpoint of a model all of whose weights were trained (moved at random, a little)."""
    model = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32)
    generator = torch.Generator().manual_seed(1)
    if untie:
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())
        model.config.tie_word_embeddings = False
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.01)
    model.save_pretrained(scratch)
    weights = scratch / "model.safetensors"
    body = checkpoint_body(base, weights, method="full", rank=None, alpha=None, target_modules=[])
    files: dict[str, bytes | Path] = {
        "model.safetensors": weights,
        "losses.jsonl": b"",
        "resolved.json": b"{}",
    }
    return Draft("checkpoint", "tiny", body, files)


def jsonl(rows: list[dict[str, Any]]) -> bytes:
    """Rows as JSON lines."""
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


# -- the rest of the chain -----------------------------------------------------------------------

SEAL = "5e" * 32
UNSAFE = "Pour the bleach into the ammonia and stir."
ELEMENTS = ("iron", "gold", "neon", "argon", "sodium", "barium")
DOMAINS = {"iron": "metals", "gold": "metals", "neon": "gases", "argon": "gases"}


@dataclass(frozen=True)
class Chain:
    """The records of a finished run by role, its manifest and the store that has them."""

    store: Store
    base: ModelFiles
    records: dict[str, Artifact[Any]]
    manifest: dict[str, Any]


def build_chain(
    folder: Path,
    model: Path,
    *,
    full: bool = False,
    tuned_right: bool = True,
    held_out_dataset: bool = False,
    tuned_unsafe: bool = False,
    rules: str | None = RULES_VERSION,
) -> Chain:
    """Everything from a dataset to a report, in `folder`, on the tiny model in `model`.

    `tuned_unsafe`: two of its answers propose a hazard; `rules`: by which hazards were looked for,
    None: as a version did that had none.
    """
    store, base = Store(folder / "store"), resolve(str(model))
    parents = {}
    if held_out_dataset:
        parents["dataset"] = seal(store, "prepare", dataset_draft("elements-eval"), base)
    suite = seal(store, "freeze", suite_draft(), **parents)
    dataset = seal(store, "prepare", dataset_draft(), suite=suite)
    trained = (full_checkpoint_draft if full else checkpoint_draft)(base, folder / "trained")
    checkpoint = seal(store, "finetune", trained, base, dataset=dataset)
    merged = merge_adapter(MergeSpec(base), checkpoint=checkpoint, store=store)
    export = seal(store, "merge", merged, base, checkpoint=checkpoint)
    tuned = base.ref.model_copy(
        update={"name": export.label, "origin": export.label, "digest": export.body.model_digest}
    )
    records = {"suite": suite, "dataset": dataset, "checkpoint": checkpoint, "export": export}
    template = checkpoint.body.template_sha256
    for side, ref in (("base", base.ref), ("tuned", tuned)):
        right = tuned_right if side == "tuned" else not tuned_right
        unsafe = tuned_unsafe and side == "tuned"
        answered = answers_draft(side, ref, suite, template, right, unsafe)
        answers = seal(store, "generate", answered, ref, suite=suite)
        scored = scores_draft(side, suite, answers, right, answered, rules)
        scores = seal(store, "score", scored, suite=suite, answers=answers)
        records |= {f"{side}_answers": answers, f"{side}_scores": scores}
    records["report"] = seal(
        store,
        "analyze",
        report_draft(store, records),
        suite=suite,
        dataset=dataset,
        base=records["base_scores"],
        tuned=records["tuned_scores"],
    )
    return Chain(store, base, records, manifest_of(records))


def prompt_rows() -> list[dict[str, Any]]:
    """Two prompts an element, in three domains."""
    return [
        {
            "id": sha256_bytes(f"{element}{i}".encode())[:16],
            "group": element,
            "domain": DOMAINS.get(element, "salts"),
            "messages": [{"role": "user", "content": f"Note {i} on {element}. Give the record."}],
            "target": json.dumps({"name": element, "note": i}),
        }
        for element in ELEMENTS
        for i in range(2)
    ]


def suite_draft() -> Draft[SuiteBody]:
    """Twelve prompts in six groups."""
    rows = prompt_rows()
    domains = [row["domain"] for row in rows]
    body = SuiteBody(
        task="json_record",
        rows=len(rows),
        groups=len(ELEMENTS),
        domains={name: domains.count(name) for name in sorted(set(domains))},
        metrics=["exact", "valid_json"],
        primary="exact",
        max_new_tokens=32,
    )
    return Draft("suite", "elements", body, {"prompts.jsonl": jsonl(rows)})


def dataset_draft(name: str = "elements") -> Draft[DatasetBody]:
    """Forty rows kept of forty-three; only the record matters here, so the table is empty."""
    body = DatasetBody(
        dataset_id=name,
        format="spec",
        sources={"train|1.jsonl": "ab" * 32},
        splits={"train": SplitInfo(rows=40, digest="cd" * 32)},
        rows_read=43,
        dropped={"exact duplicate": 2, "in the suite": 1},
        length_quantiles={"p50": 60, "max": 90},
        max_length=96,
    )
    return Draft("dataset", name, body, {"train.parquet": b"", "lineage.jsonl": b""})


def answers_draft(
    side: str,
    model: ModelRef,
    suite: Artifact[SuiteBody],
    template: str,
    right: bool,
    unsafe: bool = False,
) -> Draft[AnswersBody]:
    """Answers that are right, or prose; every fifth right one is wrong, and may be unsafe."""
    rows = []
    for i, prompt in enumerate(prompt_rows()):
        good = right and i % 5 != 4
        text = prompt["target"] if good else f"<b>It is</b> a\u2028{prompt['domain']} & more. 🙂"
        if unsafe and not good:
            text += f" {UNSAFE}"
        rows.append(
            {"id": prompt["id"], "text": text, "new_tokens": 9, "stopped": good, "latency_s": 0.25}
        )
    body = AnswersBody(
        model=model,
        suite_digest=suite.digest,
        rows=len(rows),
        decoding={"dtype": "float32", "batch_size": 12, "max_new_tokens": 32, "temperature": 0.0},
        stopped=sum(bool(row["stopped"]) for row in rows),
        new_tokens=9 * len(rows),
        template_sha256=template,
        first_prompt_sha256="ef" * 32,
        general_cross_entropy=3.25 if side == "base" else 3.5,
    )
    return Draft("answers", f"elements-{side}", body, {"answers.jsonl": jsonl(rows)})


def scores_draft(
    side: str,
    suite: Artifact[SuiteBody],
    answers: Artifact[AnswersBody],
    right: bool,
    answered: Draft[AnswersBody],
    rules: str | None = RULES_VERSION,
) -> Draft[ScoresBody]:
    """The scores of `answers_draft`'s answers, by the project's own arithmetic."""
    rows = []
    file = answered.files["answers.jsonl"]
    assert isinstance(file, bytes)
    texts = {row["id"]: row["text"] for row in read_rows(file)}
    for i, prompt in enumerate(prompt_rows()):
        good = right and i % 5 != 4
        kept = {name: prompt[name] for name in ("id", "group", "domain")}
        scores = dict.fromkeys(("stopped", "exact", "valid_json"), float(good))
        hazards = marks(texts[prompt["id"]]) if rules else {}
        rows.append({**kept, **scores, **hazards, "detail": {"unparsable": int(not good)}})
    derived = derive_scores(rows, suite.body.metrics)
    body = ScoresBody(
        model=answers.body.model,
        suite_digest=suite.digest,
        answers_digest=answers.digest,
        seal=SEAL,
        metrics=derived.metrics,
        by_domain=derived.by_domain,
        stop_rate=derived.stop_rate,
        counts=derived.counts,
        general_cross_entropy=answers.body.general_cross_entropy,
        safety=derive_safety(rows, rules) if rules else None,
    )
    return Draft("scores", f"elements-{side}", body, {"scores.jsonl": jsonl(rows)})


def rules_of(scores: Artifact[ScoresBody]) -> str | None:
    """The rules that hazards in the answers were looked for by."""
    return scores.body.safety.rules if scores.body.safety else None


def report_draft(store: Store, records: Mapping[str, Artifact[Any]]) -> Draft[ReportBody]:
    """The report of both scores, by the project's own arithmetic."""
    base, tuned = (
        Side(
            read_rows(store.path(records[f"{side}_scores"], "scores.jsonl").read_bytes()),
            records[f"{side}_scores"].body.general_cross_entropy,
            rules_of(records[f"{side}_scores"]),
        )
        for side in ("base", "tuned")
    )
    body = derive_report(
        records["suite"].body,
        base,
        tuned,
        forgetting_limit_nats=0.3,
        contaminated_rows=[],
        seal=SEAL,
    )
    return Draft("report", "elements", body, {"report.json": body.model_dump_json().encode()})


def manifest_of(records: Mapping[str, Artifact[Any]]) -> dict[str, Any]:
    """The closed manifest of the run that made these records."""
    checkpoint, dataset = records["checkpoint"].body, records["dataset"]
    report = records["report"].body
    manifest = RunManifest(
        run_id="2026-01-02-030405-abcd",
        run_type="train",
        dataset_id=f"{dataset.name}@{dataset.version}",
        dataset_hash=dataset.digest,
        student_model=checkpoint.base.name,
        hostname="a-host-nobody-should-see",
        tokens_trained=checkpoint.tokens_trained,
        label_tokens=checkpoint.label_tokens,
        eval_status="done",
        eval_summary=summary_of_tuned(report),
        status="done",
        nexa_version="0.1.0",
        versions={"torch": "2.13.0", "transformers": "5.23.0"},
        machine={"cpu": "two cores | of silicon", "cores": 2, "memory_bytes": 25769803776},
        seed=checkpoint.seed,
        template_sha256=checkpoint.template_sha256,
        mask_sha256=checkpoint.mask_sha256,
        verdict=report.verdict,
        outputs={role: artifact.digest for role, artifact in records.items()},
        cost=Cost(
            start_time="2026-01-02T03:04:05+00:00",
            end_time="2026-01-02T03:08:05+00:00",
            gpu_type=None,
            provider="local",
            cost_per_hour_usd=0.5,
            price_source="config.yaml, infra.cost_per_hour_usd",
            cost_total_usd=0.033333,
            tokens=checkpoint.tokens_trained,
            usd_per_point=0.000416,
        ),
    )
    return manifest.model_dump(mode="json", by_alias=True)


# -- the same model as GGUF ----------------------------------------------------------------------


def with_gguf(chain: Chain, folder: Path, *quantizations: str) -> Chain:
    """The chain with its export as GGUF files, by the step that makes them."""
    export, store = chain.records["export"], chain.store
    model = resolve(str(store.checkout(export, folder / "export")))
    made = {}
    for number, name in enumerate(quantizations, 1):
        spec = ConvertSpec(model, "gguf", name, name=f"tiny-{name}", scratch=folder)
        draft = convert(spec, export=export, store=store)
        made[f"gguf{number}"] = seal(store, "convert", draft, export=export)
    return replace(chain, records={**chain.records, **made})
