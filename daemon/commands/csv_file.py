"""CSV files (RFC 4180, UTF-8) that a spreadsheet can open without running what the ERP's data says."""

import csv
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

from daemon.core.errors import StockrelayError

_FORMULA: Final = re.compile(r"[=+@\t\r-]")
_NUMBER: Final = re.compile(r"-\d+(\.\d+)?")


class CsvFile:
    """A file with these columns, which is written as a context. Raises StockrelayError."""

    def __init__(self, file: Path, columns: Sequence[str]) -> None:
        self._file = file
        with self._failing():
            self._stream = file.open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._stream)
        self.write(columns)

    def write(self, row: Sequence[object]) -> None:
        """Write one row."""
        with self._failing():
            self._writer.writerow([cell(value) for value in row])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._failing():
            self._stream.close()

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StockrelayError(f"cannot write {self._file}: {error.strerror}") from error


def cell(value: object) -> object:
    """Return a value as a spreadsheet may read it: with an apostrophe before what it would take for a formula."""
    if isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value
