"""Writes the reference of all settings (docs/configuration.md) from the model itself."""

import json
import re
import textwrap
from collections.abc import Iterator
from typing import Any, Final

from daemon.settings.channels import Sections
from daemon.settings.keys import CHANNELS, Key, Keys, keys_of, schema

_WIDTH: Final = 120
_UNITS: Final = {
    "_per_s": "per second",
    "_s": "seconds",
    "_days": "days",
    "_share": "share, as 0.3 for 30 %",
    "_per_hour": "per hour",
}
_FOR_SHOW: Final = {
    "database.dsn": '"postgresql://stockrelay:change-me@db.example:5432/erp"',
    "database.listen_dsn": '"postgresql://stockrelay:change-me@db.example:5432/erp"',
    "watch": '[{table = "erp.stock", sku = "sku"}]',
    "watch.table": '"erp.stock"',
    "watch.skus": '"SELECT p.sku FROM erp.products AS p WHERE p.template_id = changed.id"',
    "watch.sku": "\"brand || '/' || part_no\"",
    "only": '["SKU-1", "SKU-2"]',
    "only_where": "\"brand_name = 'AMS'\"",
    "ca_file": '"/etc/stockrelay/ca.pem"',
    "notify.urls": '["dingtalk://SECRET@TOKEN"]',
}
"""Examples for what has no default that shows how it is written."""
_HEAD: Final = """# Configuration

<!-- Made from the settings model: STOCKRELAY_WRITE_DOCS=1 python -m pytest tests/docs/test_configuration.py -->

All settings. `stockrelay init` writes a file that fits the ERP's database; `stockrelay config example` prints
`config.example.toml`, which has them all. Only `[database]`, one `[[watch]]` and one channel are required.
`stockrelay check` finds what is wrong, `stockrelay config show` prints the settings in force,
`stockrelay config schema` the JSON Schema for editors.

A value comes from the first of these that has it:

1. **the environment**: the variable named with each key below, with two underscores between the parts. Lists and
   whole sections are written as JSON.
2. **the secrets folder** (`--secrets-dir` or `STOCKRELAY_SECRETS_DIR`): one file per value, named like the variable
   without `STOCKRELAY_` and in lower case, such as `database__dsn`.
3. **the file**: `--config`, else `STOCKRELAY_CONFIG`, else `config.toml` in the working directory, else
   `/etc/stockrelay/config.toml`.

An unknown key, an out-of-range value and a value that contradicts another are errors: the program names key, value and
fix, and ends with exit code 78. On SIGHUP a running daemon reads everything again except the environment
([operations.md](operations.md#changing-the-configuration)).
Values marked **secret** are never shown: not in the log, not by `config show`, not in an error.
"""


def reference(sections: Sections) -> str:
    """The whole document."""
    found, keys = schema(sections), keys_of(sections)
    parts = [
        part for name, field in found["properties"].items() for part in _section((name,), field, found, keys)
    ]
    heads = re.findall(r"^## (\S+)$", "\n".join(parts), re.MULTILINE)
    links = [f"[`{head.strip('[]')}`](#{re.sub('[^a-z]', '', head.lower())})" for head in heads]
    return "\n".join([_HEAD, _wrapped(f"Sections: {', '.join(links)}."), *parts]).rstrip() + "\n"


def _section(
    path: tuple[str, ...], field: dict[str, Any], schema: dict[str, Any], keys: Keys
) -> Iterator[str]:
    inner = _resolved(field.get("items", field), schema)
    head = ".".join(path)
    if path == ("channels",):
        yield "## [channels.NAME]\n"
        yield _wrapped(CHANNELS)
        for name, channel in inner["properties"].items():
            yield from _section((*path, name), channel, schema, keys)
        return
    yield f"## [{head}]\n" if "items" not in field else f"## [[{head}]]\n"
    yield _wrapped(field.get("description") or inner["description"])
    if "items" in field:
        whole = keys[path]
        yield _wrapped(f"One for each. As a whole: `{whole.variable}`, a JSON list.")
    for name, key in inner["properties"].items():
        yield from _key(keys[(*path, name)], key, is_required=name in inner.get("required", ()))


def _key(key: Key, field: dict[str, Any], *, is_required: bool) -> Iterator[str]:
    description = field.get("description")
    if not description:
        raise ValueError(f"{key.dotted} has no description: write a docstring below it")
    yield f"### {key.dotted}\n"
    yield _wrapped(description)
    facts = [_kind(key, field)]
    default = _default(key, field)
    if default is not None:
        facts.append(f"default `{default}`")
    elif is_required or _is_needed(key):
        facts.append("**required**" if is_required else "**required while the channel is enabled**")
    else:
        facts.append("left out by default")
    if key.is_secret:
        facts.append("**secret**")
    if not key.is_in_list:
        facts.append(f"`{key.variable}`")
    yield _wrapped(" · ".join(facts))
    example = _example(key, field)
    if example and (default is None or default == "[]"):
        yield f"```toml\n{key.path[-1]} = {example}\n```\n"


def _example(key: Key, field: dict[str, Any]) -> str | None:
    if (shown := _FOR_SHOW.get(key.dotted) or _FOR_SHOW.get(key.path[-1])) is not None:
        return shown
    if "examples" in field:
        return json.dumps(field["examples"][0], ensure_ascii=False)
    return '"change-me"' if _is_needed(key) else None


def _resolved(field: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = schema["$defs"][field["$ref"].rpartition("/")[2]] if "$ref" in field else field
    return found


def _is_needed(key: Key) -> bool:
    """Whether an enabled channel must have it: an empty default stands for nothing there."""
    return key.path[0] == "channels" and _is_empty(key.default)


def _is_empty(default: object) -> bool:
    return default is not None and not str(getattr(default, "get_secret_value", lambda: default)())


def _default(key: Key, field: dict[str, Any]) -> str | None:
    value = field.get("default")
    if value is None or value == "" or _is_empty(key.default):
        return None
    return json.dumps(value, ensure_ascii=False)


def _kind(key: Key, field: dict[str, Any]) -> str:
    """Its type, range and unit, in words."""
    parts = field.get("anyOf", [field])
    facts = next(part for part in parts if part.get("type") != "null")
    if "enum" in facts:
        return "one of " + ", ".join(f"`{json.dumps(value)}`" for value in facts["enum"])
    kind = {
        "string": "text", "integer": "whole number", "number": "number", "boolean": "`true` or `false`",
        "array": "list of texts",
    }[facts["type"]]  # fmt: skip
    unit = next((unit for end, unit in _UNITS.items() if key.path[-1].endswith(end)), None)
    limits = [
        f"{word} {facts[name]:,}"
        for name, word in (
            ("exclusiveMinimum", "more than"), ("minimum", "at least"), ("exclusiveMaximum", "less than"),
            ("maximum", "at most"),
        )
        if name in facts
    ]  # fmt: skip
    return ", ".join([kind, *([unit] if unit else []), *limits])


def _wrapped(text: str) -> str:
    """The text in lines; what stands in backticks is not broken."""
    whole = re.sub(r"`[^`]*`", lambda code: code[0].replace(" ", "\0"), " ".join(text.split()))
    lines = textwrap.fill(whole, _WIDTH, break_long_words=False, break_on_hyphens=False)
    return lines.replace("\0", " ") + "\n"
