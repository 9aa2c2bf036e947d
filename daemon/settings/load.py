"""Reads the settings from where an operator may write them. The only code that reads the environment."""

import json
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from daemon.core.errors import ConfigError
from daemon.settings import addresses, rules
from daemon.settings.channel_sections import read_channels
from daemon.settings.channels import ChannelSettings, Sections, section_of
from daemon.settings.files import config_file, files_in, path_or_none, read_toml, secret_text, setting_of
from daemon.settings.keys import Key, Keys, keys_of, named_keys, suggestion
from daemon.settings.model import ENV_PREFIX, Settings
from daemon.settings.problems import NO_SUCH_KEY, Problems, unknown

DEFAULT_PLACES: Final = (Path("config.toml"), Path("/etc/stockrelay/config.toml"))
_MARKETPLACE_OF: Final = re.compile(r"channels__(.+)__marketplace")


def load(
    sections: Sections,
    config: Path | None,
    secrets_dir: Path | None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """The settings from the environment, over the secrets folder, over the TOML file.

    `sections` are the marketplaces' own. `config` and `secrets_dir` go before STOCKRELAY_CONFIG and
    STOCKRELAY_SECRETS_DIR. Raises ConfigError; its message has one line for each problem, with key, value (never a
    secret), reason and fix.
    """
    environ = os.environ if environ is None else environ
    places = _places(config, secrets_dir, environ)
    in_file = read_toml(places.file) if places.file else {}
    keys = keys_of(_declared(sections, in_file, places.folder, environ))
    problems = Problems(keys)

    values: dict[str, Any] = {"database": {}, "channels": {}}
    for layer in (
        in_file,
        _from_folder(places.folder, keys, problems) if places.folder else {},
        _from_environment(environ, keys, problems),
    ):
        problems.hide(layer)
        values = _over(values, layer)

    _add_services(values, environ, problems)
    settings = validated(values, sections, problems)
    if settings is None or problems.lines:
        source = (
            str(places.file)
            if places.file
            else f"no file; looked for {' and '.join(map(str, DEFAULT_PLACES))}"
        )
        raise ConfigError("\n  ".join([f"the configuration is wrong ({source}):", *problems.lines]))
    return settings


class _Places(NamedTuple):
    file: Path | None
    folder: Path | None


def _places(config: Path | None, secrets_dir: Path | None, environ: Mapping[str, str]) -> _Places:
    file = config_file(config, environ.get("STOCKRELAY_CONFIG"), DEFAULT_PLACES)
    return _Places(file, secrets_dir or path_or_none(environ.get("STOCKRELAY_SECRETS_DIR")))


def _declared(
    sections: Sections, in_file: Mapping[str, Any], folder: Path | None, environ: Mapping[str, str]
) -> dict[str, type[ChannelSettings]]:
    """The channels whose keys may be given, each with its section: those of the file, those that a variable or a
    secrets file names a marketplace for, and each marketplace's own name."""
    found: dict[str, type[ChannelSettings]] = dict(sections)
    in_json = [
        _json_or_none(text) for name, text in environ.items() if name.upper() == f"{ENV_PREFIX}CHANNELS"
    ]
    for given in (in_file.get("channels"), *in_json):
        for name, values in given.items() if isinstance(given, Mapping) else ():
            found[name] = section_of(name, values, sections) or found.get(name, ChannelSettings)
    written = {name.replace("-", "_"): name for name in found}
    texts: dict[str, str | None] = {}
    for file in files_in(folder) if folder is not None else ():
        if _MARKETPLACE_OF.fullmatch(setting_of(file)):
            texts[setting_of(file)] = _text_or_none(file)
    texts |= {name.lower().removeprefix(ENV_PREFIX.lower()): text for name, text in environ.items()}
    for setting, text in texts.items():
        if (declared := _MARKETPLACE_OF.fullmatch(setting)) is not None:
            name = written.get(declared[1], declared[1])
            found[name] = section_of(name, {"marketplace": text}, sections) or found.get(
                name, ChannelSettings
            )
    return found


def _json_or_none(text: str) -> Any:  # noqa: ANN401 - whatever JSON can hold
    try:
        return json.loads(text)
    except ValueError:
        return None  # it is named when the layer is read


def _text_or_none(file: Path) -> str | None:
    try:
        return secret_text(file)
    except ValueError:
        return None  # it is named when the layer is read


def exposed_files(
    sections: Sections,
    config: Path | None,
    secrets_dir: Path | None,
    environ: Mapping[str, str] | None = None,
) -> list[Path]:
    """The files with secrets in them that every user of this machine may read: configuration and secrets folder."""
    environ = os.environ if environ is None else environ
    places = _places(config, secrets_dir, environ)
    in_file = read_toml(places.file) if places.file is not None else {}
    keys = keys_of(_declared(sections, in_file, places.folder, environ))
    secret = [key for key in named_keys(keys) if key.is_secret]
    found = (
        [places.file] if places.file is not None and any(_holds(in_file, key.path) for key in secret) else []
    )
    files = {key.file for key in secret}
    if places.folder is not None:
        found += [file for file in places.folder.iterdir() if setting_of(file) in files]
    return sorted(each for each in found if _is_open_to_all(each))


def _holds(values: Mapping[str, Any], path: tuple[str, ...]) -> bool:
    value: Any = values
    for part in path:
        value = value.get(part) if isinstance(value, Mapping) else None
    # An address may do without a password.
    return bool(value) and (not path[-1].endswith("dsn") or bool(rules.dsn_secrets(str(value))))


def _is_open_to_all(file: Path) -> bool:
    """Whether others may read it: its own mode, and that of each folder above."""
    real = file.resolve()
    return bool(real.stat().st_mode & stat.S_IROTH) and all(
        above.stat().st_mode & stat.S_IXOTH for above in real.parents
    )


def _from_environment(environ: Mapping[str, str], keys: Keys, problems: Problems) -> dict[str, Any]:
    known = {key.variable: key for key in named_keys(keys)}
    flat = {variable.replace("__", "_"): variable for variable in known}
    given: dict[Key, tuple[str, str]] = {}
    for name, text in environ.items():
        upper = name.upper()
        if not upper.startswith(ENV_PREFIX):
            continue
        if upper in known:
            given[known[upper]] = (text, name)
        elif "__" in upper:
            problems.add(unknown("environment variable", name, known))
        elif upper in flat:
            # Other STOCKRELAY_... names are let be: Kubernetes makes some for a service called stockrelay.
            problems.add(f"environment variable {name}: it names no setting; did you mean {flat[upper]}?")
    return _nested(given, problems)


def _from_folder(folder: Path, keys: Keys, problems: Problems) -> dict[str, Any]:
    known = {key.file: key for key in named_keys(keys)}
    given: dict[Key, tuple[str, str]] = {}
    for file in files_in(folder):
        name = setting_of(file)
        if name not in known:
            if "__" in name and file.is_file():
                problems.add(unknown("secrets file", file.name, known))
            continue
        key = known[name]
        if key in given:
            problems.add(
                f"secrets file {file.name}: it gives the same setting as {given[key][1]}; keep one of them"
            )
            continue
        try:
            given[key] = (secret_text(file), f"secrets file {file.name}")
        except ValueError as error:
            problems.add(f"secrets file {file.name}: {error}")
    return _nested(given, problems)


def _nested(given: Mapping[Key, tuple[str, str]], problems: Problems) -> dict[str, Any]:
    """One layer out of named texts: a section or a list is given as JSON, a single key goes over its section."""
    layer: dict[str, Any] = {}
    for key, (text, origin) in sorted(given.items(), key=lambda item: len(item[0].path)):
        value: Any = text
        if key.is_whole:
            try:
                value = json.loads(text)
            except ValueError as error:
                problems.add(
                    f"{key.dotted} (from {origin}): is not JSON: {error}; or set its keys one by one"
                )
                continue
        problems.origins[key.path] = origin
        for part in reversed(key.path):
            value = {part: value}
        layer = _over(layer, value)
    return layer


def _add_services(values: Mapping[str, Any], environ: Mapping[str, str], problems: Problems) -> None:
    """Put into the addresses what the environment says of them, as libpq would."""
    section = values.get("database")
    if not isinstance(section, dict):
        return
    for name in ("dsn", "listen_dsn"):
        if isinstance(section.get(name), str):
            try:
                section[name] = addresses.with_environment(section[name], environ)
            except ValueError as error:
                problems.add(f"database.{name}: {error}")
    for variable in ("PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY", "PGSSLCRL"):
        if (file := environ.get(variable)) and not Path(file).is_file():
            problems.add(
                f"environment variable {variable} = {file}: is not there, or is not a file; give the path of a file, "
                "or take the variable away"
            )


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` laid over `below`, key by key; a list is replaced as a whole."""
    merged = dict(below)
    for name, value in above.items():
        under = merged.get(name)
        both = isinstance(under, Mapping) and isinstance(value, Mapping)
        merged[name] = _over(under, value) if both else value  # type: ignore[arg-type] # both are mappings
    return merged


def validated(values: Mapping[str, Any], sections: Sections, problems: Problems) -> Settings | None:
    """The settings; None where there are problems, which are added to `problems`."""
    # BaseSettings takes arguments that begin with an underscore for its own.
    own = {name: value for name, value in values.items() if name in Settings.model_fields}
    for name in values.keys() - own.keys():
        problems.add(f"{name}: {NO_SUCH_KEY}{suggestion(name, Settings.model_fields)}")
    channels = read_channels(values.get("channels", {}), sections, problems)
    settings: Settings | None = None
    try:
        settings = Settings(**{**own, "channels": channels or {}})
    except ValidationError as error:
        problems.add_invalid(error, values)
    if channels is None:
        problems.add_short_settles(values)
    elif not any(channel.enabled for channel in channels.values()):
        examples = " or ".join(f"[channels.{name}]" for name in sorted(sections))
        problems.add(f"channels: no channel is enabled; write {examples}")
    return settings


def settings_of(values: Mapping[str, Any], sections: Sections) -> Settings:
    """The settings of values that have been read, without other sources. Raises ConfigError."""
    problems = Problems(keys_of(_declared(sections, values, None, {})))
    settings = validated(values, sections, problems)
    if settings is None or problems.lines:
        raise ConfigError("\n  ".join(["the configuration is wrong:", *problems.lines]))
    return settings
