from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from nexa.core.config import load_config
from nexa.core.errors import ModelError, StorageError, UsageError
from nexa.core.tiers import Tiers
from nexa.orchestrate import plan
from nexa.orchestrate.model_shape import Shape
from nexa.orchestrate.recipes import RECIPES
from nexa.orchestrate.start import init as module
from nexa.orchestrate.start.init import Method, in_config, init
from tests.support.hub_emulator import HubEmulator


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with 344 rows to train on, 70 held out and a pool."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name, rows in (("train", 344), ("eval", 70), ("pool", 9)):
        lines = [json.dumps({"prompt": f"{name} {n}?", "completion": "yes"}) for n in range(rows)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the current one."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_what_it_writes_is_a_config_with_the_values_it_tells(
    project: Path, data: Path, tiny_llama: Path
) -> None:
    started = init(str(tiny_llama), Path("../data"))
    config = load_config(project / "config.yaml")
    assert started.state == "created"
    assert config.method == "lora"
    assert config.model.path == str(tiny_llama)
    assert config.data.train_path == "../data/train.jsonl"
    assert config.data.eval_path == "../data/eval.jsonl"
    assert config.lora is not None
    assert (config.lora.rank, config.lora.alpha, config.optimizer.lr) == (16, 32, 1e-3)
    assert (config.training.epochs, config.scheduler.warmup_steps) == (1, 5)
    assert (config.eval.rows, config.eval.max_new_tokens) == (64, 160)
    assert config.publish is None
    for section, values in started.values.items():
        for key, value in values.items():
            assert getattr(getattr(config, section), key) == value


def test_every_value_has_a_reason_and_publish_waits_as_a_comment(
    project: Path, data: Path, tiny_llama: Path
) -> None:
    init(str(tiny_llama), data)
    lines = (project / "config.yaml").read_text().splitlines()
    values = [line for line in lines if line.startswith("  ")]
    assert len(values) > 20
    assert all("  # " in line for line in values)
    assert "# publish:" in lines
    shape = "LlamaForCausalLM: hidden_size 32, 2 layers, vocab_size 320"
    assert any(shape in line for line in values)


def test_the_publish_section_holds_once_its_comment_marks_are_taken_off(
    project: Path, data: Path, tiny_llama: Path
) -> None:
    init(str(tiny_llama), data)
    path = project / "config.yaml"
    head, _, tail = path.read_text().partition("# publish:")
    path.write_text(head + "publish:" + tail.replace("\n# ", "\n"))
    config = load_config(path)
    assert config.publish is not None
    assert config.publish.hub == "local"


def test_full_fine_tuning_has_no_adapter_and_a_tenth_of_the_rate(
    project: Path, data: Path, tiny_llama: Path
) -> None:
    init(str(tiny_llama), data, method="full")
    config = load_config(project / "config.yaml")
    assert config.method == "full"
    assert config.lora is None
    assert config.optimizer.lr == pytest.approx(1e-4)


@pytest.mark.parametrize("method", ["lora", "qlora", "dora"])
def test_every_kind_of_adapter_is_a_config_that_says_what_it_is(
    project: Path, data: Path, tiny_llama: Path, method: Method
) -> None:
    started = init(str(tiny_llama), data, method=method)
    config = load_config(project / "config.yaml")
    text = (project / "config.yaml").read_text()
    assert config.method == "lora"
    assert config.training.method == method
    assert config.lora is not None
    assert (config.quantization is not None) == (method == "qlora")
    assert f"method: {method}" in text
    assert module.MEANINGS[method] in text
    assert ("\nquantize:\n" in text) == (method == "qlora")
    if method == "qlora":
        assert re.search(r"  double: true +# the scales", text)
        assert started.values["quantize"] == {"bits": 4, "scheme": "nf4", "double": True}


def test_without_a_held_out_file_a_share_is_set_aside(
    project: Path, data: Path, tiny_llama: Path
) -> None:
    started = init(str(tiny_llama), data / "train.jsonl")
    config = load_config(project / "config.yaml")
    assert config.data.eval_path is None
    assert config.data.eval_fraction == 0.1
    assert started.data.eval_rows == config.eval.rows == 34
    assert config.training.epochs == 2  # 39 steps a pass are fewer than 40


