"""The complete configuration file, with an example's values."""

from pathlib import Path
from typing import Final

_PACKAGE: Final = Path(__file__).resolve().parent.parent
_INSTALLED: Final = _PACKAGE / "_config.example.toml"


def example() -> bytes:
    """Return config.example.toml: from the package where it is installed, else from the repository."""
    file = _INSTALLED if _INSTALLED.exists() else _PACKAGE.parent / "config.example.toml"
    return file.read_bytes()
