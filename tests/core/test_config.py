"""config.yaml: Entrenar's keys, every mistake at once with its line, and nothing ignored."""

from __future__ import annotations

import copy
import textwrap
from pathlib import Path

import pytest
from pydantic import ValidationError

from nexa.core.config import load_config, parse_config
from nexa.core.errors import ConfigError

# Entrenar's specification, section 3.3, to the letter.
ENTRENAR = """\
model:
  path: Qwen/Qwen2.5-Coder-0.5B

data:
  train_path: ./data/train.jsonl
  batch_size: 8

optimizer:
  name: adamw
  lr: 2e-4

lora:
  rank: 64
  alpha: 16

training:
  epochs: 3
  output_dir: ./output

# NEW: auto-publish after training completes
publish:
  repo: myuser/qwen-finetuned
  private: false
  model_card: true
  merge_adapters: true
"""
MINIMAL = "model: {path: a/b}\ndata: {train_path: x}\n"


def mistakes(text: str) -> list[str]:
    """The lines under `found` that a configuration's text is refused with."""
    with pytest.raises(ConfigError) as caught:
        parse_config(text)
    return str(caught.value.found).splitlines()


# -- what loads ----------------------------------------------------------------------------------


def test_entrenars_example_loads_verbatim(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(ENTRENAR)
    config = load_config(tmp_path / "config.yaml")
    assert config.model_dump(exclude_unset=True) == {
        "model": {"path": "Qwen/Qwen2.5-Coder-0.5B"},
        "data": {"train_path": "./data/train.jsonl", "batch_size": 8},
        "optimizer": {"name": "adamw", "lr": 0.0002},
        "lora": {"rank": 64, "alpha": 16},
        "training": {"epochs": 3, "output_dir": "./output"},
        "publish": {
            "repo": "myuser/qwen-finetuned",
            "private": False,
            "model_card": True,
            "merge_adapters": True,
        },
    }
    assert config.method == "lora"


def test_entrenars_headline_of_qlora_loads() -> None:
    # Section 4.1: QLoRA (rank=64, alpha=16, 4-bit base), AdamW (lr=2e-4, warmup=100 steps).
    text = ENTRENAR.replace("training:", "training:\n  method: qlora").replace(
        "lora:\n", "scheduler:\n  warmup_steps: 100\n\nquantize:\n  bits: 4\n\nlora:\n"
    )
    config = parse_config(text)
    assert (config.method, config.method_name) == ("lora", "qlora")
    assert config.lora is not None
    assert (config.lora.rank, config.lora.alpha) == (64, 16)
    assert config.quantization is not None
    assert config.quantization.bits == 4


def test_the_smallest_configuration_has_every_default() -> None:
    config = parse_config(MINIMAL)
    assert config.method == "full"
    assert (config.optimizer.name, config.optimizer.lr) == ("adamw", 2e-4)
    assert config.data.max_length == config.training.micro_tokens == "auto"
    assert config.model.trust_remote_code is False
    assert config.publish is None


@pytest.mark.parametrize(
    ("written", "read"), [("2e-4", 2e-4), ("1E-3", 1e-3), ("2.0e-4", 2e-4), ("1", 1.0), (".5", 0.5)]
)
def test_numbers_are_numbers_as_people_write_them(written: str, read: float) -> None:
    lr = parse_config(f"{MINIMAL}optimizer: {{lr: {written}}}\n").optimizer.lr
    assert lr == read
    assert type(lr) in (float, int)


def test_values_are_plain_and_can_be_copied() -> None:
    config = parse_config(ENTRENAR.replace("./output", "|\n    folded\n"))
    assert type(config.training.output_dir) is str
    assert copy.deepcopy(config) == config


def test_data_train_is_another_name_of_train_path() -> None:
    assert parse_config("model: {path: a/b}\ndata: {train: x.jsonl}\n").data.train_path == "x.jsonl"


@pytest.mark.parametrize("section", ["lora:", "lora: {}", "lora: null", "lora: {rank: 8}"])
def test_a_lora_section_with_nothing_in_it_still_means_lora(section: str) -> None:
    config = parse_config(f"{MINIMAL}{section}\n")
    assert config.method == "lora"
    assert config.lora is not None


def test_an_asked_for_method_wins_over_what_the_sections_imply() -> None:
    assert parse_config(MINIMAL + "training: {method: lora}\n").method == "lora"
    assert parse_config(MINIMAL + "training: {method: full}\n").method == "full"


@pytest.mark.parametrize(
    ("lines", "method", "name"),
    [
        ("training: {method: qlora}", "lora", "qlora"),
        ("training: {method: qlora}\nquantize: {double: false}", "lora", "qlora"),
        ("training: {method: qlora}\nlora: {rank: 64, alpha: 16}", "lora", "qlora"),
        ("quantize:", "lora", "qlora"),
        ("quantize: {bits: 4, scheme: nf4}\nlora: {rank: 4}", "lora", "qlora"),
        ("training: {method: dora}", "lora", "dora"),
        ("training: {method: dora}\nlora: {rank: 4}", "lora", "dora"),
        ("lora: {dora: true}", "lora", "dora"),
        ("training: {method: lora}\nlora: {dora: true}", "lora", "dora"),
        ("training: {method: qlora}\nlora: {dora: true}", "lora", "qlora with dora"),
        ("lora:", "lora", "lora"),
        ("training: {method: full}", "full", "full"),
    ],
)
def test_every_method_by_its_name_or_by_its_sections(lines: str, method: str, name: str) -> None:
    config = parse_config(f"{MINIMAL}{lines}\n")
    assert (config.method, config.method_name) == (method, name)
    assert (config.quantization is not None) == name.startswith("qlora")
    assert config.dora == name.endswith("dora")


def test_a_quantised_base_has_its_defaults_or_what_was_said() -> None:
    asked = parse_config(MINIMAL + "training: {method: qlora}\n").quantization
    assert asked is not None
    assert (asked.bits, asked.scheme, asked.double) == (4, "nf4", True)
    said = parse_config(MINIMAL + "quantize: {double: false}\n").quantization
    assert said is not None
    assert said.double is False
    assert parse_config(MINIMAL).quantization is None


def test_every_key_of_the_training_of_this_version_is_read() -> None:
    config = parse_config(
        textwrap.dedent("""\
        model: {path: a/b}
        data: {train_path: x}
        optimizer: {name: adamw8bit}
        scheduler: {name: wsd, warmup_ratio: 0.1, decay_ratio: 0.9}
        lora: {rslora: true, plus_ratio: 16}
        training:
          engine: fused
          time_budget: 1h30m
          memory_limit: 6GB
          checkpoints: {select: best, every: 5}
          validation: {rows: 8}
          early_stopping:
        infra: {max_usd: 5, cost_per_hour_usd: 1.5}
        """)
    )
    training, lora = config.training, config.lora
    assert (config.optimizer.name, config.scheduler.name) == ("adamw8bit", "wsd")
    assert (config.scheduler.warmup_ratio, config.scheduler.decay_ratio) == (0.1, 0.9)
    assert lora is not None
    assert (lora.rslora, lora.plus_ratio) == (True, 16)
    assert training.engine == "fused"
    assert (training.time_budget, training.memory_limit) == (5400, 6 * 10**9)
    assert (training.checkpoints.select, training.checkpoints.every) == ("best", 5)
    assert training.validation is not None
    assert (training.validation.rows, training.validation.every) == (8, "auto")
    # A section with nothing below it is asked for, also inside another one.
    assert training.early_stopping is not None
    assert (training.early_stopping.patience, training.early_stopping.min_delta) == (3, 0.0)
    assert (config.infra.max_usd, config.infra.cost_per_hour_usd) == (5, 1.5)


def test_what_is_not_asked_for_is_not_there() -> None:
    training = parse_config(MINIMAL).training
    assert training.validation is training.early_stopping is training.time_budget is None
    assert training.memory_limit is None
    assert (training.engine, training.checkpoints.select) == ("auto", "last")


def test_target_modules_may_be_named() -> None:
    config = parse_config(MINIMAL + "lora: {target_modules: [q_proj, v_proj]}\n")
    assert config.lora is not None
    assert config.lora.target_modules == ("q_proj", "v_proj")


def test_a_configuration_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        parse_config(MINIMAL).training.seed = 3


def test_a_byte_order_mark_and_windows_line_ends_are_no_mistakes(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + ENTRENAR.replace("\n", "\r\n").encode())
    assert load_config(path) == parse_config(ENTRENAR)


# -- what is refused -----------------------------------------------------------------------------


def test_every_mistake_is_told_at_once_in_the_files_order() -> None:
    text = """\
    model:
      path: a/b
      reviison: main
    data:
      max_length: long
    optimiser:
      lr: 1
    optimizer:
      lr: -1
      betas: [0.9, 2]
    scheduler:
      warmup_steps: 10
      warmup_ratio: 0.1
    lora:
      target_modules: [1]
    training:
      method: full
      lerning_rate: 3
    publish:
      repo: ../../etc
    """
    assert mistakes(textwrap.dedent(text)) == [
        "line 3: model.reviison is not a key: did you mean 'revision'?",
        "line 4: data.train_path is missing",
        "line 5: data.max_length: should be a valid integer or should be 'auto' (got 'long')",
        "line 6: optimiser is not a key: did you mean 'optimizer'?",
        "line 9: optimizer.lr: should be greater than 0 (got -1)",
        "line 10: optimizer.betas: should be less than 1 (got [0.9, 2])",
        "line 11: scheduler: give warmup_steps or warmup_ratio, not both",
        "line 15: lora.target_modules: should be 'all-linear' or should be a valid string "
        "(got [1])",
        "line 18: training.lerning_rate is not a key: did you mean optimizer.lr?",
        "line 20: publish.repo: should be owner/name, in letters, digits, single '-' and '.', "
        "or '_' (got '../../etc')",
    ]


def test_the_count_of_mistakes_is_in_the_first_line() -> None:
    with pytest.raises(ConfigError, match=r"^config.yaml has a mistake\n"):
        parse_config(MINIMAL + "x: 1\n")
    with pytest.raises(ConfigError, match=r"^my.yaml has 2 mistakes\n"):
        parse_config(MINIMAL + "x: 1\ny: 1\n", name="my.yaml")


@pytest.mark.parametrize(
    ("lines", "mistake"),
    [
        ("training: {epochs: 1, max_steps: 2}", "training: give epochs or max_steps, not both"),
        (
            "training: {method: full}\nlora:",
            "training: the method is full, but there is a lora section",
        ),
        (
            "training: {method: full}\nquantize:",
            "training: the method is full, but there is a quantize section; an adapter on a "
            "quantised base is method: qlora",
        ),
        (
            "training: {method: lora}\nquantize:",
            "training: the method is lora, but there is a quantize section",
        ),
        (
            "training: {method: dora}\nquantize:",
            "training: the method is dora, but there is a quantize section; an adapter on a "
            "quantised base is method: qlora with lora.dora: true",
        ),
        (
            "training: {method: dora}\nlora: {dora: false}",
            "training: the method is dora, but lora.dora is false",
        ),
        (
            "scheduler: {decay_ratio: 0.2}",
            "scheduler.decay_ratio: is a key of the scheduler wsd; this one is linear (got 0.2)",
        ),
        (
            "scheduler: {name: wsd, warmup_ratio: 0.9, decay_ratio: 0.2}",
            "scheduler.decay_ratio: leaves no room beside warmup_ratio 0.9: their sum is above 1",
        ),
        ("scheduler: {name: wsd, decay_ratio: 0}", "scheduler.decay_ratio: should be greater"),
        ("scheduler: {name: wsdd, decay_ratio: 0.1}", "scheduler.name: should be 'linear', "),
        (
            "infra: {max_usd: 5}",
            "infra.max_usd: needs infra.cost_per_hour_usd above 0: the price is not known (got 5)",
        ),
        (
            "infra: {cost_per_hour_usd: -1, max_usd: 5}",
            "infra.cost_per_hour_usd: should be greater than or equal to 0 (got -1)",
        ),
        (
            "training: {time_budget: soon}",
            "training.time_budget: should be a number of seconds, or one with its unit: 90s, 30m",
        ),
        ("training: {time_budget: 0s}", "training.time_budget: should be greater than 0"),
        ("training: {time_budget: true}", "training.time_budget: should be a number of seconds"),
        (
            "training: {memory_limit: 6}",
            "training.memory_limit: should be at least 1MB; with a unit, as in 6GB (got 6)",
        ),
        (
            "training: {memory_limit: 6 GBit}",
            "training.memory_limit: should be a number of bytes, or one with its unit: 800MB",
        ),
        ("lora: {plus_ratio: 0.5}", "lora.plus_ratio: should be greater than or equal to 1"),
        ("training: {validation: {rows: 0}}", "training.validation.rows: should be greater than"),
        ("training: {early_stopping: 3}", "training.early_stopping: should be a section"),
        ("training: {checkpoints: {1: 3}}", "training.checkpoints.1 is not a key: known: every"),
        ("lora: {rank: true}", "lora.rank: should be a valid integer (got True)"),
        ("lora: {rank: 1.5}", "lora.rank: should be a valid integer (got 1.5)"),
        ("lora: {rank: 0}", "lora.rank: should be greater than 0 (got 0)"),
        ("lora: {alpha: .inf}", "lora.alpha: should be a finite number (got inf)"),
        ("training: {epochs: .nan}", "training.epochs: should be a finite number (got nan)"),
        ("training: {seed: 4294967296}", "training.seed: should be less than 4294967296"),
        ("training: 3", "training: should be a section, with keys below it (got 3)"),
        ("publish:", "publish.repo is missing"),
        (
            "publish: {repo: a/b, format: gguf, quantization: q4km}",
            "publish.quantization: 'q4km' is not a quantisation of GGUF: did you mean 'q4_k_m'?",
        ),
        (
            "publish: {repo: a/b, format: gguf, quantization: [q8_0, small]}",
            "publish.quantization: 'small' is not a quantisation of GGUF: known: f32, f16",
        ),
        (
            "publish: {repo: a/b, format: gguf, quantization: 8}",
            "publish.quantization: should be the name of a quantisation, or a list",
        ),
        (
            "publish: {repo: a/b, quantization: q8_0}",
            "publish.quantization: is of format: gguf, and the format is safetensors",
        ),
        (
            "publish: {repo: a/b, format: gguf, merge_adapters: false}",
            "publish.format: gguf is made from merged weights, but merge_adapters is false",
        ),
        ("1: x", "1 is not a key: known: model, data"),
        ("lora: {null: 3}", "lora.None is not a key: known: rank"),
        ("model.path: x", "model.path is not a key"),
        ("training: {precision: fp8}", "training.precision: should be 'auto', 'bfloat16' or"),
    ],
)
def test_one_mistake(lines: str, mistake: str) -> None:
    found = mistakes(f"{MINIMAL}{lines}\n")
    assert len(found) == 1
    assert found[0].startswith(f"line 3: {mistake}")


@pytest.mark.parametrize(
    "feature",
    [
        "distill: {teachers: [gpt-4o]}",
        "quantize: {bits: 8}",
        "quantize: {scheme: int8}",
        "feedback: {threshold: 4.0}",
        "tracking: {wandb: true}",
        "training: {deterministic: true}",
        "training: {method: qat}",
        "data: {train_path: x, filters: [spelling]}",
        "publish: {repo: a/b, format: onnx}",
        "infra: {provider: lambda}",
    ],
)
def test_what_is_not_built_is_refused_not_ignored(feature: str) -> None:
    text = MINIMAL if not feature.startswith("data") else "model: {path: a/b}\n"
    assert len(mistakes(f"{text}{feature}\n")) == 1


def test_both_names_of_the_training_file_are_one_too_many() -> None:
    assert mistakes("model: {path: a/b}\ndata: {train: x, train_path: y}\n") == [
        "line 2: data.train is not a key: it is another name of train_path, which is there too"
    ]


def test_missing_sections_are_named() -> None:
    assert mistakes("lora: {rank: 4}\n") == ["line 1: data is missing", "line 1: model is missing"]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("model:\n\tpath: 3\n", "line 2: found character"),
        ("model: [\n", "line 2: expected the node content"),
        (MINIMAL + "model: {path: c}\n", 'line 3: found duplicate key "model"'),
        ("model:\n  path: a\n  path: b\n", 'line 3: found duplicate key "path"'),
        ("---\na: 1\n---\nb: 2\n", "line 3: but found another document"),
        ("model: !!python/object:os.system {}\n", "line 1: could not determine a constructor"),
        ("model: *nowhere\n", "line 1: found undefined alias"),
        ("model: \x00\n", "unacceptable character"),
    ],
)
def test_what_is_no_yaml_is_told_with_its_line(text: str, place: str) -> None:
    with pytest.raises(ConfigError, match=r"^config.yaml is not YAML\n") as caught:
        parse_config(text)
    assert str(caught.value.found).startswith(place)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "an empty file"),
        ("# only a comment\n", "an empty file"),
        ("- a\n- b\n", "'-'"),
        ("x", "'x'"),
    ],
)
def test_a_file_without_sections(text: str, found: str) -> None:
    with pytest.raises(ConfigError, match="holds no sections") as caught:
        parse_config(text)
    assert str(caught.value.found).endswith(found)
    assert str(caught.value.fix).startswith("nexa init")


