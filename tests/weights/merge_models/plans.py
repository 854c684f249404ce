"""Plans written out by hand, as no recipe is needed to test what carries them out."""

from __future__ import annotations

from collections.abc import Sequence

from nexa.lm.resolve import ModelFiles
from nexa.weights.merge_models.methods import Method, Options
from nexa.weights.merge_models.plan import Plan, Source, Task
from nexa.weights.tensors import model_weights

EMBEDDING = "model.embed_tokens.weight"
VOCABULARY = (EMBEDDING, "lm_head.weight")
OF_TASKS = ("task_arithmetic", "ties", "dare_linear", "dare_ties")


def plan_of(models: Sequence[ModelFiles], method: Method, options: Options) -> Plan:
    """All tensors by one method; the last model is the base where there is one."""
    last = len(models) - 1
    merged = {"slerp": 2, "passthrough": 1}.get(method, last if method in OF_TASKS else last + 1)
    weights = model_weights(models[0].folder)
    tasks = [
        Task(
            name,
            weights.shape(name),
            method,
            tuple(Source(model, name) for model in range(merged)),
            Source(last, name) if method in OF_TASKS else None,
            options,
            vocabulary=name in VOCABULARY,
        )
        for name in weights.names
    ]
    tie = bool(models[0].config["tie_word_embeddings"])
    return Plan(tuple(models), tuple(tasks), models[0].config, tie=tie, tokenizer=0, rows={})
