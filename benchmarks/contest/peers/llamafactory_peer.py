"""LLaMA-Factory on the job, through the function behind its command line.

Its settings are those of its YAML files. The chat template is the one that it reads out of the
model's tokenizer; `bf16` is what its LoRA examples say.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import job
import meter

DATASET = "contest"
DESCRIPTION = {
    "file_name": "rows.json",
    "formatting": "sharegpt",
    "columns": {"messages": "messages"},
    "tags": {
        "role_tag": "role",
        "content_tag": "content",
        "user_tag": "user",
        "assistant_tag": "assistant",
        "system_tag": "system",
    },
}


def main() -> None:
    """Train."""
    work = job.asked()
    meter.attach(work.out)
    # Its list of versions refuses torch 2.13; it runs with it.
    os.environ.update(DISABLE_VERSION_CHECK="1", FORCE_TORCHRUN="0")
    from llamafactory.train.tuner import run_exp

    rows = [{"messages": turns} for turns in work.conversations()]
    folder = Path(work.scratch) / "data"
    folder.mkdir()
    (folder / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    (folder / "dataset_info.json").write_text(json.dumps({DATASET: DESCRIPTION}), encoding="utf-8")
    run_exp(
        {
            **work.trainer_arguments(),
            "model_name_or_path": work.model,
            "stage": "sft",
            "do_train": True,
            "finetuning_type": "lora",
            "lora_rank": work.rank,
            "lora_alpha": work.alpha,
            "lora_target": "all",
            "dataset_dir": str(folder),
            "dataset": DATASET,
            "cutoff_len": work.max_length,
            "overwrite_cache": True,
            "disable_shuffling": True,
            "bf16": True,
            **work.settings,
        }
    )


if __name__ == "__main__":
    main()
