"""A daemon with faults that can be switched on and off, in code that no marketplace or database can make fail."""

from pathlib import Path
from typing import Final

from tests.acceptance.forked import FAULTS
from tests.acceptance.replica import Replica

# Each of these raises while there is a file of its name; what serves both channels does so for Ymatou alone, which is
# an attribute of the object or the first argument.
_METHODS: Final = {
    "YmatouClient.push": "daemon.marketplaces.ymatou.client",
    "SekormClient._fetch_token": "daemon.marketplaces.sekorm.client",
    "Guard.state": "daemon.store.guard",
    "Ledger.claim": "daemon.store.ledger.ledger",
    "Intake.drain": "daemon.store.intake",
}
_CODE: Final = """
import importlib, os, pathlib
from daemon.core import breaker

here = pathlib.Path(__file__).parent

def faulty(of, name):
    real, file = getattr(of, name), here / f"{of.__name__}.{name}"
    async def method(self, *words, **named):
        of_sekorm = "sekorm" in (getattr(self, "channel", None), *words[:1]) and "Client" not in of.__name__
        if file.exists() and not of_sekorm:
            raise RuntimeError(f"a bug in {file.name}, near {getattr(self, '_settings', None)!r} " + file.read_text())
        return await real(self, *words, **named)
    setattr(of, name, method)

for name, module in @methods@.items():
    of, method = name.split(".")
    faulty(getattr(importlib.import_module(module), of), method)
# What an operator mends is tried again after half a minute; a test does not wait that long.
breaker._NEEDS_OPERATOR = breaker._WAITS[None]
"""


class FaultyReplica(Replica):
    """The daemon as it is, with the methods above made faulty before it begins."""

    def __init__(self, config: Path, folder: Path) -> None:
        code = folder / "faults.py"
        code.write_text(_CODE.replace("@methods@", repr(_METHODS)), "utf-8")
        super().__init__("faulty", config, folder, **{FAULTS: str(code)})
        self._folder = folder

    def break_(self, method: str, words: str = "") -> None:
        """Have the method raise an error with these words in its message from now on."""
        assert method in _METHODS
        (self._folder / method).write_text(words, "utf-8")

    def mend(self, method: str) -> None:
        """Let it work again."""
        (self._folder / method).unlink()
