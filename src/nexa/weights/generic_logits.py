"""What models compute on short texts, by transformers: for families that `logits` does not know.

One module in memory, given one model's weights after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightRenaming
from transformers.utils import logging as transformers_logging

from nexa.lm import adapters
from nexa.weights.checks import Check
from nexa.weights.merging import Tuned


def folder_logits(folder: Path, texts: list[list[int]]) -> Tensor:
    """The logits of a model folder in float32 at every token of all texts, `[T, V]`."""
    return _logits(_load(folder), texts)


def refilled_logits(
    folder: Path, texts: list[list[int]], tensor: Callable[[str], Tensor]
) -> tuple[Tensor, Tensor]:
    """The logits of a model folder, and of the same module with other weights in it."""
    model = _load(folder)
    own = _logits(model, texts)
    state = model.state_dict()
    with torch.no_grad():
        for name, place in state.items():
            found = tensor(name)
            if found.shape == place.shape:  # the head of a tied model is no tensor of its own
                place.copy_(found)
    return own, _logits(model, texts)


def merge_logits(
    folder: Path,
    tuned: Tuned,
    texts: list[list[int]],
    adapter: Path | None,
    *,
    live_texts: int,
    dtype: str,
) -> tuple[list[Tensor], Check]:
    """What a merged folder, its base, the live adapter and the merge say; `tied_embeddings`.

    Without an adapter the third are the trained weights, and there is no fourth.
    """
    model = _load(folder)
    tied = _embedding_check(model, tuned, dtype=dtype)
    reloaded = _logits(model, texts)
    _give(model, tuned, tuned.base_tensor)
    base = _logits(model, texts)
    if adapter is None:
        _give(model, tuned, tuned.tensor)
        return [reloaded, base, _logits(model, texts)], tied
    lora = adapters.load(model, adapter)
    live = _logits(model, texts)
    lora.detach()
    _give(model, tuned, tuned.tensor)
    merged = _logits(model, texts[:live_texts])
    return [reloaded, base, live, merged], tied


def _load(folder: Path) -> PreTrainedModel:
    with _quiet_loading():
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.eval()
    return model


def _embedding_check(model: PreTrainedModel, tuned: Tuned, *, dtype: str) -> Check:
    """Embedding and output head as loaded are those that were trained, whatever the flag says.

    transformers ties or unties by config.json while it loads: a wrong flag changes the weights.
    """
    state, known = model.state_dict(), _by_module_name(model, tuned)
    head = model.get_output_embeddings().weight
    named = model.named_parameters(remove_duplicate=False)
    names = {name for name, parameter in named if parameter is head} | set(tuned.tied)
    rounded = getattr(torch, dtype)
    wrong = sorted(
        name
        for name in names
        if name not in known
        or not torch.equal(state[name], tuned.tensor(known[name]).to(rounded).float())
    )
    flag = bool(model.config.tie_word_embeddings)
    passed = not wrong and flag == tuned.tie
    return Check("tied_embeddings", passed, {"tie": flag, "wrong": wrong}, {"tie": tuned.tie})


def _give(model: PreTrainedModel, tuned: Tuned, tensor: Callable[[str], Tensor]) -> None:
    """Copy weights into the module in place."""
    state = model.state_dict()
    with torch.no_grad():
        for name, stored in sorted(_by_module_name(model, tuned).items()):
            if name in state:
                state[name].copy_(tensor(stored))


def _by_module_name(model: PreTrainedModel, tuned: Tuned) -> dict[str, str]:
    """The weights' names in the files, by those that transformers gives them while it loads.

    Of some families they differ: the head of a GPT-NeoX is `embed_out` in its files.
    """
    found: dict[str, str] = {}
    mapping = get_model_conversion_mapping(model)
    renamings = [step for step in mapping if isinstance(step, WeightRenaming)]
    for stored in (*tuned.names, *tuned.tied):
        name = stored
        for renaming in renamings:
            name, _ = renaming.rename_source_key(name)
        found[name] = stored
    return found


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
