from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from nexa.core.errors import (
    AccessError,
    ConfigError,
    DataError,
    IntegrityError,
    ModelError,
    StorageError,
    UsageError,
)
from nexa.core.events import Event, listening
from nexa.core.tiers import Tiers
from nexa.data.filters.balance import BalanceSpec
from nexa.lm.resolve import ModelFiles, resolve
from nexa.orchestrate import plan
from nexa.train.spec import EarlyStopping, Limits, QuantizeSpec, ValidationSpec
from tests.support.project import config_of, notes, rows, write_project, write_rows


@pytest.fixture
def base(tiny_llama: Path) -> ModelFiles:
    return resolve(str(tiny_llama))


# -- what is refused before any work -------------------------------------------------------------


def test_a_model_that_brings_its_own_code_is_not_trained_trusted_or_not(
    tmp_path: Path, tiny_llama: Path
) -> None:
    folder = tmp_path / "own"
    shutil.copytree(tiny_llama, folder)
    config = json.loads((folder / "config.json").read_bytes()) | {"auto_map": {"AutoConfig": "x.Y"}}
    (folder / "config.json").write_text(json.dumps(config))
    for trusted, what in ((False, "brings Python code"), (True, "trains no such model")):
        told = config_of(tmp_path, folder)
        section = told.model.model_copy(update={"trust_remote_code": trusted})
        told = told.model_copy(update={"model": section})
        with pytest.raises(ModelError, match=what):
            plan.base_model(told, Tiers.of(tmp_path))


def test_a_folder_with_strangers_is_refused(tmp_path: Path) -> None:
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "thesis.tex").write_text("years of work")
    with pytest.raises(StorageError, match=r"thesis\.tex"):
        plan.check(config_of(tmp_path), Tiers.of(tmp_path))
    plan.check(config_of(tmp_path, training={"output_dir": "new"}), Tiers.of(tmp_path))


def test_the_project_itself_is_no_output_folder(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"config\.yaml"):
        plan.check(config_of(tmp_path, training={"output_dir": "."}), Tiers.of(tmp_path))


def test_a_broken_card_in_the_output_is_found_before_training(tmp_path: Path) -> None:
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "final_model.json").write_text("{}")
    with pytest.raises(IntegrityError, match=r"final_model\.json"):
        plan.check(config_of(tmp_path), Tiers.of(tmp_path))


def test_a_hub_without_a_token_for_it_is_refused(tmp_path: Path) -> None:
    config = config_of(tmp_path, publish={"repo": "you/it", "hub": "https://huggingface.co"})
    with pytest.raises(AccessError, match="there is no Hub token"):
        plan.check(config, Tiers.of(tmp_path))


def test_a_repository_that_a_folder_hub_cannot_hold_is_refused(tmp_path: Path) -> None:
    config = config_of(tmp_path, publish={"repo": "_you/it", "hub": "local"})
    with pytest.raises(UsageError, match="_you/it"):
        plan.check(config, Tiers.of(tmp_path))


def test_all_weights_cannot_be_published_as_an_adapter(tmp_path: Path) -> None:
    publish = {"repo": "you/it", "hub": "local", "merge_adapters": False}
    full = config_of(tmp_path, lora=None, training={"method": "full"}, publish=publish)
    with pytest.raises(ConfigError, match="makes no adapter"):
        plan.check(full, Tiers.of(tmp_path))
    plan.check(config_of(tmp_path, publish=publish), Tiers.of(tmp_path))


# -- names and places ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train_path", "name"),
    [
        ("./elements.jsonl", "elements"),
        ("./Alloys 2.jsonl", "alloys-2"),
        ("./materials/train.jsonl", "materials"),
        ("./notes.v2/data.jsonl", "notes.v2"),
        ("./notes.v2", "notes.v2"),
        (".", "my-project"),
    ],
)
def test_a_dataset_is_called_as_its_file_or_its_folder(
    tmp_path: Path, train_path: str, name: str
) -> None:
    root = tmp_path / "my-project"
    (root / "notes.v2").mkdir(parents=True)
    config = config_of(root, data={"train_path": train_path})
    assert plan.dataset_id(config, root) == name


def test_a_run_is_called_as_model_and_dataset(tmp_path: Path, base: ModelFiles) -> None:
    config = config_of(tmp_path, data={"train_path": "notes.jsonl"})
    assert plan.run_name(config, tmp_path, base) == "tiny-llama-notes"


def test_paths_are_taken_from_the_config_s_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert plan.place(tmp_path, "./a/b") == tmp_path / "a" / "b"
    assert plan.place(tmp_path, "~/b") == tmp_path / "home" / "b"
    assert plan.place(tmp_path, "/elsewhere/b") == Path("/elsewhere/b")


