from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nexa.core.errors import ModelError
from nexa.lm.resolve import ModelFiles
from nexa.weights.merge_models.tokenizers import agree, read_vocabulary
from tests.weights.merge_models.made import edit_json, edit_tokenizer, files, model, swap_ids


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return model(tmp_path / "base")


@pytest.fixture
def tuned(tmp_path: Path) -> Path:
    return model(tmp_path / "tuned", seed=1)


def refusal(*folders: Path, owner: int = 0) -> str:
    with pytest.raises(ModelError) as caught:
        agree(files(*folders), owner)
    return caught.value.found or ""


def alone(folder: Path) -> ModelFiles:
    """Files of a folder that holds a tokenizer only."""
    names = {path.name: path.name for path in folder.iterdir()}
    return ModelFiles(reference="r", name="alone", origin="folder", folder=folder, files=names)


# -- what counts as equal ------------------------------------------------------------------------


def test_equal_tokenizers_need_nothing(base: Path, tuned: Path) -> None:
    found = agree(files(base, tuned), 0)
    assert found.renumbered == {}
    assert found.notes == ()
    assert found.largest_ids == (299, 299)


def test_what_another_version_of_a_library_saved_counts_as_equal(base: Path, tuned: Path) -> None:
    def as_before(told: dict[str, Any]) -> None:
        bpe = told["model"]
        bpe["merges"] = [" ".join(pair) for pair in bpe["merges"]]
        del bpe["type"], bpe["ignore_merges"]
        told["pre_tokenizer"].pop("use_regex")
        told["pre_tokenizer"]["trim_offsets"] = True
        # Special tokens once stood beside the vocabulary only, and in another order.
        told["added_tokens"] = [
            {k: v for k, v in token.items() if k != "normalized"}
            for token in reversed(told["added_tokens"])
        ]
        for token in told["added_tokens"]:
            del bpe["vocab"][token["content"]]

    edit_tokenizer(tuned, as_before)
    found = agree(files(base, tuned), 0)
    assert found.renumbered == {}
    assert found.notes == ()


def test_tokens_may_stand_in_the_files_beside(base: Path, tuned: Path) -> None:
    def strip(told: dict[str, Any]) -> None:
        for token in told.pop("added_tokens"):
            told["model"]["vocab"].pop(token["content"])

    edit_tokenizer(tuned, strip)
    edit_json(
        tuned / "tokenizer_config.json",
        lambda told: told.update(added_tokens_decoder={"0": {"content": "<|endoftext|>"}}),
    )
    edit_json(
        tuned / "added_tokens.json", lambda told: told.update({"<|im_start|>": 1, "<|im_end|>": 2})
    )
    assert agree(files(base, tuned), 0).renumbered == {}


def test_the_files_of_older_tokenizers_are_read_through_transformers(
    base: Path, tuned: Path
) -> None:
    told = json.loads((tuned / "tokenizer.json").read_text())
    (tuned / "vocab.json").write_text(json.dumps(told["model"]["vocab"]))
    (tuned / "merges.txt").write_text(
        "\n".join(["#version: 0.2", *(" ".join(pair) for pair in told["model"]["merges"])])
    )
    (tuned / "tokenizer.json").unlink()
    edit_json(
        tuned / "tokenizer_config.json", lambda told: told.update(tokenizer_class="GPT2Tokenizer")
    )
    (found,) = files(tuned)
    read = read_vocabulary(found)
    assert read.ids == read_vocabulary(files(base)[0]).ids
    assert read.rules == read_vocabulary(files(base)[0]).rules


def test_a_tokenizer_written_in_python_gives_its_strings(tmp_path: Path) -> None:
    folder = tmp_path / "bytes"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "t5"}')
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "ByT5Tokenizer"}')
    read = read_vocabulary(alone(folder))
    assert read.ids["a"] == ord("a") + 3
    assert read.rules is None


def test_pieces_with_scores_are_compared_with_them(base: Path, tuned: Path) -> None:
    def unigram(score: float) -> Any:
        def edit(told: dict[str, Any]) -> None:
            pieces = [[token["content"], 0.0] for token in told["added_tokens"]]
            told["model"] = {"type": "Unigram", "unk_id": 0, "vocab": [*pieces, ["a", score]]}

        return edit

    edit_tokenizer(base, unigram(-1.5))
    edit_tokenizer(tuned, unigram(-1.5))
    assert agree(files(base, tuned), 0).largest_ids == (3, 3)
    edit_tokenizer(tuned, unigram(-2.5))
    assert refusal(base, tuned) == (
        "scores: 4 in base, 4 in tuned; they part at number 3: 'a -1.5' and 'a -2.5'"
    )


