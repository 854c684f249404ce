"""The prompts for teachers that write rows: those in `templates/`, read as all prompts are."""

from __future__ import annotations

from pathlib import Path

from nexa.lm.prompt_templates import NEWEST, PromptTemplate, read_template

__all__ = ["FOLDER", "PromptTemplate", "template"]

FOLDER = Path(__file__).parent / "templates"


def template(name: str, version: int = NEWEST) -> PromptTemplate:
    """One of them by its name, e.g. `self_instruct`."""
    return read_template(FOLDER, name, version)
