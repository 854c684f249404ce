"""Every section of config.yaml: its keys, and whatever a file may hold in their place."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from ruamel.yaml import YAML

from nexa.core.config import SECTIONS, Config, parse_config
from nexa.core.errors import ConfigError
from tests.core.test_config import MINIMAL, mistakes


def test_the_table_of_sections_is_the_schemas() -> None:
    assert list(SECTIONS) == list(Config.model_fields)
    for name, section in SECTIONS.items():
        assert section.__name__.lower() == f"{name}section"


def test_every_key_of_a_section_has_a_typo_that_is_caught() -> None:
    for name, section in SECTIONS.items():
        for key in section.model_fields:
            found = mistakes(f"{name}:\n  {key}x: 1\n")
            assert any(line.startswith(f"line 2: {name}.{key}x is not a key") for line in found)


YAML_VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@settings(deadline=None, max_examples=150)
@given(st.dictionaries(st.sampled_from([*SECTIONS, "x"]), YAML_VALUES), st.data())
def test_whatever_a_file_holds_it_loads_or_is_a_config_error(tree: Any, data: Any) -> None:
    name = data.draw(st.sampled_from(list(SECTIONS)))
    keys = st.sampled_from(list(SECTIONS[name].model_fields))
    tree[name] = data.draw(st.dictionaries(keys, YAML_VALUES, max_size=3))
    out = StringIO()
    YAML(typ="safe", pure=True).dump(tree, out)
    assert_loads_or_is_refused(out.getvalue())


@settings(deadline=None, max_examples=200)
@given(st.text(alphabet="model:path-[]{}\"'\n\t #&*!|>?%@`,0", max_size=60))
def test_whatever_text_it_is_it_loads_or_is_a_config_error(text: str) -> None:
    assert_loads_or_is_refused(text)


def assert_loads_or_is_refused(text: str) -> None:
    try:
        loaded = parse_config(text)
    except ConfigError:
        return
    assert isinstance(loaded, BaseModel)


@pytest.mark.parametrize(
    ("asked", "made"),
    [
        ("", ()),
        (", format: gguf", ("q8_0",)),
        (", format: gguf, quantization: Q4_K_M", ("q4_k_m",)),
        (", format: gguf, quantization: 'q8_0, f16,q8_0'", ("q8_0", "f16")),
        (", format: gguf, quantization: [q8_0, q4_0]", ("q8_0", "q4_0")),
    ],
)
def test_the_gguf_files_of_a_publication(asked: str, made: tuple[str, ...]) -> None:
    publish = parse_config(f"{MINIMAL}publish: {{repo: a/b{asked}}}\n").publish
    assert publish is not None
    assert publish.quantizations == made