def test_the_chosen_source_of_an_alias_is_written() -> None:
    shape = Shape("LlamaForCausalLM", 576, 30, 49_152, 134_515_008)
    chosen = module._model_lines("smollm2-135m", "wheel", shape, Path())
    assert [(line.key, line.value) for line in chosen] == [
        ("path", "smollm2-135m"),
        ("source", "wheel"),
    ]
    left_open = module._model_lines("smollm2-135m", "auto", shape, Path())
    assert [line.key for line in left_open] == ["path"]
    assert "134.5M parameters" in left_open[0].reason


def test_a_second_time_changes_nothing_and_says_so(
    project: Path, data: Path, tiny_llama: Path
) -> None:
    init(str(tiny_llama), data)
    before = (project / "config.yaml").stat()
    assert init(str(tiny_llama), data).state == "unchanged"
    assert (project / "config.yaml").stat().st_mtime_ns == before.st_mtime_ns
    assert (project / ".gitignore").read_text() == ".nexa/\noutput/\n.env\n"


def test_a_config_that_was_edited_is_not_overwritten_unasked(
    project: Path, data: Path, tiny_llama: Path
) -> None:
    init(str(tiny_llama), data)
    path = project / "config.yaml"
    edited = path.read_text().replace("seed: 0", "seed: 7")
    path.write_text(edited)
    with pytest.raises(UsageError, match="is there already and would change") as caught:
        init(str(tiny_llama), data)
    assert "seed: 7" in str(caught.value.found)
    assert "would be: seed: 0" in str(caught.value.found)
    assert path.read_text() == edited
    assert init(str(tiny_llama), data, force=True).state == "replaced"
    assert "seed: 0" in path.read_text()


def test_a_config_with_other_line_ends_is_another_config(
    project: Path, data: Path, tiny_llama: Path
) -> None:
    init(str(tiny_llama), data)
    path = project / "config.yaml"
    path.write_text(path.read_text().rstrip("\n"))
    with pytest.raises(UsageError) as caught:
        init(str(tiny_llama), data)
    assert caught.value.found == "the ends of its lines"


def test_gitignore_is_added_to_and_never_clobbered(
    project: Path, data: Path, tiny_llama: Path
) -> None:
    (project / ".gitignore").write_text("*.log\noutput/")
    init(str(tiny_llama), data)
    assert (project / ".gitignore").read_text() == "*.log\noutput/\n.nexa/\n.env\n"


def test_paths_are_written_as_seen_from_the_projects_folder(
    project: Path, data: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.parent)
    (project.parent / "model").symlink_to(tiny_llama)
    started = init("model", Path("data"), folder=Path("project"))
    assert started.config_path == "project/config.yaml"
    assert started.values["model"]["path"] == "../model"
    assert started.values["data"]["train_path"] == "../data/train.jsonl"
    assert in_config(Path("project/rows.jsonl"), Path("project")) == "./rows.jsonl"


def test_long_answers_are_given_room_up_to_a_limit() -> None:
    assert module._new_tokens(300)[0] == 160
    assert module._new_tokens(1000)[0] == 512
    tokens, reason = module._new_tokens(100_000)
    assert tokens == 1024
    assert "may need more" in reason


def test_the_largest_models_row_reads_as_a_sentence() -> None:
    reasons = [line.reason for line in module._lora_lines(RECIPES[-1])]
    assert reasons[0].startswith("models of 20B and more parameters")


def test_an_unknown_model_writes_nothing(project: Path, data: Path) -> None:
    with pytest.raises(ModelError):
        init("./no-such-model", data)
    assert list(project.iterdir()) == []


def test_a_config_that_cannot_be_read_is_an_error_of_storage(
    project: Path, data: Path, tiny_llama: Path
) -> None:
    (project / "config.yaml").mkdir()
    with pytest.raises(StorageError):
        init(str(tiny_llama), data)


