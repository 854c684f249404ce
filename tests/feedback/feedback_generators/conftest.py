from __future__ import annotations

import pytest

from nexa.core.records import Artifact, DatasetBody, WeaknessBody
from nexa.core.store import Store
from tests.feedback import made


@pytest.fixture
def weak(store: Store) -> Artifact[WeaknessBody]:
    return made.weak(store)


@pytest.fixture
def dataset(store: Store) -> Artifact[DatasetBody]:
    return made.dataset(store, made.training(8))