def test_a_model_beside_the_config_wins_over_a_name(
    tmp_path: Path, tiny_llama: Path, base: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "smollm2-135m").symlink_to(tiny_llama)
    config = config_of(tmp_path, "smollm2-135m")
    found = plan.base_model(config, Tiers.of(tmp_path))
    assert found.digest == base.digest
    assert found.origin == "folder"


# -- from sections to specs ----------------------------------------------------------------------


def test_held_out_rows_of_a_file_leave_all_training_rows_to_training(
    tmp_path: Path, base: ModelFiles
) -> None:
    config_path = write_project(tmp_path, "model", data={"format": "record", "max_length": 128})
    config = config_of(tmp_path, data={"format": "record", "max_length": 128})
    assert config_path == tmp_path / "config.yaml"
    training = plan.training_rows(config, tmp_path, base)
    assert [source.name for source in training.sources] == ["train.jsonl"]
    assert (training.only_split, training.eval_fraction) == ("train", 0.0)
    assert (training.format, training.max_length) == ("record", 128)
    held_out = plan.held_out(config, tmp_path, base)
    assert [source.name for source in held_out.sources] == ["eval.jsonl"]
    assert (held_out.only_split, held_out.near_duplicates) == ("eval", "keep")
    assert held_out.dataset_id == f"{training.dataset_id}-eval"
    assert held_out.format == "record"


def test_without_held_out_rows_a_share_is_split_off(tmp_path: Path, base: ModelFiles) -> None:
    write_project(tmp_path, "model")
    config = config_of(tmp_path, data={"eval_path": None, "eval_fraction": 0.2})
    training = plan.training_rows(config, tmp_path, base)
    assert (training.only_split, training.eval_fraction) == (None, 0.2)
    assert training.max_length is None
    with pytest.raises(ConfigError, match="eval_path"):
        plan.held_out(config, tmp_path, base)


def test_filters_reach_the_training_rows_and_those_asked_for_the_held_out_ones(
    tmp_path: Path, base: ModelFiles
) -> None:
    write_project(tmp_path, "model")
    data: dict[str, Any] = {"filters": ["pii", {"quality": False}], "near_duplicates": "keep"}
    config = config_of(tmp_path, data={**data, "balance": {"at_most": 9, "seed": 3}})
    training = plan.training_rows(config, tmp_path, base)
    assert [spec.name for spec in training.filters] == ["normalise", "pii"]
    assert training.near_duplicates == "keep"
    assert training.balance == BalanceSpec(at_most=9, seed=3)
    held_out = plan.held_out(config, tmp_path, base)
    assert [spec.name for spec in held_out.filters] == ["pii"]
    assert held_out.balance is None
    usual = plan.training_rows(config_of(tmp_path), tmp_path, base)
    assert [spec.name for spec in usual.filters] == ["normalise", "quality"]
    assert (usual.near_duplicates, usual.balance) == ("drop", None)


def test_of_a_folder_held_out_rows_and_pools_are_not_trained_on(
    tmp_path: Path, base: ModelFiles
) -> None:
    for name in ("a", "b", "test_2", "pool", "kept"):
        write_rows(tmp_path / "rows" / f"{name}.jsonl", rows(range(2)))
    data = {"train_path": "rows", "eval_path": "rows/kept.jsonl"}
    events: list[Event] = []
    with listening(events.append):
        training = plan.training_rows(config_of(tmp_path, data=data), tmp_path, base)
    assert [source.name for source in training.sources] == ["a.jsonl", "b.jsonl"]
    assert notes(events) == [
        "rows: not trained on, held out or kept back: kept.jsonl, pool.jsonl, test_2.jsonl"
    ]


def test_a_folder_with_nothing_but_held_out_rows_is_refused(
    tmp_path: Path, base: ModelFiles
) -> None:
    write_rows(tmp_path / "rows" / "eval.jsonl", rows(range(2)))
    config = config_of(tmp_path, data={"train_path": "rows", "eval_path": None})
    with pytest.raises(DataError, match="has no file to train on"):
        plan.training_rows(config, tmp_path, base)


