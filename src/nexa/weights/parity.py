"""The proof that a written model folder is the model that was trained.

The folder is loaded from disk as any user loads it, in float32. Then the same module is given the
base's weights, the adapter is attached live, and the adapter is merged into the weights: four
passes over short texts, one model in memory. Every tensor on disk is also compared with the merged
one, rounded once: a flipped bit is found where no logit would show it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.utils import logging as transformers_logging

from nexa.core.errors import TemplateError
from nexa.core.records import AdoptedBody, CheckpointBody
from nexa.lm import adapters
from nexa.lm.chat import ChatTemplate
from nexa.weights.checks import Check, Parity
from nexa.weights.merging import Tuned
from nexa.weights.probes import probe_prompts, probe_texts
from nexa.weights.tensors import model_weights

# Float32 sums in another order: measured 2e-6 on SmolLM2-135M, 1e-4 is far from any real fault.
LIVE_LIMIT = 1e-4
LIVE_TEXTS = 2  # exact to the last bits, so two texts say as much as eight
# Rounding to bfloat16 moves each weight by at most 1/256 of itself.
KL_LIMIT_NATS = 0.05
TOP1_LIMIT = 0.9
# The logits' change that survives, as a share of the adapter's own: 0 dropped, 1 right, 2 twice.
SHARE_LIMITS = (0.5, 1.5)
ONCE_LIMITS = (0.75, 1.25)
# Below this the adapter does nothing at all (float32 noise is about 1e-6).
ACTS_FLOOR = 1e-5


def prove(
    folder: Path,
    tuned: Tuned,
    *,
    base_folder: Path,
    checkpoint: CheckpointBody | AdoptedBody,
    adapter: Path | None,
    dtype: str,
) -> Parity:
    """Compare a written model folder with base and adapter.

    Args:
        folder: the merged model, as it lies on disk.
        tuned: what its weights should be, in float32.
        base_folder: the base model, for its tokenizer.
        checkpoint: what training recorded (chat template, end of turn).
        adapter: the adapter in PEFT's format; None when all weights were trained.
        dtype: the type that the weights were to be stored in.

    Every check is made, also after one has failed: the list of failures is the diagnosis.
    """
    tokenizer = AutoTokenizer.from_pretrained(base_folder)
    prompts, texts = probe_prompts(tokenizer), probe_texts(tokenizer)
    stated = json.loads((folder / "config.json").read_bytes()).get("dtype")
    checks = [
        Check("dtype", stated == dtype, stated, dtype),
        *tensor_checks(folder, tuned, dtype=dtype),
        *text_checks(folder, prompts, checkpoint),
        *logit_checks(folder, tuned, texts, adapter, dtype=dtype),
    ]
    return Parity(
        tuple(checks),
        {
            "dtype": dtype,
            "rounding": f"float32 to {dtype}, once, to nearest even",
            "prompts": len(texts),
            "tokens": sum(map(len, texts)),
        },
        refusal="the merged model is not the model that was trained",
        fix="nothing was published; keep the checkpoint and report this",
    )


# -- tensors: what is stored ---------------------------------------------------------------------


def tensor_checks(folder: Path, tuned: Tuned, *, dtype: str) -> Iterator[Check]:
    """Every stored tensor against the merged one, and how much of the change is there."""
    kind: torch.dtype = getattr(torch, dtype)
    on_disk = model_weights(folder)
    strangers = sorted(set(tuned.names) ^ set(on_disk.names))
    yield Check("tensor_names", not strangers, strangers[:3] or "equal", "equal")
    wrong, shares = [], []
    for name in sorted(set(tuned.names) & set(on_disk.names)):
        stored, wanted = on_disk.stored(name), tuned.tensor(name)
        rounded = wanted.to(kind)
        if stored.dtype != kind or not torch.equal(stored, rounded):
            wrong.append(name)
        change = tuned.change(name)
        if change is None or not change.any() or stored.shape != wanted.shape:
            continue
        # Rounding's own part is taken out: 1 is once, whatever the stored type loses.
        off = ((stored.float() - rounded.float()) * change).sum() / change.square().sum()
        shares.append(1 + float(off))
    yield Check("tensors_exact", not wrong, wrong[:3] or "equal", "equal to float32 rounded once")
    worst = max(shares, key=lambda share: abs(share - 1), default=0.0)
    once = bool(shares) and all(ONCE_LIMITS[0] <= share <= ONCE_LIMITS[1] for share in shares)
    yield Check("applied_once", once, worst, list(ONCE_LIMITS))


# -- text: tokenizer, template, where it stops ----------------------------------------------------


def text_checks(
    folder: Path, prompts: list[list[int]], checkpoint: CheckpointBody | AdoptedBody
) -> Iterator[Check]:
    """Tokenizer, chat template and where generation stops, against what was trained under."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    wanted = checkpoint.template_sha256
    try:
        template = ChatTemplate(tokenizer)
    except TemplateError as error:
        yield Check("template", False, error.what, wanted)
        return
    yield Check("template", template.sha256 == wanted, template.sha256, wanted)
    here = probe_prompts(tokenizer)
    changed = [i for i, (a, b) in enumerate(zip(here, prompts, strict=True)) if a != b]
    yield Check("token_ids", not changed, changed or "equal", "equal to the base tokenizer's")
    generation = json.loads((folder / "generation_config.json").read_bytes())
    eos = generation.get("eos_token_id")
    stops = eos if isinstance(eos, list) else [eos]
    trained = checkpoint.end_of_turn
    ends = list(template.end_of_turn) == trained and trained[-1] in stops
    yield Check(
        "end_of_turn", ends, {"template": list(template.end_of_turn), "stops": stops}, trained
    )


