"""A pattern is the files that it names; a path that is there is no pattern."""

from __future__ import annotations

from pathlib import Path

import pytest

from nexa.core.errors import DataError, UsageError
from nexa.data.globs import alternatives, files_by, folder_of, is_pattern, joined
from nexa.data.sources import files_of, named_sources, names_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.jsonl", "b.jsonl", "c.csv", "deep/part-1.parquet", "deep/er/part-2.parquet"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}\n")
    (tmp_path / ".hidden.jsonl").write_text("{}\n")
    (tmp_path / "folder.jsonl").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.jsonl", ["a.jsonl", "b.jsonl"]),
        ("?.csv", ["c.csv"]),
        ("**/part-*.parquet", ["deep/er/part-2.parquet", "deep/part-1.parquet"]),
        ("{b,a}.jsonl", ["a.jsonl", "b.jsonl"]),
        ("{a.jsonl,c.csv,none.txt}", ["a.jsonl", "c.csv"]),
        ("[ab].jsonl", ["a.jsonl", "b.jsonl"]),
    ],
)
def test_a_pattern_names_files_in_order(folder: Path, pattern: str, names: list[str]) -> None:
    assert is_pattern(folder / pattern)
    found = files_by(folder / pattern)
    assert [path.relative_to(folder).as_posix() for path in found] == names
    assert files_of(folder / pattern) == found


def test_a_pattern_that_names_nothing_says_so(folder: Path) -> None:
    with pytest.raises(DataError, match=r"no file is named by .*\*\.tsv"):
        files_of(folder / "*.tsv")


def test_a_file_of_a_strange_name_is_no_pattern(folder: Path) -> None:
    strange = folder / "rows[1]{x,y}.jsonl"
    strange.write_text("{}\n")
    assert not is_pattern(strange)
    assert files_of(strange) == [strange]
    assert not is_pattern("plain.jsonl")
    assert is_pattern("*" * 5000)  # longer than a path can be


def test_the_fixed_folder_of_a_pattern_is_known() -> None:
    assert folder_of("data/**/x.csv") == Path("data")
    assert folder_of("/a/b*/c/*.csv") == Path("/a")
    assert folder_of("*.csv") == Path()


def test_several_paths_are_one_pattern(folder: Path) -> None:
    (folder / "x[1].jsonl").write_text("{}\n")
    names = ["a.jsonl", "deep/part-1.parquet", "x[1].jsonl"]
    pattern = joined([str(folder / name) for name in names])
    assert files_of(Path(pattern)) == [folder / name for name in names]
    assert folder_of(pattern) == folder
    assert joined(["rows.jsonl"]) == "rows.jsonl"
    for odd in ("a,b.jsonl", "s3://bucket/x", "{a}"):
        with pytest.raises(UsageError, match="cannot be given beside other paths"):
            joined(["a.jsonl", odd])


def test_braces_are_choices_each_in_each() -> None:
    assert alternatives("{a,b}/{c,d}") == ["a/c", "a/d", "b/c", "b/d"]
    assert set(alternatives("{a,{b,c}}")) == {"a", "b", "c"}
    assert alternatives("{one}") == ["{one}"]


def test_names_stay_below_one_folder_where_they_are_alike(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (folder / "deep" / "a.jsonl").write_text("{}\n")
    assert names_of([Path("a.jsonl"), folder / "deep" / "a.jsonl"]) == ["a.jsonl", "deep/a.jsonl"]
    sources = named_sources([folder / "a.jsonl", folder / "b.jsonl"])
    assert [source.name for source in sources] == ["a.jsonl", "b.jsonl"]
