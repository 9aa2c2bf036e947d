"""The keys of the settings, read off the model: their variables, their JSON Schema, and suggestions for wrong ones."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import BaseModel, Field, SecretStr, create_model
from pydantic_core import PydanticUndefined

from daemon.settings.channels import LONGEST_NAME, ChannelSettings, Sections
from daemon.settings.model import ENV_PREFIX, Settings
from daemon.settings.section import Section

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Key:
    """A place in the settings. `is_whole`: a section or a list, which a variable can only give as JSON."""

    path: Path
    is_secret: bool
    is_whole: bool
    is_in_list: bool
    default: object

    @property
    def dotted(self) -> str:
        return ".".join(self.path)

    @property
    def variable(self) -> str:
        return ENV_PREFIX + self.file.upper()

    @property
    def file(self) -> str:
        """Its file in the secrets folder. No variable's name holds a hyphen, which a channel's may."""
        return "__".join(self.path).replace("-", "_")

    @property
    def has_default(self) -> bool:
        return self.default is not PydanticUndefined and not self.is_whole and not self.is_secret


def _leaves(annotation: Any) -> Iterator[Any]:  # noqa: ANN401 - a type expression
    if get_origin(annotation) in {Union, UnionType, Annotated, tuple}:
        for part in get_args(annotation):
            yield from _leaves(part)
    else:
        yield annotation


def _walk(model: type[BaseModel], above: Path, *, in_list: bool) -> Iterator[Key]:
    for name, field in model.model_fields.items():
        leaves = list(_leaves(field.annotation))
        section = next((t for t in leaves if isinstance(t, type) and issubclass(t, BaseModel)), None)
        is_list = get_origin(field.annotation) is tuple
        is_whole = section is not None or is_list or get_origin(field.annotation) is dict
        yield Key((*above, name), SecretStr in leaves, is_whole, in_list, field.default)
        if section is not None:
            yield from _walk(section, (*above, name), in_list=in_list or is_list)


_FIXED = {key.path: key for key in _walk(Settings, (), in_list=False)}

Keys = Mapping[Path, Key]
"""The keys of one configuration, by their place."""


def keys_of(channels: Mapping[str, type[ChannelSettings]]) -> Keys:
    """The keys of a configuration with these channels, each with its section."""
    keys = dict(_FIXED)
    for name, section in channels.items():
        path = ("channels", name)
        keys[path] = Key(path, is_secret=False, is_whole=True, is_in_list=False, default=None)
        keys |= {key.path: key for key in _walk(section, path, in_list=False)}
    return keys


def named_keys(keys: Keys) -> list[Key]:
    """The keys that a variable or a file of the secrets folder can name."""
    return [key for key in keys.values() if not key.is_in_list]


def suggestion(name: str, known: Iterable[str]) -> str:
    """`did you mean X?` where there is one that looks like it, or nothing."""
    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {match[0]}?" if match else ""


CHANNELS: Final = """\
The channels, by the operator's names of them: each is one shop, or one account, at a marketplace. The name may be the
marketplace's own; with another name the channel says which one: `marketplace = "..."`. Names: lower-case letters and
digits, with - or _ between, at most 40 characters. Two enabled channels at one account are refused: they would
overwrite each other's numbers, and one listing can hold both. In variables and secrets
files, - is written as _."""


def schema(sections: Sections) -> dict[str, Any]:
    """The JSON Schema of all settings with the marketplaces' `sections`."""
    # A default for each: none of them has to be written.
    own: Any = {name: (section, Field(default_factory=dict)) for name, section in sections.items()}
    channels = create_model("Channels", __base__=Section, __doc__=CHANNELS, **own)
    found = create_model("AllSettings", __base__=Settings, channels=(channels, ...)).model_json_schema()
    found["title"], found["description"] = "Settings", Settings.__doc__
    found["$defs"]["Channels"] |= {
        "propertyNames": {"maxLength": LONGEST_NAME, "pattern": "^[a-z0-9]+([-_][a-z0-9]+)*$"},
        # A channel with a name of its own says which marketplace it is at.
        "additionalProperties": {
            "required": ["marketplace"],
            "anyOf": [{"$ref": f"#/$defs/{section.__name__}"} for section in sections.values()],
        },
    }
    return found
