"""What is wrong with the settings, a line each: key, value (never a secret), reason, fix."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from daemon.core.quoting import visible
from daemon.core.secrecy import MASK, Mask
from daemon.settings.keys import Key, Keys, Path, suggestion
from daemon.settings.model import settle_problem
from daemon.settings.section import Contradiction, Place

NO_SUCH_KEY = "there is no such key"
_LONGEST_SHOWN = 80
_IN_WORDS = {
    "bool": "must be true or false",
    "dict": "must be a section with keys of its own",
    "float": "must be a number",
    "finite": "must be a number, neither infinite nor NaN",
    "int": "must be a whole number",
    "list": "must be a list, in square brackets",
    "mapping": "must be a section with keys of its own",
    "model": "must be a section with keys of its own",
    "path": "must be the path of a file, in quotes",
    "string": "must be text, in quotes",
    "tuple": "must be a list, in square brackets",
}
"""What a value must be, by how the kinds of pydantic's errors begin: its own words are Python's."""
_WITHOUT_DEFAULT = {
    ("watch",): "is missing; write a [[watch]] with `table` and `sku` for each table that holds stock",
    ("watch", "table"): "is missing; name the table as in SQL",
    ("watch", "sku"): "is missing; name the column that holds the SKU, or an SQL expression over the row",
}


class Problems:
    """Collects what is wrong; `origins`: the variable or secrets file that a value comes from."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self.lines: list[str] = []
        self.origins: dict[Path, str] = {}
        self._secrets: list[str] = []
        self._failed = set[Path]()

    def add(self, line: str) -> None:
        line = visible(line)
        if line not in self.lines:
            self.lines.append(line)

    def hide(self, values: Mapping[str, Any], above: Path = ()) -> None:
        """Learn the secrets among the values, so that no other value shows them."""
        for name, value in values.items():
            key = self._keys.get((*above, name))
            if isinstance(value, Mapping):
                self.hide(value, (*above, name))
            elif key and key.is_secret and value:
                self._secrets += [str(item) for item in (value if isinstance(value, list) else [value])]

    def add_wrong(self, place: Place, value: object, what: str) -> None:
        """One value is wrong; it is shown unless it is secret."""
        self._failed.add(_path(place))
        self.add(
            f"{_dotted(place)}{self._shown(self._keys.get(_path(place)), value)}{self._origin(place)}: {what}"
        )

    def add_invalid(
        self, error: ValidationError, values: Mapping[str, Any] | None, above: Place = ()
    ) -> None:
        """What a section refused, `above` its place; with all `values`, settle times that are too short, too."""
        details = [((*above, *detail["loc"]), detail) for detail in error.errors(include_url=False)]
        self._failed |= {_path(loc) for loc, _ in details}
        if values is not None:
            self.add_short_settles(values)
        for loc, detail in details:
            for line in self._lines(loc, detail):
                self.add(line)

    def add_short_settles(self, values: Mapping[str, Any]) -> None:
        """The model compares sections only when each is sound by itself; this looks at the values of those that are."""
        given = values.get("channels")
        channels: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
        for name in channels:
            paths = [("channels", name, "settle_s"), ("run", "lease_s"), ("channels", name, "timeout_s")]
            section = channels[name]
            place = ("channels", name)
            unsound = {*paths, place, (*place, "marketplace")}
            is_off = not isinstance(section, Mapping) or section.get("enabled", True) in (False, "false")
            if is_off or paths[0] not in self._keys or self._failed & unsound:
                continue
            what = settle_problem(*(self._number(values, path) for path in paths))
            if what:
                self.add_wrong(paths[0], _at(values, paths[0]), what)

    def _number(self, values: Mapping[str, Any], path: Path) -> float:
        given = _at(values, path)
        return float(self._keys[path].default if given is None else given)  # type: ignore[arg-type] # a number's key

    def _lines(self, loc: Place, detail: ErrorDetails) -> Iterator[str]:
        kind = detail["type"]
        cause = detail.get("ctx", {}).get("error")
        key = self._keys.get(_path(loc))
        if isinstance(cause, Contradiction):
            for place, what in cause.problems:
                if _path((*loc, *place)) not in self._failed:
                    yield self._contradiction((*loc, *place), what, _at(detail["input"], place))
        elif kind == "missing" and key:
            yield missing(key, _dotted(loc))
        elif kind == "extra_forbidden":
            siblings = [k.path[-1] for k in self._keys.values() if k.path[:-1] == _path(loc)[:-1]]
            yield f"{_dotted(loc)}{self._origin(loc)}: {NO_SUCH_KEY}{suggestion(str(loc[-1]), siblings)}"
        else:
            what = str(cause) if cause else _in_words(detail)
            default = f" (default {_toml(key.default)})" if key and key.has_default and not cause else ""
            yield f"{_dotted(loc)}{self._shown(key, detail['input'])}{self._origin(loc)}: {what}{default}"

    def _contradiction(self, loc: Place, what: str, value: Any) -> str:  # noqa: ANN401
        key = self._keys.get(_path(loc))
        if what == "missing" and key:
            if key.path in _WITHOUT_DEFAULT:
                return missing(key, _dotted(loc))
            return f"{missing(key, key.dotted)}, or set {'.'.join(key.path[:-1])}.enabled = false"
        return f"{_dotted(loc)}{self._shown(key, value)}{self._origin(loc)}: {what}"

    def _shown(self, key: Key | None, value: Any) -> str:  # noqa: ANN401 - whatever was given
        if key is None or key.is_secret or value is None or isinstance(value, Mapping | list | tuple):
            return ""
        shown = str(value) if not isinstance(value, bool | int | float | str) else value
        if isinstance(shown, str):
            shown = Mask(self._secrets)(shown)
            shown = re.sub(r"://.*@", f"://{MASK}@", shown)
            shown = re.sub(r"(://[^?#]*[?#]).*", rf"\1{MASK}", shown)
            shown = re.sub(r"(?i)(password\s*=\s*)\S+", rf"\1{MASK}", shown)
            shown = shown if len(shown) <= _LONGEST_SHOWN else shown[:_LONGEST_SHOWN] + "..."
        return f" = {_toml(shown)}"

    def _origin(self, loc: Place) -> str:
        path = _path(loc)
        origin = next(
            (self.origins[path[:n]] for n in range(len(path), 0, -1) if path[:n] in self.origins), None
        )
        return f" (from {origin})" if origin else ""


def _in_words(detail: ErrorDetails) -> str:
    said = _IN_WORDS.get(detail["type"].partition("_")[0])
    return said or detail["msg"].replace("Input should be", "must be")


def missing(key: Key, dotted: str) -> str:
    """What is missing, and every place where it can be given."""
    if key.path in _WITHOUT_DEFAULT:
        return f"{dotted} {_WITHOUT_DEFAULT[key.path]}"
    secret = f", or the file {key.file} in the secrets folder" if key.is_secret else ""
    return f"{dotted} is missing; set it in the file, or {key.variable} in the environment{secret}"


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    return f"{what} {name}: it names no setting{suggestion(name, known)}"


def _path(loc: Place) -> Path:
    return tuple(part for part in loc if isinstance(part, str))


def _dotted(loc: Place) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")


def _toml(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _at(value: Any, place: Iterable[str | int]) -> Any:  # noqa: ANN401 - whatever stands in the file
    for part in place:
        value = dict(value) if isinstance(value, BaseModel) else value
        is_there = isinstance(value, Mapping) or (isinstance(value, list) and isinstance(part, int))
        value = (value.get(part) if isinstance(value, Mapping) else value[part]) if is_there else None
    return value