# -- logits: what the folder computes -------------------------------------------------------------


def logit_checks(
    folder: Path, tuned: Tuned, texts: list[list[int]], adapter: Path | None, *, dtype: str
) -> Iterator[Check]:
    """What the reloaded folder computes, against base, live adapter and float32 merge."""
    with _quiet_loading():
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    yield _embedding_check(model, tuned, dtype=dtype)
    reloaded = _logits(model, texts)
    _give(model, tuned, tuned.base_tensor)
    base = _logits(model, texts)
    if adapter is None:
        _give(model, tuned, tuned.tensor)
        live = _logits(model, texts)
    else:
        lora = adapters.load(model, adapter)
        live = _logits(model, texts)
        lora.detach()
        _give(model, tuned, tuned.tensor)
        merged = _logits(model, texts[:LIVE_TEXTS])
        off = float((merged - live[: len(merged)]).abs().max() / live.abs().max())
        yield Check("merge_is_the_live_adapter", off <= LIVE_LIMIT, off, LIVE_LIMIT)
    effect = live - base
    acts = float(effect.norm() / base.norm())
    yield Check("adapter_acts", acts >= ACTS_FLOOR, acts, ACTS_FLOOR)
    share = float(((reloaded - base) * effect).sum() / effect.square().sum()) if acts else 0.0
    kept = SHARE_LIMITS[0] <= share <= SHARE_LIMITS[1]
    yield Check("tuned_unlike_base", kept, share, list(SHARE_LIMITS))
    yield from _rounding_checks(reloaded, live)


def _rounding_checks(reloaded: Tensor, live: Tensor) -> Iterator[Check]:
    """What rounding did to the answers: next-token agreement, divergence, largest change."""
    top1 = float((reloaded.argmax(-1) == live.argmax(-1)).float().mean())
    yield Check("rounded_top1", top1 >= TOP1_LIMIT, top1, TOP1_LIMIT)
    p, q = live.log_softmax(-1), reloaded.log_softmax(-1)
    kl = float((p.exp() * (p - q)).sum(-1).mean())
    yield Check("rounded_kl_nats", kl <= KL_LIMIT_NATS, kl, KL_LIMIT_NATS)
    largest = float((reloaded - live).abs().max())
    limit = float(live.max() - live.min()) / 10
    yield Check("rounded_max_delta", largest <= limit, largest, limit)


def _embedding_check(model: PreTrainedModel, tuned: Tuned, *, dtype: str) -> Check:
    """Embedding and output head as loaded are those that were trained, whatever the flag says.

    transformers ties or unties by config.json while it loads: a wrong flag changes the weights.
    """
    state = model.state_dict()
    head = model.get_output_embeddings().weight
    named = model.named_parameters(remove_duplicate=False)
    names = {name for name, parameter in named if parameter is head} | set(tuned.tied)
    wrong = sorted(
        name
        for name in names
        if not torch.equal(state[name], tuned.tensor(name).to(getattr(torch, dtype)).float())
    )
    flag = bool(model.config.tie_word_embeddings)
    passed = not wrong and flag == tuned.tie
    return Check("tied_embeddings", passed, {"tie": flag, "wrong": wrong}, {"tie": tuned.tie})


def _give(model: PreTrainedModel, tuned: Tuned, tensor: Callable[[str], Tensor]) -> None:
    """Copy weights into the module in place."""
    state = model.state_dict()
    with torch.no_grad():
        for name in sorted({*tuned.names, *tuned.tied} & set(state)):
            state[name].copy_(tensor(name))


def _logits(model: PreTrainedModel, texts: list[list[int]]) -> Tensor:
    """`[all positions, V]`: one batch, padded behind, where no earlier position can see it."""
    rows = [torch.tensor(ids) for ids in texts]
    real = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True).bool()
    with torch.inference_mode():
        logits = model(pad_sequence(rows, batch_first=True), use_cache=False).logits
    found: Tensor = logits[real]
    return found


@contextmanager
def _quiet_loading() -> Iterator[None]:
    """No bar of transformers' own for every load: the run has one already."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        (transformers_logging.enable_progress_bar if shown else lambda: None)()
