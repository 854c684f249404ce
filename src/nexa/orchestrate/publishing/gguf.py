"""The GGUF files of a publication: the evaluated export, converted once for each quantisation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nexa.core.config_sections import PublishSection
from nexa.core.identity import slug
from nexa.core.records import Artifact
from nexa.core.tiers import Tiers
from nexa.lm.resolve import resolve
from nexa.orchestrate.models import exports
from nexa.orchestrate.runner import run_step
from nexa.weights.convert import ConvertSpec


def conversions(
    section: PublishSection, export: Artifact[Any], tiers: Tiers, scratch: Path
) -> Iterator[tuple[str, ConvertSpec]]:
    """Each GGUF file that is asked for: its role in a publication, and its recipe."""
    if not section.quantizations:
        return
    model = resolve(export.label, project=tiers.root)
    for role, quantization in roles_of(section).items():
        name = name_of(export, quantization)
        yield role, ConvertSpec(model, "gguf", quantization, name=name, scratch=scratch)


def converted(
    section: PublishSection, export: Artifact[Any], tiers: Tiers, scratch: Path
) -> dict[str, Artifact[Any]]:
    """The GGUF files of an export by their roles, made or reused.

    Raises:
        ModelError: a model that GGUF cannot hold.
        MissingExtra: a K-quant without the extra `gguf`.
        ParityError: what was written is not the model.
    """
    made = {}
    for role, spec in conversions(section, export, tiers, scratch):
        made[role], _ = run_step("convert", spec, {"export": export}, store=tiers.store)
    return made


def made_before(
    section: PublishSection, export: Artifact[Any], tiers: Tiers
) -> dict[str, Artifact[Any]]:
    """Those of the GGUF files that are here already; looked up, nothing is made."""
    here = {
        other.body.dtype: other
        for other in exports(tiers.store)
        if other.inputs.get("export") == export.digest and other.body.format == "gguf"
    }
    return {role: here[name] for role, name in roles_of(section).items() if name in here}


def roles_of(section: PublishSection) -> dict[str, str]:
    """Role -> quantisation, in the order they were asked for."""
    return {f"gguf{number}": name for number, name in enumerate(section.quantizations, 1)}


def name_of(export: Artifact[Any], quantization: str) -> str:
    """What the GGUF export is called, as `nexa export` would call it."""
    return slug(f"{export.name}-{quantization}")


def file_name(export: Artifact[Any], quantization: str) -> str:
    """What its file will be called."""
    return f"{slug(export.name)}-{quantization}.gguf"