# -- other ids for the same strings --------------------------------------------------------------


def test_the_same_strings_with_other_ids_are_renumbered_and_noted(base: Path, tuned: Path) -> None:
    swap_ids(tuned, 10, 20)
    found = agree(files(base, tuned), 0)
    assert {k: v for k, v in found.renumbered[1].items() if k != v} == {10: 20, 20: 10}
    assert len(found.renumbered[1]) == 300
    assert found.notes == (
        "tuned gives 2 of 300 tokens other ids than base: its rows are put in that order",
    )


def test_the_owner_is_the_measure(base: Path, tuned: Path) -> None:
    swap_ids(tuned, 10, 20)
    assert list(agree(files(base, tuned), 1).renumbered) == [0]


# -- what is refused -----------------------------------------------------------------------------


def test_a_token_more_is_refused_with_a_table(base: Path, tuned: Path) -> None:
    def extend(told: dict[str, Any]) -> None:
        told["added_tokens"].append({"id": 300, "content": "<|tool|>", "special": True})
        told["model"]["vocab"]["Ġzz"] = 301

    edit_tokenizer(tuned, extend)
    assert refusal(base, tuned).splitlines() == [
        "token       base  tuned",
        "'<|tool|>'  -     300",
        "'Ġzz'       -     301",
        "only in base: 0; only in tuned: 2",
    ]


def test_the_table_has_a_column_for_each_model_that_differs(
    base: Path, tuned: Path, tmp_path: Path
) -> None:
    third, same = model(tmp_path / "third"), model(tmp_path / "same")

    def rename(told: dict[str, Any]) -> None:
        vocabulary = told["model"]["vocab"]
        vocabulary["new"] = vocabulary.pop("!")

    edit_tokenizer(tuned, rename)
    edit_tokenizer(third, lambda told: told["model"]["vocab"].update(new=305))
    found = refusal(base, same, tuned, third).splitlines()
    assert found[0].split() == ["token", "base", "tuned", "third"]
    number = read_vocabulary(files(base)[0]).ids["!"]
    assert found[1].split() == ["'new'", "-", str(number), "305"]
    assert found[2].split() == ["'!'", str(number), "-", str(number)]
    assert found[3:] == [
        "only in base: 1; only in tuned: 1",
        "only in base: 0; only in third: 1",
    ]


def test_a_long_table_is_cut_and_counted(base: Path, tuned: Path) -> None:
    def extend(told: dict[str, Any]) -> None:
        told["model"]["vocab"].update({f"new{i}": 300 + i for i in range(25)})

    edit_tokenizer(tuned, extend)
    found = refusal(base, tuned).splitlines()
    assert found[1].startswith("'new0'")
    assert found[20].startswith("'new19'")
    assert found[21:] == ["and 5 more", "only in base: 0; only in tuned: 25"]


def test_strings_that_are_missing_come_before_those_that_moved(base: Path, tuned: Path) -> None:
    swap_ids(tuned, 10, 20)
    edit_tokenizer(tuned, lambda told: told["model"]["vocab"].update(new=300))
    found = refusal(base, tuned).splitlines()
    assert found[1].split() == ["'new'", "-", "300"]
    assert found[2].split()[1:] == ["10", "20"]


def test_other_merges_cut_text_otherwise(base: Path, tuned: Path) -> None:
    def swap(told: dict[str, Any]) -> None:
        merges = told["model"]["merges"]
        merges[3], merges[4] = merges[4], merges[3]

    merges = json.loads((base / "tokenizer.json").read_text())["model"]["merges"]
    first = [" ".join(pair) for pair in merges]
    edit_tokenizer(tuned, swap)
    assert refusal(base, tuned) == (
        f"merges: 41 in base, 41 in tuned; they part at number 3: {first[3]!r} and {first[4]!r}"
    )


