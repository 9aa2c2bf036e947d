"""Settings for tests, from plain values."""

import json
from collections.abc import Mapping
from typing import Any

from daemon.app.configuration import load
from daemon.settings import Settings


def settings_of(values: Mapping[str, Any]) -> Settings:
    """The settings of these sections, each given as JSON in the environment. Raises ConfigError."""
    return load(
        None, None, {f"STOCKRELAY_{name.upper()}": json.dumps(value) for name, value in values.items()}
    )
