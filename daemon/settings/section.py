"""What every section of the configuration is."""

from pydantic import BaseModel, ConfigDict

Place = tuple[str | int, ...]


class Contradiction(ValueError):
    """Values that cannot stand together: `problems` are (place in the section, what is wrong)."""

    def __init__(self, problems: list[tuple[Place, str]]) -> None:
        super().__init__("; ".join(f"{place}: {what}" for place, what in problems))
        self.problems = problems


class Section(BaseModel):
    """Some keys; unknown ones are refused, and values never stand in an error."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True
    )