def test_every_training_key_reaches_the_spec(tmp_path: Path, base: ModelFiles) -> None:
    config = config_of(
        tmp_path,
        data={"batch_size": 3},
        optimizer={"name": "sgd", "lr": 0.5, "weight_decay": 0.1, "max_grad_norm": 2.0},
        scheduler={"name": "cosine", "warmup_steps": 2},
        lora={"rank": 2, "alpha": 6, "dropout": 0.1, "target_modules": ["q_proj"]},
        training={
            **{"max_steps": None, "epochs": 2.5, "gradient_accumulation": 2, "seed": 9},
            **{"micro_tokens": 600, "precision": "bfloat16"},
        },
    )
    spec = plan.finetune(config, tmp_path, base, tmp_path / "scratch")
    assert spec.rows_per_step == 6
    assert (spec.optimizer.name, spec.optimizer.lr) == ("sgd", 0.5)
    assert (spec.optimizer.weight_decay, spec.optimizer.max_grad_norm) == (0.1, 2.0)
    assert (spec.scheduler.name, spec.scheduler.warmup_steps) == ("cosine", 2)
    assert spec.lora is not None
    assert (spec.lora.rank, spec.lora.alpha, spec.lora.dropout) == (2, 6, 0.1)
    assert spec.lora.target_modules == ("q_proj",)
    assert (spec.epochs, spec.max_steps, spec.seed) == (2.5, None, 9)
    assert (spec.micro_tokens, spec.precision) == (600, "bfloat16")
    assert spec.scratch == tmp_path / "scratch"
    assert (spec.checkpoint_every, spec.checkpoint_keep) == (None, 2)


def test_every_new_training_key_reaches_the_spec(tmp_path: Path, base: ModelFiles) -> None:
    config = config_of(
        tmp_path,
        optimizer={"name": "adamw8bit"},
        scheduler={"name": "wsd", "decay_ratio": 0.5},
        lora={"rslora": True, "dora": True, "plus_ratio": 16.0},
        training={
            **{"method": "qlora", "engine": "generic", "memory_limit": "5GB"},
            **{"time_budget": "30m", "checkpoints": {"select": "best"}},
            **{"validation": {"rows": 6, "every": 2}},
            **{"early_stopping": {"patience": 2, "min_delta": 0.1}},
        },
        quantize={"double": False},
        infra={"max_usd": 5, "cost_per_hour_usd": 1.5},
    )
    spec = plan.finetune(config, tmp_path, base)
    assert (spec.optimizer.name, spec.scheduler.name) == ("adamw8bit", "wsd")
    assert spec.scheduler.decay_ratio == 0.5
    assert spec.lora is not None
    assert (spec.lora.rslora, spec.lora.dora, spec.lora.plus_ratio) == (True, True, 16)
    assert spec.quantize == QuantizeSpec(4, "nf4", double=False)
    assert (spec.method, spec.engine, spec.memory_limit) == ("lora", "generic", 5 * 10**9)
    assert spec.validation == ValidationSpec(rows=6, every=2)
    assert spec.early_stopping == EarlyStopping(patience=2, min_delta=0.1)
    assert spec.limits == Limits(seconds=1800, usd=5, usd_per_hour=1.5)
    assert spec.select == "best"


@pytest.mark.parametrize(
    "training",
    [{"early_stopping": {"patience": 2}}, {"checkpoints": {"select": "best"}}],
    ids=["stopping", "best"],
)
def test_what_is_decided_by_validation_brings_it(
    tmp_path: Path, base: ModelFiles, training: dict[str, Any]
) -> None:
    spec = plan.finetune(config_of(tmp_path, training=training), tmp_path, base)
    assert spec.validation == ValidationSpec()
    spec = plan.finetune(config_of(tmp_path, training={}), tmp_path, base)
    assert (spec.validation, spec.early_stopping, spec.quantize) == (None, None, None)


def test_validation_is_measured_as_often_as_checkpoints_are_asked_for(
    tmp_path: Path, base: ModelFiles
) -> None:
    often = {"checkpoints": {"every": 7, "select": "best"}}
    config = config_of(tmp_path, training=often)
    assert plan.finetune(config, tmp_path, base).validation == ValidationSpec(every=7)
    config = config_of(tmp_path, training={**often, "validation": {"rows": 6, "every": 3}})
    assert plan.finetune(config, tmp_path, base).validation == ValidationSpec(6, every=3)


def test_dora_by_its_method_is_dora_by_its_key(tmp_path: Path, base: ModelFiles) -> None:
    by_method = plan.finetune(config_of(tmp_path, training={"method": "dora"}), tmp_path, base)
    by_key = plan.finetune(config_of(tmp_path, lora={"dora": True}), tmp_path, base)
    assert by_method == by_key
    assert by_method.lora is not None
    assert by_method.lora.dora


def test_a_price_that_stops_nothing_is_no_part_of_the_recipe(
    tmp_path: Path, base: ModelFiles
) -> None:
    priced = config_of(tmp_path, infra={"cost_per_hour_usd": 2.0})
    assert plan.finetune(priced, tmp_path, base).limits == Limits()


