"""Small tasks of the lm-evaluation-harness, from files in a folder, and models to answer them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from nexa.eval.harness_tasks import Loaded, load_tasks
from nexa.lm.load import LoadedModel
from nexa.lm.resolve import ModelFiles, resolve
from tests.support.tiny import CHATML, tiny_model, tiny_tokenizer

DOCS = [
    {
        "q": f"What is sample {number}?",
        "choices": ["iron", "a copper pan", "pure gold"],
        "right": number % 3,
        "text": f"It is {number}",
    }
    for number in range(5)
]
HEAD = """task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {file}
test_split: test
metadata:
  version: 1.0
"""
MEAN = """  - metric: {name}
    aggregation: mean
    higher_is_better: true
"""
CHOICE = """output_type: multiple_choice
doc_to_text: "Question: {{q}}\\nAnswer:"
doc_to_choice: choices
doc_to_target: right
metric_list:
""" + "".join(MEAN.format(name=name) for name in ("acc", "acc_norm"))
TEXT = """output_type: generate_until
fewshot_split: test
doc_to_text: "Question: {{q}}\\nAnswer:"
doc_to_target: text
generation_kwargs:
  until: ["i", "\\n\\n"]
  max_gen_toks: 12
metric_list:
  - metric: chrf
    aggregation: chrf
    higher_is_better: true
""" + MEAN.format(name="exact_match")
FILTERED = """output_type: generate_until
doc_to_text: "{{q}}"
doc_to_target: text
generation_kwargs:
  until: "\\n"
  max_new_tokens: 6
filter_list:
  - name: first
    filter:
      - function: take_first
  - name: number
    filter:
      - function: regex
        regex_pattern: "([0-9]+)"
      - function: take_first
metric_list:
""" + MEAN.format(name="exact_match")
ROLLING = """output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: q
metric_list:
  - metric: word_perplexity
  - metric: bits_per_byte
"""
LAST_WORD = """output_type: loglikelihood
doc_to_text: "{{q}}"
doc_to_target: " {{text}}"
metric_list:
  - metric: perplexity
    aggregation: perplexity
    higher_is_better: false
""" + MEAN.format(name="acc")
TASKS = {
    "toy_choice": CHOICE,
    "toy_text": TEXT,
    "toy_filtered": FILTERED,
    "toy_rolling": ROLLING,
    "toy_last_word": LAST_WORD,
}
GROUP = """group: toy_group
task:
  - toy_choice
  - toy_last_word
metadata:
  version: 2.0
"""


def write_tasks(folder: Path, docs: Sequence[Mapping[str, Any]] = tuple(DOCS)) -> Path:
    """All of them, and a group of two."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "docs.jsonl").write_text("".join(json.dumps(doc) + "\n" for doc in docs))
    for name, task in TASKS.items():
        write_task(folder, name, task)
    (folder / "toy_group.yaml").write_text(GROUP)
    return folder


def write_task(folder: Path, name: str, task: str) -> None:
    """One task on the folder's documents."""
    head = HEAD.format(name=name, file=folder / "docs.jsonl")
    (folder / f"{name}.yaml").write_text(head + task)


@dataclass(frozen=True)
class Tasks:
    """A folder of tasks, and a cache for what `datasets` keeps of them."""

    folder: Path
    cache: Path

    def load(self, name: str, **options: Any) -> Loaded:
        """A task by its name."""
        return load_tasks(name, cache=self.cache, path=self.folder, **options)


def with_bos(*, chat_template: str | None = CHATML) -> PreTrainedTokenizerFast:
    """A tokenizer that puts `<|endoftext|>` before a text."""
    from tokenizers.processors import TemplateProcessing

    fast = tiny_tokenizer(chat_template=chat_template)
    fast.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    fast.bos_token = "<|endoftext|>"
    return fast


def write_model(
    folder: Path, *, tokenizer: PreTrainedTokenizerFast | None = None, seed: int = 0
) -> Path:
    """A tiny model with a tokenizer of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    tiny_model(seed=seed).save_pretrained(folder)
    (tokenizer or tiny_tokenizer()).save_pretrained(folder)
    return folder


def opened(folder: Path) -> tuple[ModelFiles, LoadedModel]:
    """The model under transformers in float32."""
    from nexa.lm.load import load

    files = resolve(str(folder))
    return files, load(files, dtype="float32")
