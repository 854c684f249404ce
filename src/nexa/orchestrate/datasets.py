"""The datasets of a project by their names: versions, what each was made from, the page of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nexa.core.records import Artifact, DatasetBody
from nexa.core.tiers import Tiers
from nexa.data import look, registry
from nexa.ui.data_report import DataPage, write_data_report

Dataset = Artifact[DatasetBody]
REGISTRY = "dataset_registry.yaml"


@dataclass(frozen=True)
class Version:
    """A version of a dataset: its record, and what the registry says of it ({} where it is not)."""

    dataset: Dataset
    entry: Mapping[str, Any]

    @property
    def parent(self) -> str | None:
        """The version it was made from, `name@vN`."""
        found = self.entry.get("parent")
        return None if found is None else str(found)

    @property
    def rows(self) -> int:
        """Rows in all of its splits."""
        return sum(split.rows for split in self.dataset.body.splits.values())


def versions(project: Path) -> list[Version]:
    """Every version of every dataset of a project, by name and age."""
    tiers = Tiers.of(project)
    entries = registry.read(tiers.root / REGISTRY)
    return [
        Version(tiers.store.get("dataset", f"{name}@{version}"), _entry(entries, name, version))
        for name in tiers.store.names("dataset")
        for version in tiers.store.versions("dataset", name)
    ]


def version(name: str, project: Path) -> Version:
    """A version by `name@vN`, or a name's newest.

    Raises:
        UnknownArtifact: there is none; says the nearest.
    """
    tiers = Tiers.of(project)
    found = tiers.store.get("dataset", name)
    return Version(found, _entry(registry.read(tiers.root / REGISTRY), found.name, found.version))


def history(name: str, project: Path) -> list[Version]:
    """A version, the one it was made from, and so on to the first."""
    chain = [version(name, project)]
    while (parent := chain[-1].parent) is not None:
        chain.append(version(parent, project))
    return chain


def first_with(row_id: str, chain: list[Version], project: Path) -> Version:
    """The oldest version of a history that has a row, as the newest has."""
    store = Tiers.of(project).store
    found = chain[0]
    for older in chain[1:]:
        if not any(shown.row_id == row_id for shown in look.rows(older.dataset, store)):
            break
        found = older
    return found


def report(name: str, project: Path, path: Path) -> Dataset:
    """Write the page of a dataset: counts, lengths, domains, drops by reason, rows.

    Raises:
        UnknownArtifact: there is no such dataset.
        StorageError: the page cannot be written.
    """
    chain = history(name, project)
    store = Tiers.of(project).store
    dataset = chain[0].dataset
    seen = look.profile(dataset, store)
    page = DataPage(
        dataset=dataset,
        versions=[(v.dataset, v.parent, str(v.entry.get("notes") or "")) for v in chain],
        by_domain=seen.by_domain,
        turns=seen.turns,
        characters=seen.characters.tolist(),
        samples=[(shown.split, shown.row) for shown in seen.samples],
        dropped=seen.dropped,
    )
    write_data_report(path, page)
    return dataset


def _entry(entries: Mapping[str, Mapping[str, Any]], name: str, version: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = entries.get(name, {}).get(version, {})
    return found
