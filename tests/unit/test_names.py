"""Names are the field's: a class name means one thing, and words that only we would understand stay out."""

import ast
import re
from collections import Counter
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PRIVATE: Final = (
    "tenure", "shift", "manners", "heir", "farewell", "narration", "moments", "heeding", "partner", "partners",
    "untold", "is told", "are told", "so many", "deed", r"reckon\w*", "whose word", "what is so", "what was so",
    "turned over", "nobody foresaw", "whoever", "so often", "in turn with",
)  # fmt: skip
"""They stood for a lease, a dispatcher, limits, a successor, a zero for a SKU that left the listing, and so on."""
_WORDS: Final = re.compile(rf"\b({'|'.join(PRIVATE)})\b", re.IGNORECASE)


def _texts() -> dict[str, str]:
    kinds = [("daemon", "py"), ("daemon", "sql"), ("migrations", "py"), ("migrations", "sql"), ("docs", "md")]
    paths = [path for folder, kind in kinds for path in sorted((ROOT / folder).rglob(f"*.{kind}"))]
    return {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in [*paths, ROOT / "README.md"]}


def test_no_class_name_is_used_twice() -> None:
    names = Counter(
        node.name
        for path, text in _texts().items()
        if path.endswith(".py")
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ClassDef)
    )
    assert [name for name, times in names.items() if times > 1] == []


def test_private_words_stay_out() -> None:
    found = [
        f"{path}:{number}: {line.strip()}"
        for path, text in _texts().items()
        for number, line in enumerate(text.splitlines(), 1)
        if _WORDS.search(line)
    ]
    assert found == []
