"""The texts of the operators' page, in each language, and which language a browser wants."""

from collections.abc import Mapping
from typing import Final, Literal

from daemon.core.page_words import actions_en, actions_zh, en, zh

Language = Literal["en", "zh"]
LANGUAGES: Final[Mapping[Language, str]] = {"en": "English", "zh": "中文"}
"""Each by its own name."""
TABLES: Final[Mapping[Language, Mapping[str, str]]] = {
    "en": en.WORDS | actions_en.WORDS,
    "zh": zh.WORDS | actions_zh.WORDS,
}
HTML_CODES: Final[Mapping[Language, str]] = {"en": "en", "zh": "zh-Hans"}


def known_language(name: str | None) -> Language | None:
    """Return the language of that code, if there is one."""
    return next((one for one in LANGUAGES if one == name), None)


def accepted_language(header: str) -> Language:
    """Return the language that an Accept-Language header ranks first among ours; English where it names neither."""
    ranked: list[tuple[float, int, Language]] = []
    for place, part in enumerate(header[:1000].split(",")):
        name, _, weight = part.strip().partition(";")
        language = known_language(name.strip().lower().partition("-")[0])
        if language is not None:
            ranked.append((-_weight(weight), place, language))
    return min(ranked)[2] if ranked else "en"


def _weight(text: str) -> float:
    try:
        return float(text.strip().removeprefix("q=")) if text.strip() else 1.0
    except ValueError:
        return 0.0
