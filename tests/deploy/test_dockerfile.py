"""The Dockerfile agrees with the package. `make image-test` looks at the built image itself."""

import json
import re
from pathlib import Path
from typing import Final

from daemon import __version__
from daemon.settings import Ops
from tests.deploy.manifests import is_understood

ROOT: Final = Path(__file__).parents[2]
TEXT: Final = (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
LINES: Final = [line.split() for line in TEXT.splitlines() if line and not line.startswith("#")]


def instructions(name: str) -> list[list[str]]:
    """The arguments of every instruction that is called `name`."""
    return [words[1:] for words in LINES if words[0] == name]


def test_label_says_the_packages_version() -> None:
    assert [f"VERSION={__version__}"] in instructions("ARG")


def test_user_is_a_number_other_than_root() -> None:
    ((user,),) = instructions("USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)


def test_port_is_the_ops_port() -> None:
    assert instructions("EXPOSE") == [[str(Ops().port)]]


def test_health_is_asked_by_a_command_of_the_program() -> None:
    (words,) = instructions("HEALTHCHECK")
    program, *command = json.loads(" ".join(words[words.index("CMD") + 1 :]))
    assert program == "stockrelay"
    assert is_understood(command)


def test_base_image_is_the_builders_choice() -> None:
    assert {words[0] for words in instructions("FROM")} == {"${PYTHON_IMAGE}"}


def test_dockerignore_lets_through_what_is_copied_and_nothing_else() -> None:
    copied = {
        source.rstrip("/")
        for words in instructions("COPY")
        if not words[0].startswith("--from")
        for source in words[:-1]
    }
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    let_through = {line[1:].rstrip("/") for line in lines if line.startswith("!")}
    assert "*" in lines
    assert let_through == copied
    assert [name for name in copied if not (ROOT / name).exists()] == []


def test_installed_is_only_what_has_a_hash() -> None:
    installs = re.findall(r"pip (?:--python \S+ )?install ([^&]*)", TEXT)
    assert len(installs) == 3
    assert all("--require-hashes" in words or "--no-index" in words for words in installs)