def test_merges_that_end_early_part_at_the_end(base: Path, tuned: Path) -> None:
    edit_tokenizer(tuned, lambda told: told["model"]["merges"].pop())
    assert "41 in base, 40 in tuned; they part at number 40: " in refusal(base, tuned)
    assert refusal(base, tuned).endswith("and none")


def test_another_kind_of_tokenizer_is_refused(base: Path, tuned: Path) -> None:
    def unigram(told: dict[str, Any]) -> None:
        by_id = sorted(told["model"]["vocab"], key=told["model"]["vocab"].__getitem__)
        told["model"] = {"type": "Unigram", "vocab": [[token, -1.0] for token in by_id]}

    edit_tokenizer(tuned, unigram)
    assert refusal(base, tuned) == "base is a BPE tokenizer, tuned a Unigram one"


@pytest.mark.parametrize(
    "edit",
    [
        lambda told: told.pop("model"),
        lambda told: told.update(model=[]),
        lambda told: told["model"].update(vocab=7),
        lambda told: told["added_tokens"][0].pop("content"),
    ],
    ids=["no model", "an empty model", "no vocabulary", "a token without text"],
)
def test_a_broken_tokenizer_is_named(base: Path, edit: Any) -> None:
    edit_tokenizer(base, edit)
    with pytest.raises(ModelError, match="cannot read the tokenizer of base"):
        agree(files(base), 0)


def test_a_tokenizer_without_entries_is_refused(base: Path) -> None:
    edit_tokenizer(base, lambda told: told.update(model={"vocab": {}}, added_tokens=[]))
    with pytest.raises(ModelError, match="has no entries"):
        agree(files(base), 0)


# -- what is noted -------------------------------------------------------------------------------


def test_another_end_of_turn_is_noted_and_the_owners_taken(base: Path, tuned: Path) -> None:
    def ends(told: dict[str, Any]) -> None:
        told["eos_token"] = {"content": "<|endoftext|>"}
        told.pop("pad_token")

    edit_json(tuned / "tokenizer_config.json", ends)
    edit_json(tuned / "special_tokens_map.json", lambda told: told.update(pad_token="<|im_end|>"))
    assert agree(files(base, tuned), 0).notes == (
        "eos_token is '<|im_end|>' in base and '<|endoftext|>' in tuned: that of base is taken",
    )


def test_flags_and_parts_that_differ_are_noted(base: Path, tuned: Path) -> None:
    def edit(told: dict[str, Any]) -> None:
        told["added_tokens"][0]["special"] = False
        told["pre_tokenizer"]["add_prefix_space"] = True
        told["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "NFC"}]}

    edit_tokenizer(tuned, edit)
    assert agree(files(base, tuned), 0).notes == (
        "tuned treats 1 added tokens otherwise than base: '<|endoftext|>'",
        "tuned has another normalizer and pre_tokenizer than base, whose is taken",
    )
    edit_tokenizer(
        base,
        lambda told: told.update(
            normalizer={"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "NFD"}]}
        ),
    )
    assert "normalizer" in agree(files(base, tuned), 0).notes[1]


def test_another_chat_template_is_noted_and_the_owners_taken(tmp_path: Path) -> None:
    base = model(tmp_path / "base", template=None)
    tuned = model(tmp_path / "tuned")
    assert agree(files(base, tuned), 0).notes == (
        "the child has no chat template, as base has none; tuned has one",
    )
    assert agree(files(base, tuned), 1).notes == (
        "the child has the chat template of tuned, which is not that of base",
    )


def test_a_chat_template_is_the_same_wherever_it_stands(base: Path, tmp_path: Path) -> None:
    text = (base / "chat_template.jinja").read_text()
    for place in ("tokenizer_config.json", "chat_template.json"):
        other = model(tmp_path / place.split(".")[0])
        (other / "chat_template.jinja").unlink()

        def put(told: dict[str, Any]) -> None:
            told["chat_template"] = text

        edit_json(other / place, put)
        assert agree(files(base, other), 0).notes == ()


def test_several_chat_templates_are_told_from_one(base: Path, tuned: Path) -> None:
    (tuned / "chat_template.jinja").unlink()
    named = [{"name": "default", "template": "x"}]
    edit_json(tuned / "tokenizer_config.json", lambda told: told.update(chat_template=named))
    assert len(agree(files(base, tuned), 0).notes) == 1