def test_checkpoints_come_as_often_as_was_asked_for(tmp_path: Path, base: ModelFiles) -> None:
    config = config_of(tmp_path, training={"checkpoints": {"every": 7, "keep": 3}})
    spec = plan.finetune(config, tmp_path, base)
    assert (spec.checkpoint_every, spec.checkpoint_keep) == (7, 3)


def test_all_weights_have_no_adapter(tmp_path: Path, base: ModelFiles) -> None:
    config = config_of(tmp_path, lora=None, training={"method": "full"})
    spec = plan.finetune(config, tmp_path, base)
    assert (spec.method, spec.lora, spec.micro_tokens) == ("full", None, None)


def test_what_may_be_forgotten_is_the_default_or_what_was_said(tmp_path: Path) -> None:
    assert plan.analyze(config_of(tmp_path), "x").forgetting_limit_nats == 0.3
    strict = config_of(tmp_path, eval={"forgetting_limit_nats": 0.01})
    assert plan.analyze(strict, "x").forgetting_limit_nats == 0.01


# -- the plan in words ---------------------------------------------------------------------------


def test_the_outline_says_what_would_be_done_and_writes_nothing(
    tmp_path: Path, tiny_llama: Path
) -> None:
    config = write_project(tmp_path, tiny_llama, publish={"repo": "you/it", "hub": "local"})
    told = plan.outline(config)
    assert told["model"] == "tiny-llama (folder)"
    assert told["filters"] == "normalise, quality"
    assert told["method"] == "lora (rank 4, alpha 8)"
    assert told["engine"] == "auto: the fused one where it can"
    assert told["length"] == "4 steps"
    assert told["rows a step"] == 4
    assert told["validation"] == "none on the way"
    assert told["limits"] == "none"
    assert told["held out"] == "./eval.jsonl"
    assert told["output"] == str(tmp_path / "output")
    assert told["publish"] == "you/it on local"
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "output").exists()


def test_the_outline_of_other_choices(tmp_path: Path, tiny_llama: Path) -> None:
    config = write_project(
        tmp_path,
        tiny_llama,
        data={"eval_path": None},
        lora=None,
        training={"method": "full", "max_steps": None},
        publish={"repo": "you/it", "hub": "local", "format": "gguf", "quantization": "q8_0,f16"},
    )
    told = plan.outline(config)
    assert told["method"] == "full (all weights)"
    assert told["length"] == "1 epochs"
    assert told["held out"] == "10% of the rows"
    assert told["publish"] == "you/it on local, as GGUF: q8_0, f16"
    default = write_project(tmp_path, tiny_llama, lora=None, training={"method": "lora"})
    assert plan.outline(default)["publish"] == "not asked for"
    assert plan.outline(default)["method"] == "lora (rank 16, alpha 32)"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"training": {"method": "qlora"}}, "qlora (rank 4, alpha 8)"),
        ({"lora": None, "quantize": {"bits": 4}}, "qlora (rank 16, alpha 32)"),
        ({"training": {"method": "dora"}}, "dora (rank 4, alpha 8)"),
        ({"lora": {"dora": True}}, "dora (rank 4, alpha 8)"),
    ],
    ids=["qlora", "quantize", "method dora", "lora.dora"],
)
def test_the_outline_calls_every_method_by_its_name(
    tmp_path: Path, tiny_llama: Path, changes: dict[str, Any], told: str
) -> None:
    assert plan.outline(write_project(tmp_path, tiny_llama, **changes))["method"] == told


def test_the_outline_tells_engine_validation_and_limits(tmp_path: Path, tiny_llama: Path) -> None:
    config = write_project(
        tmp_path,
        tiny_llama,
        training={
            **{"engine": "generic", "time_budget": "90m", "memory_limit": "6GB"},
            **{"checkpoints": {"select": "best"}, "early_stopping": {"patience": 2}},
            **{"validation": {"rows": 6, "every": 5}},
        },
        infra={"max_usd": 5, "cost_per_hour_usd": 1.5},
    )
    told = plan.outline(config)
    assert told["engine"] == "generic"
    assert told["validation"] == (
        "6 rows every 5 steps, ends after 2 without a better loss, the best weights are kept"
    )
    assert told["limits"] == "90 min, 5 USD, 6 GB of memory"
    assert told["price"] == "1.5 USD an hour"
    only = write_project(tmp_path, tiny_llama, training={"validation": {"rows": 6}})
    assert plan.outline(only)["validation"] == "6 rows with every checkpoint"