def test_keys_that_come_in_by_a_merge_are_told_at_their_section() -> None:
    text = f"shared: &shared\n  rnk: 3\n{MINIMAL}lora:\n  <<: *shared\n"
    assert mistakes(text) == [
        "line 1: shared is not a key: known: model, data, optimizer, scheduler, lora, quantize, "
        "training, eval, feedback, publish, infra",
        "line 5: lora.rnk is not a key: did you mean 'rank'?",
    ]


def test_a_file_that_contains_itself_ends() -> None:
    assert len(mistakes(f"a: &a [*a]\n{MINIMAL}")) == 1
    assert len(mistakes(f"a: &a {{b: *a}}\n{MINIMAL}")) == 1


def test_a_file_that_is_not_there_or_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no") as caught:
        load_config(tmp_path / "config.yaml")
    assert str(caught.value.fix).startswith("nexa init")
    with pytest.raises(ConfigError, match="cannot read"):
        load_config(tmp_path)
    (tmp_path / "latin1").write_bytes("model: {path: café}".encode("latin-1"))
    with pytest.raises(ConfigError, match="cannot read"):
        load_config(tmp_path / "latin1")


@pytest.mark.parametrize("repo", ["a/b", "my-org/My_Model.v2", "0/1", "a" * 96 + "/b"])
def test_repositories_that_the_hub_takes(repo: str) -> None:
    config = parse_config(f"{MINIMAL}publish: {{repo: {repo}}}\n")
    assert config.publish is not None
    assert config.publish.repo == repo


@pytest.mark.parametrize(
    "repo",
    [
        "model",
        "a/b/c",
        "../b",
        "a/..",
        "a/.b",
        "a/b-",
        "a/b--c",
        "a/b..c",
        "a b/c",
        "a/ü",
        "/b",
        "a/",
    ],
)
def test_repositories_that_it_does_not_take_or_that_leave_a_local_hub(repo: str) -> None:
    assert "should be owner/name" in mistakes(f"{MINIMAL}publish: {{repo: '{repo}'}}\n")[0]
