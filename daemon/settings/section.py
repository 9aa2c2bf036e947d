"""What every section of the configuration is."""

from datetime import timedelta

from pydantic import BaseModel, ConfigDict

Place = tuple[str | int, ...]


class Contradiction(ValueError):
    """Values that contradict each other: `problems` are (place in the section, what is wrong)."""

    def __init__(self, problems: list[tuple[Place, str]]) -> None:
        super().__init__("; ".join(f"{place}: {what}" for place, what in problems))
        self.problems = problems


class Duration:
    """The setting of the same name and `_s` as a timedelta."""

    def __set_name__(self, _owner: type[BaseModel], name: str) -> None:
        self._key = f"{name}_s"

    def __get__(self, section: BaseModel, _owner: type[BaseModel]) -> timedelta:
        return timedelta(seconds=getattr(section, self._key))


class Section(BaseModel):
    """Some keys; unknown ones are refused, and no error shows a value."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
        ignored_types=(Duration,),
    )
