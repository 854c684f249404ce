from __future__ import annotations

from pathlib import Path

import pytest

from nexa.core.errors import GateError
from nexa.publish.scan import refuse_secrets

# Put together here, so that no scanner of this repository finds them.
TOKENS = ("hf_" + "aB3" * 12, "sk-" + "x9Y" * 10, "AKIA" + "ABCD" * 4, "ghp_" + "a1B2" * 9)


@pytest.mark.parametrize("token", TOKENS)
def test_a_credential_is_named_by_file_and_line_and_never_shown(token: str, tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_text(f'{{"a": 1}}\n{{"key": "{token}"}}\n')

    with pytest.raises(GateError) as caught:
        refuse_secrets({"nexa/answers.jsonl": path, "README.md": b"fine"})

    assert "nexa/answers.jsonl line 2" in str(caught.value)
    assert token not in str(caught.value)
    assert token[4:] not in str(caught.value)


def test_many_findings_are_counted(tmp_path: Path) -> None:
    with pytest.raises(GateError, match="and 2 more"):
        refuse_secrets({"README.md": "\n".join([TOKENS[0]] * 12).encode()})


def test_weights_are_not_read_as_text_and_clean_files_pass() -> None:
    refuse_secrets({"model.safetensors": TOKENS[0].encode(), "config.json": b"{}", "LICENSE": b""})
