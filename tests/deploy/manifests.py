"""Reads what deploy/ holds, as the programs that it is for do."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from daemon.app.configuration import load
from daemon.cli import invoke
from daemon.settings import Settings

ROOT: Final = Path(__file__).parents[2]
DEPLOY: Final = ROOT / "deploy"

Document = dict[str, Any]


def documents(text: str) -> list[Document]:
    """The documents of a YAML file."""
    return [document for document in yaml.safe_load_all(text) if document is not None]


def is_understood(words: Sequence[str]) -> bool:
    """Tell whether these are a command and options of it. What is wrong stands on standard error."""
    # Options are read before the help is printed: an unknown one is an error all the same.
    return invoke([*words, "--help"]) == 0


def loaded(config: Path, secrets: Mapping[str, str], environ: Mapping[str, str], folder: Path) -> Settings:
    """The settings of a container: its configuration, its folder of secrets, its environment."""
    folder.mkdir(parents=True)
    for name, value in secrets.items():
        (folder / name).write_text(value, "utf-8")
    places = {"STOCKRELAY_CONFIG": str(config), "STOCKRELAY_SECRETS_DIR": str(folder)}
    assert places.keys() <= environ.keys()
    return load(None, None, {**environ, **places})
