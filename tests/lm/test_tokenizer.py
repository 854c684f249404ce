from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from nexa.lm import tokenizer
from nexa.lm.tokenizer import KEPT, read_tokenizer
from tests.support.tiny import ARCHITECTURES, tiny_tokenizer, write_tiny_model

TEXT = "Überall 123 <|im_end|> e\u0301 and  two spaces\n\n"


def edit(path: Path, **fields: object) -> None:
    told = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({key: value for key, value in told.items() if value is not None}))


@pytest.mark.parametrize("named", ["PreTrainedTokenizerFast", "TokenizersBackend", "GPT2Tokenizer"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_it_is_the_tokenizer_that_transformers_chooses(
    tmp_path: Path, architecture: str, named: str
) -> None:
    folder = write_tiny_model(tmp_path / "model", architecture)
    edit(folder / "tokenizer_config.json", tokenizer_class=named)

    found = read_tokenizer(folder)

    chosen = AutoTokenizer.from_pretrained(folder)
    assert type(found) is type(chosen)
    assert found(TEXT)["input_ids"] == chosen(TEXT)["input_ids"]
    assert found.chat_template == chosen.chat_template


def test_equal_files_give_the_same_tokenizer_and_an_edit_another(tmp_path: Path) -> None:
    first, second = (write_tiny_model(tmp_path / name) for name in "ab")

    assert read_tokenizer(first) is read_tokenizer(second)
    edit(second / "tokenizer_config.json", pad_token="<|endoftext|>")
    assert read_tokenizer(first) is not read_tokenizer(second)


def test_only_the_latest_are_kept(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "model")
    for number in range(KEPT + 2):
        edit(folder / "tokenizer_config.json", model_max_length=100 + number)
        read_tokenizer(folder)

    assert len(tokenizer._read) == KEPT


def test_a_folder_that_names_no_class_is_left_to_transformers(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "model")
    edit(folder / "tokenizer_config.json", tokenizer_class=None)

    assert read_tokenizer(folder)(TEXT)["input_ids"] == tiny_tokenizer()(TEXT)["input_ids"]


def test_code_that_a_folder_brings_is_not_run(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "model")
    edit(folder / "config.json", auto_map={"AutoConfig": "own.Config"})
    (folder / "own.py").write_text("raise SystemExit('it was run')")

    assert read_tokenizer(folder)(TEXT)["input_ids"] == tiny_tokenizer()(TEXT)["input_ids"]


def test_a_config_that_is_no_object_is_left_to_transformers(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "model")
    (folder / "config.json").write_text("[]")
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text("{")

    with pytest.raises((ValueError, OSError, TypeError)):
        read_tokenizer(folder)


def test_the_model_library_is_not_waited_for(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "model")
    code = (
        "import sys; from pathlib import Path; from nexa.lm.tokenizer import read_tokenizer; "
        f"read_tokenizer(Path({str(folder)!r})); "
        "print([m for m in sys.modules if m in ('torch._dynamo', 'transformers.modeling_utils')])"
    )

    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert made.stdout.strip() == "[]"
