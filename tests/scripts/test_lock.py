from __future__ import annotations

import pytest
from packaging.requirements import Requirement

from scripts.lock import ROOT, closure, wanted


def test_what_a_package_needs_is_locked_with_it() -> None:
    pins = closure([Requirement("pytest-cov")])
    assert {"pytest-cov", "coverage", "pytest", "pluggy", "iniconfig"} <= set(pins)


def test_extras_are_followed_only_when_asked_for() -> None:
    assert "accelerate" not in closure([Requirement("transformers")])
    assert "accelerate" in closure([Requirement("transformers[torch]")])


def test_torch_is_pinned_without_its_build_and_without_accelerators() -> None:
    pins = closure([Requirement("torch")])
    assert "+" not in pins["torch"]
    assert not any(name.startswith(("nvidia", "triton", "cuda")) for name in pins)


def test_what_is_not_installed_is_named() -> None:
    with pytest.raises(SystemExit, match="no-such-package is not installed"):
        closure([Requirement("no-such-package")])


def test_dependencies_extras_and_the_build_system_are_all_wanted() -> None:
    names = {requirement.name for requirement in wanted(ROOT / "pyproject.toml")}
    assert {"torch", "pytest", "ruff", "hatchling"} <= names
