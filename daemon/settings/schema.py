"""The JSON Schema of all settings, made from the model itself."""

from typing import Any, Final

from pydantic import Field, create_model

from daemon.settings.channels import LONGEST_NAME, Sections
from daemon.settings.model import Settings
from daemon.settings.section import Section

CHANNELS: Final = """\
The channels, by the operator's names of them: each is one shop, or one account, at a marketplace. The name may be the
marketplace's own; with another name the channel says which one: `marketplace = "..."`. Names: lower-case letters and
digits, with - or _ between, at most 40 characters. In a variable and in a secrets file a - is written as _."""


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
