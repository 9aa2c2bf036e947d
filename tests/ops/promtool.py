"""promtool, from this machine or from Debian's package `prometheus`: fetched once, without root, into build/."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
CACHE: Final = ROOT / "build" / "promtool"
_TIMEOUT_S: Final = 100


def promtool() -> Path:
    """Return where it is; skips the test where there is neither promtool nor apt."""
    found = shutil.which("promtool")
    if found is not None:
        return Path(found)
    if not (CACHE / "promtool").exists():
        if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
            pytest.skip("no promtool on this machine, and no apt-get to fetch it with: install prometheus")
        _fetch()
    return CACHE / "promtool"


def _fetch() -> None:
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="fetching-") as name:
        folder = Path(name)
        done = _apt(folder, "download", "prometheus")
        if done.returncode != 0:
            # A machine whose lists are empty: fetch lists of our own, as they are not ours to change.
            own = _own_lists(folder)
            _apt(folder, *own, "update", is_needed=True)
            _apt(folder, *own, "download", "prometheus", is_needed=True)
        (package,) = folder.glob("prometheus_*.deb")
        subprocess.run(["dpkg-deb", "-x", package, folder / "x"], check=True, timeout=_TIMEOUT_S)
        (folder / "x" / "usr" / "bin" / "promtool").replace(CACHE / "promtool")


def _own_lists(folder: Path) -> list[str]:
    for part in ("lists/partial", "cache/archives/partial"):
        (folder / part).mkdir(parents=True)
    return [f"-oDir::State::lists={folder}/lists", f"-oDir::Cache={folder}/cache"]


def _apt(folder: Path, *words: str, is_needed: bool = False) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        ["apt-get", "-q", "-oAPT::Sandbox::User=", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )
    assert not is_needed or done.returncode == 0, (
        f"apt-get {words[-1]} failed; install promtool (Debian's package prometheus), or see to it that apt works:\n"
        f"{done.stderr}"
    )
    return done


def run(*words: str | Path) -> None:
    """Run promtool; what it complains of fails the test."""
    done = subprocess.run(
        [promtool(), *words], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
