"""Reads each channel by the section of its marketplace."""

from collections.abc import Mapping

from pydantic import ValidationError

from daemon.core.types import ChannelName
from daemon.settings.channels import ChannelSettings, Sections, marketplace_problem, name_problem, section_of
from daemon.settings.problems import Problems


def read_channels(
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
