"""requirements.lock and environment.yml say the same as pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PIN = re.compile(
    r"^(?P<name>[A-Za-z0-9][\w.-]*(?:\[[\w,.-]+\])?)==(?P<version>[^\s;]+)(?: ; (?P<marker>.+?))? \\$", re.MULTILINE
)
PYTHONS = ("3.11", "3.12", "3.13")


@pytest.fixture(scope="module")
def project(checkout: Path) -> dict[str, Any]:
    return tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def lock(checkout: Path) -> str:
    return (checkout / "requirements.lock").read_text(encoding="utf-8")


def asked(project: dict[str, Any]) -> list[Requirement]:
    """Everything that pyproject.toml asks for, extras and groups too."""
    tables = (
        project["project"]["dependencies"],
        *project["project"]["optional-dependencies"].values(),
        *project["dependency-groups"].values(),
    )
    return [Requirement(line) for table in tables for line in table]


def pins(lock: str) -> Iterator[tuple[Requirement, str]]:
    """Each pin, and its version."""
    for match in PIN.finditer(lock):
        marker = f" ; {match['marker']}" if match["marker"] else ""
        yield Requirement(f"{match['name']}=={match['version']}{marker}"), match["version"]


def here(lock: str) -> dict[str, str]:
    """The versions that are pinned for this Python on this machine."""
    return {
        canonicalize_name(pin.name): version
        for pin, version in pins(lock)
        if pin.marker is None or pin.marker.evaluate({"extra": ""})
    }


def test_every_requirement_is_pinned_within_its_range(project: dict[str, Any], lock: str) -> None:
    pinned: dict[str, list[str]] = {}
    for pin, version in pins(lock):
        pinned.setdefault(canonicalize_name(pin.name), []).append(version)
    for requirement in asked(project):
        versions = pinned.get(canonicalize_name(requirement.name), [])
        assert versions, f"{requirement} is not in requirements.lock: make lock"
        assert all(requirement.specifier.contains(version) for version in versions), f"{requirement}: {versions}"


def test_what_is_pinned_is_what_is_needed(project: dict[str, Any], lock: str) -> None:
    """Walks from pyproject.toml over the installed packages' own requirements: nothing missing, nothing left over."""
    pinned = here(lock)
    waiting = [(requirement, "") for requirement in asked(project)]
    seen: set[tuple[str, str]] = set()
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        assert name in pinned, f"{requirement} is needed and not pinned: make lock"
        assert requirement.specifier.contains(pinned[name], prereleases=True), (
            f"{requirement}: {pinned[name]} is pinned"
        )
        for wanted in ("", *requirement.extras):
            if (name, wanted) not in seen:
                seen.add((name, wanted))
                waiting += [(Requirement(line), wanted) for line in metadata.requires(name) or ()]
    assert set(pinned) == {name for name, _ in seen}


def test_what_is_needed_with_extras_is_pinned_with_them(project: dict[str, Any], lock: str) -> None:
    """An old pip asks the index for a requirement with an extra that no pin has, and takes whatever is newest there."""
    pinned: dict[str, set[str]] = {}
    for pin, _ in pins(lock):
        pinned.setdefault(canonicalize_name(pin.name), set()).update(pin.extras)
    needed = [("pyproject.toml", requirement) for requirement in asked(project)]
    for name, extras in pinned.items():
        try:
            lines = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # pinned for another platform
            continue
        for line in lines:
            requirement = Requirement(line)
            if requirement.marker is None or any(
                requirement.marker.evaluate(
                    {"python_version": python, "python_full_version": f"{python}.0", "extra": extra}
                )
                for python in PYTHONS
                for extra in ("", *extras)
            ):
                needed.append((name, requirement))
    assert sum(1 for _, requirement in needed if requirement.extras) >= 4
    for name, requirement in needed:
        missing = requirement.extras - pinned[canonicalize_name(requirement.name)]
        assert not missing, f"{name} needs {requirement}, pinned without {missing}: make lock"


def test_every_pin_has_hashes_and_nothing_names_an_address(lock: str) -> None:
    entries = re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE)[1:]
    assert len(entries) == sum(1 for _ in pins(lock)) > 100
    for entry in entries:
        assert "--hash=sha256:" in entry, entry.splitlines()[0]
    assert "://" not in lock
    for option in ("--index", "--extra-index", "--find-links", "-f ", "-i ", "@ "):
        assert not re.search(rf"(^|\s){re.escape(option)}", lock), option


def test_conda_brings_python_and_the_programs_and_pip_the_rest(project: dict[str, Any], checkout: Path) -> None:
    environment = yaml.safe_load((checkout / "environment.yml").read_text(encoding="utf-8"))
    assert environment["channels"] == ["conda-forge"]
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    conda = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    assert f"python{project['project']['requires-python']}" in conda
    assert {"pip", "postgresql", "prometheus", "redis-server"} <= set(conda)
    # the packages are pyproject.toml's own: a second list would drift
    assert pip == ["--editable .[sandbox]"]
    assert "sandbox" in project["project"]["optional-dependencies"]