def test_the_record_is_plain_data(project: Path, data: Path, tiny_llama: Path) -> None:
    record = json.loads(json.dumps(init(str(tiny_llama), data).to_json()))
    assert record["model"]["hidden_size"] == 32
    assert record["data"]["left_out"] == {"pool.jsonl": "a pool of rows for later rounds"}
    assert record["data"]["rows"] == 344


# -- names, shares, the Hub's datasets -----------------------------------------------------------


def test_a_name_is_the_output_folders_and_the_suggested_repositorys(
    project: Path, data: Path, tiny_llama: Path
) -> None:
    init(str(tiny_llama), data, name="mine")
    config = load_config(project / "config.yaml")
    assert config.training.output_dir == "./output/mine"
    assert "#   repo: you/mine\n" in (project / "config.yaml").read_text()


@pytest.mark.parametrize("name", ["two words", "../up", "a/b", "-x", "a--b", "a" * 100, ""])
def test_a_name_that_could_not_be_published_is_refused(
    project: Path, data: Path, tiny_llama: Path, name: str
) -> None:
    with pytest.raises(UsageError, match="cannot be the name of a model"):
        init(str(tiny_llama), data, name=name)
    assert list(project.iterdir()) == []


def test_a_share_is_written_and_has_to_be_one(project: Path, data: Path, tiny_llama: Path) -> None:
    init(str(tiny_llama), data / "train.jsonl", eval_fraction=0.25)
    config = load_config(project / "config.yaml")
    assert config.data.eval_fraction == 0.25
    for share in (0.0, 0.9, -1.0, float("nan")):
        with pytest.raises(UsageError, match="share for evaluation"):
            init(str(tiny_llama), data, eval_fraction=share, force=True)


def test_a_proposal_writes_nothing_and_says_what_would_change(
    project: Path, data: Path, tiny_llama: Path
) -> None:
    shape = Shape("LlamaForCausalLM", 32, 2, 320, 40_000)
    proposal = module.propose(str(tiny_llama), data, shape)
    assert list(project.iterdir()) == []
    assert not proposal.differs
    assert module.write(proposal).state == "created"
    same = module.propose(str(tiny_llama), data, shape)
    assert not same.differs
    assert same.difference() == []
    other = module.propose(str(tiny_llama), data, shape, method="full")
    assert other.differs
    assert any(line.startswith("-  method: lora") for line in other.difference())
    assert any(line.startswith("+  method: full") for line in other.difference())


def test_a_dataset_of_the_hub_is_named_by_its_files(
    project: Path, data: Path, tiny_llama: Path, hub_emulator: HubEmulator
) -> None:
    files = {f"data/{name}": (data / name).read_bytes() for name in ("train.jsonl", "eval.jsonl")}
    hub_emulator.add_repo("org/rows", files, kind="dataset")
    started = init(str(tiny_llama), "org/rows")
    assert started.values["data"]["train_path"] == "org/rows/data/train.jsonl"
    assert started.values["data"]["eval_path"] == "org/rows/data/eval.jsonl"
    config = load_config(project / "config.yaml")
    base = plan.base_model(config, Tiers.of(project))
    assert plan.dataset_id(config, project) == "org-rows"
    [trained] = plan.training_rows(config, project, base).sources
    [held_out] = plan.held_out(config, project, base).sources
    assert trained.path.read_bytes() == (data / "train.jsonl").read_bytes()
    assert held_out.path.read_bytes() == (data / "eval.jsonl").read_bytes()


@pytest.mark.parametrize("suffix", ["json", "csv", "tsv"])
def test_every_format_of_the_data_is_taken(project: Path, tiny_llama: Path, suffix: str) -> None:
    rows = [{"prompt": f"question {n}?", "completion": f"answer {n}"} for n in range(20)]
    mark = {"csv": ",", "tsv": "\t"}.get(suffix)
    if mark is None:
        text = json.dumps(rows)
    else:
        text = "\n".join([f"prompt{mark}completion", *(mark.join(row.values()) for row in rows)])
    (project / f"rows.{suffix}").write_text(text + "\n")
    started = init(str(tiny_llama), f"rows.{suffix}")
    assert (started.data.rows, started.data.format) == (20, "completion")
    assert started.values["data"]["train_path"] == f"./rows.{suffix}"
