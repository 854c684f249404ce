"""transformers.Trainer with a PEFT adapter on the job: what people write who use neither tool.

Rows are padded to the longest of their micro-batch. `dtype` of the settings is the model's.
"""

from __future__ import annotations

from typing import Any

import job
import meter
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
)


def main() -> None:
    """Train."""
    work = job.asked()
    meter.attach(work.out)
    settings = dict(work.settings)
    tokenizer = AutoTokenizer.from_pretrained(work.model)
    model = AutoModelForCausalLM.from_pretrained(work.model, dtype=settings.pop("dtype", "auto"))
    lora = LoraConfig(
        r=work.rank,
        lora_alpha=work.alpha,
        lora_dropout=0.0,
        target_modules=job.EVERY_LINEAR_LAYER,
        task_type="CAUSAL_LM",
    )
    Trainer(
        model=get_peft_model(model, lora),
        args=TrainingArguments(**work.trainer_arguments(), **settings),
        train_dataset=[encode(tokenizer, turns, work.max_length) for turns in work.conversations()],
        data_collator=DataCollatorForSeq2Seq(tokenizer, padding=True),
    ).train()


def encode(
    tokenizer: PreTrainedTokenizerBase, messages: job.Messages, max_length: int
) -> dict[str, Any]:
    """Token ids, and labels on the last turn only."""
    prompt = ids_of(tokenizer, messages[:-1], add_generation_prompt=True)
    whole = ids_of(tokenizer, messages)
    if whole[: len(prompt)] != prompt:
        raise SystemExit("the chat template renders the prompt otherwise when an answer follows")
    labels = [meter.IGNORED] * len(prompt) + whole[len(prompt) :]
    return {"input_ids": whole[:max_length], "labels": labels[:max_length]}


def ids_of(
    tokenizer: PreTrainedTokenizerBase, messages: job.Messages, **options: bool
) -> list[int]:
    """A conversation in token ids, by the model's chat template."""
    rendered = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True, **options)
    ids: list[int] = rendered["input_ids"]
    return ids


if __name__ == "__main__":
    main()
