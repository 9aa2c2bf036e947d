"""Runs an image that buildah knows as Kubernetes would: its own user, no capability, a root file system to read only.

Stricter than any deployment: there is no writable folder at all, not even /tmp. The network is this machine's.
"""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

from tests.acceptance.replica import Done, Replica

_TIMEOUT_S: Final = 120
_POLICY: Final = {"default": [{"type": "insecureAcceptAnything"}]}
# crun refuses a machine that has both versions of cgroups; in a mount namespace of its own it sees one.
_START: Final = """
if [ -d /sys/fs/cgroup/unified ]; then
    umount --lazy --recursive /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup
fi
exec "$@"
"""


def _output(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
    return done.stdout.strip()


class Image:
    """An image, unpacked. A context manager: what was unpacked is removed at the end."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self._container = ""
        self.root = Path()
        self.config: dict[str, Any] = {}

    def __enter__(self) -> Self:
        policy = self.folder / "policy.json"
        policy.write_text(json.dumps(_POLICY), "utf-8")
        self._container = _output("buildah", "from", "--signature-policy", str(policy), self.name)
        self.root = Path(_output("buildah", "mount", self._container))
        inspected = json.loads(_output("buildah", "inspect", "--type", "image", self.name))
        self.config = inspected["OCIv1"]["config"]
        return self

    def __exit__(self, *_: object) -> None:
        _output("buildah", "umount", self._container)
        _output("buildah", "rm", self._container)

    def command(self, name: str, words: Sequence[str], files: Mapping[str, Path]) -> list[str]:
        """The command line that runs the image's program with `words`; `files` are mounted, to be read only."""
        bundle = self.folder / name
        bundle.mkdir()
        spec = self._spec(words, files)
        (bundle / "config.json").write_text(json.dumps(spec), "utf-8")
        crun = ["crun", "--cgroup-manager=disabled", f"--root={self.folder / 'state'}"]
        run = [*crun, "run", f"--bundle={bundle}", name]
        return ["unshare", "--mount", "--propagation=private", "sh", "-ec", _START, "sh", *run]

    def delete(self, name: str) -> None:
        """End a container that is still there."""
        words = ["crun", "--cgroup-manager=disabled", f"--root={self.folder / 'state'}"]
        subprocess.run([*words, "delete", "--force", name], check=False, capture_output=True)

    def run(self, name: str, *words: str, files: Mapping[str, Path] | None = None) -> Done:
        """Run one command to its end."""
        command = self.command(name, words, files or {})
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
        finally:
            self.delete(name)
        return Done(done.returncode, done.stdout, done.stderr)

    def _spec(self, words: Sequence[str], files: Mapping[str, Path]) -> dict[str, Any]:
        user, group = map(int, self.config["User"].split(":"))
        sets = ("bounding", "effective", "inheritable", "permitted", "ambient")
        return {
            "ociVersion": "1.0.0",
            "root": {"path": str(self.root), "readonly": True},
            "process": {
                "args": [*self.config["Entrypoint"], *words],
                "env": self.config["Env"],
                "cwd": self.config.get("WorkingDir") or "/",
                "user": {"uid": user, "gid": group},
                "capabilities": {name: [] for name in sets},
                "noNewPrivileges": True,
            },
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {
                    "destination": "/dev",
                    "type": "tmpfs",
                    "source": "tmpfs",
                    "options": ["nosuid", "mode=755", "size=64k"],
                },
                *(
                    {"destination": place, "type": "bind", "source": str(file), "options": ["bind", "ro"]}
                    for place, file in files.items()
                ),
            ],
            "linux": {"namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")]},
        }


class Contained(Replica):
    """`run` in a container, with the log of it."""

    def __init__(
        self, image: Image, name: str, config: Path, folder: Path, files: Mapping[str, Path]
    ) -> None:
        super().__init__(name, config, folder)
        self._image = image
        self._files = files

    is_forked = False

    def words(self) -> list[str]:
        return self._image.command(self.name, ["run"], self._files)

    async def close(self) -> None:
        self._image.delete(self.name)
        await super().close()
