"""Reads the settings from where an operator may write them. The only code that reads the environment."""

import json
import os
import re
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from daemon.core.errors import ConfigError
from daemon.core.types import ChannelName
from daemon.settings import addresses, rules
from daemon.settings.channels import ChannelSettings, Sections, marketplace_problem, name_problem, section_of
from daemon.settings.files import config_file, files_in, path_or_none, read_toml, secret_text, setting_of
from daemon.settings.keys import Key, Keys, keys_of, named_keys, suggestion
from daemon.settings.model import ENV_PREFIX, Settings
from daemon.settings.problems import NO_SUCH_KEY, Problems, unknown

DEFAULT_PLACES: Final = (Path("config.toml"), Path("/etc/stockrelay/config.toml"))
_CHANNEL_IN: Final = re.compile(r"channels__((?:(?!__).)+)(__marketplace)?")
"""A channel as one JSON object, or its marketplace: both declare a channel."""


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
    file, folder = _places(config, secrets_dir, environ)
    in_file = read_toml(file) if file else {}
    keys = keys_of(_declared(sections, in_file, folder, environ))
    problems = Problems(keys)

    values: dict[str, Any] = {"database": {}, "channels": {}}
    for layer in (
        in_file,
        _from_folder(folder, keys, problems) if folder else {},
        _from_environment(environ, keys, problems),
    ):
        problems.hide(layer)
        values = _over(values, layer)

    _add_services(values, environ, problems)
    settings = validated(values, sections, problems)
    if settings is None or problems.lines:
        source = file or f"no file; looked for {' and '.join(map(str, DEFAULT_PLACES))}"
        raise ConfigError("\n  ".join([f"the configuration is wrong ({source}):", *problems.lines]))
    return settings


def _places(
    config: Path | None, secrets_dir: Path | None, environ: Mapping[str, str]
) -> tuple[Path | None, Path | None]:
    file = config_file(config, environ.get("STOCKRELAY_CONFIG"), DEFAULT_PLACES)
    return file, secrets_dir or path_or_none(environ.get("STOCKRELAY_SECRETS_DIR"))


def _declared(
    sections: Sections, in_file: Mapping[str, Any], folder: Path | None, environ: Mapping[str, str]
) -> dict[str, type[ChannelSettings]]:
    """The channels whose keys may be given, each with its section: those of the file, those that a variable or a
    secrets file gives as JSON or names a marketplace for, and each marketplace's own name."""
    found: dict[str, type[ChannelSettings]] = dict(sections)
    layers: list[object] = [in_file.get("channels")]
    texts: dict[str, str] = {}
    # What cannot be read is reported when its layer is read.
    for file in files_in(folder) if folder is not None else ():
        if _CHANNEL_IN.fullmatch(setting_of(file)):
            texts[setting_of(file)] = ""
            with suppress(ValueError):
                texts[setting_of(file)] = secret_text(file)
    for name, text in environ.items():
        texts[name.lower().removeprefix(ENV_PREFIX.lower())] = text
        if name.upper() == f"{ENV_PREFIX}CHANNELS":
            with suppress(ValueError):
                layers.append(json.loads(text))
    for given in layers:
        for name, values in given.items() if isinstance(given, Mapping) else ():
            found[name] = section_of(name, values, sections) or found.get(name, ChannelSettings)
    written = {name.replace("-", "_"): name for name in found}
    for setting, text in texts.items():
        declared = _CHANNEL_IN.fullmatch(setting)
        if declared is not None and (declared[2] or text.lstrip().startswith("{")):
            name = written.get(declared[1], declared[1])
            channel: object = {"marketplace": text}
            if not declared[2]:
                with suppress(ValueError):
                    channel = json.loads(text)
            found[name] = section_of(name, channel, sections) or found.get(name, ChannelSettings)
    return found


def exposed_files(
    sections: Sections,
    config: Path | None,
    secrets_dir: Path | None,
    environ: Mapping[str, str] | None = None,
) -> list[Path]:
    """The files with secrets in them that every user of this machine may read: configuration and secrets folder."""
    environ = os.environ if environ is None else environ
    file, folder = _places(config, secrets_dir, environ)
    in_file = read_toml(file) if file else {}
    keys = keys_of(_declared(sections, in_file, folder, environ))
    secret = [key for key in named_keys(keys) if key.is_secret]
    found = [file] if file and any(_holds(in_file, key.path) for key in secret) else []
    names = {key.file for key in secret}
    found += [each for each in folder.iterdir() if setting_of(each) in names] if folder else []
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
            # Other STOCKRELAY_... names are ignored: Kubernetes makes some for a service called stockrelay.
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
    channels = _read_channels(values.get("channels", {}), sections, problems)
    settings: Settings | None = None
    try:
        settings = Settings(**{**own, "channels": channels or {}})
    except ValidationError as error:
        problems.add_invalid(error, values)
    if channels is None:
        problems.add_short_settles(values)
    elif not any(channel.enabled for channel in channels.values()):
        off = " or ".join(f"channels.{name}.enabled" for name in channels)
        examples = " or ".join(f"[channels.{name}]" for name in sorted(sections))
        problems.add(
            f"channels: no channel is enabled; {f'set {off} = true' if off else f'write {examples}'}"
        )
    return settings


def _read_channels(
    given: object, sections: Sections, problems: Problems
) -> dict[ChannelName, ChannelSettings] | None:
    """The channels, each read by its marketplace's section; None where one is wrong."""
    if not isinstance(given, Mapping):
        problems.add_wrong(("channels",), given, "must be a section with keys of its own")
        return None
    found: dict[ChannelName, ChannelSettings] = {}
    variables: dict[str, str] = {}
    for name, values in given.items():
        channel = _channel(name, values, sections, problems)
        if channel is not None:
            found[ChannelName(name)] = channel
        other = variables.setdefault(name.replace("-", "_"), name)
        if other != name:
            problems.add_wrong(
                ("channels", name), None, f"differs from channels.{other} only by - and _; rename one"
            )
    return found if len(found) == len(given) == len(variables) else None


def _channel(name: str, values: object, sections: Sections, problems: Problems) -> ChannelSettings | None:
    place = ("channels", name)
    if what := name_problem(name):
        problems.add_wrong(place, None, what)
    elif not isinstance(values, Mapping):
        problems.add_wrong(place, values, "must be a section with keys of its own")
    elif wrong := marketplace_problem(name, values, sections):
        where, what = wrong
        problems.add_wrong((*place, *where), values.get("marketplace"), what)
    elif section := section_of(name, values, sections):
        try:
            return section.model_validate({**values, "marketplace": values.get("marketplace", name)})
        except ValidationError as error:
            problems.add_invalid(error, None, place)
    return None
