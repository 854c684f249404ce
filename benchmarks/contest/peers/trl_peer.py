"""TRL's SFTTrainer on the job; its settings go into SFTConfig, `dtype` to the model."""

from __future__ import annotations

import job
import meter
from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer


def main() -> None:
    """Train."""
    work = job.asked()
    meter.attach(work.out)
    settings = dict(work.settings)
    if "dtype" in settings:
        settings["model_init_kwargs"] = {"dtype": settings.pop("dtype")}
    rows = [{"prompt": turns[:-1], "completion": turns[-1:]} for turns in work.conversations()]
    SFTTrainer(
        model=work.model,
        args=SFTConfig(**work.trainer_arguments(), max_length=work.max_length, **settings),
        train_dataset=Dataset.from_list(rows),
        peft_config=LoraConfig(
            r=work.rank,
            lora_alpha=work.alpha,
            lora_dropout=0.0,
            target_modules=job.EVERY_LINEAR_LAYER,
            task_type="CAUSAL_LM",
        ),
    ).train()


if __name__ == "__main__":
    main()
