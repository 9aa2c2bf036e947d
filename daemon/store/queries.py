"""Named queries: each .sql file beside this module holds some, headed `-- name: NAME` and a line of purpose."""

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources

_HEAD = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)


@cache
def load(file: str) -> Mapping[str, str]:
    """Return the queries of `FILE.sql` by name."""
    text = resources.files("daemon.store").joinpath("sql", f"{file}.sql").read_text(encoding="utf-8")
    parts = _HEAD.split(text)
    return {name: body.strip() for name, body in zip(parts[1::2], parts[2::2], strict=True)}


def dollar_quoted(text: str) -> str:
    """Return the text as an SQL literal between dollar signs, which nothing in it can end."""
    tag = "$query$"
    while tag[:-1] in text:
        tag = f"{tag[:-1]}_$"
    return f"{tag}{text}{tag}"
