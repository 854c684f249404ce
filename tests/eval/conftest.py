from __future__ import annotations

from pathlib import Path

import pytest

from nexa.core.records import Artifact, DatasetBody, SuiteBody
from nexa.core.store import Store
from nexa.eval.suite import FreezeSpec, freeze
from tests.eval import made


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def dataset(store: Store) -> Artifact[DatasetBody]:
    return made.dataset(
        store,
        {
            "train": made.record_rows(("sodium", "argon", "radium")),
            "eval": made.record_rows(),
        },
    )


@pytest.fixture
def suite(store: Store, dataset: Artifact[DatasetBody]) -> Artifact[SuiteBody]:
    draft = freeze(
        FreezeSpec(name="metals", rows=12, max_new_tokens=24), dataset=dataset, store=store
    )
    return made.seal(draft, store, dataset=dataset)
