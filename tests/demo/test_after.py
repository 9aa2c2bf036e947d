"""What the demo says comes next, and who is notified meanwhile."""

import urllib.request
from asyncio import to_thread
from pathlib import Path

from daemon.demo.after import program_name
from daemon.demo.inbox import Inbox


def test_the_program_is_called_as_it_was_installed(tmp_path: Path) -> None:
    script = tmp_path / "a folder" / "bin" / "stockrelay"
    script.parent.mkdir(parents=True)
    python = str(script.with_name("python"))
    assert program_name(python, str(tmp_path), None).endswith("bin/python' -m daemon"), "there is no script"
    script.write_text("")
    script.chmod(0o755)
    assert program_name(python, "/nowhere", str(script)) == "stockrelay", "it is what the shell finds"
    assert program_name(python, "/nowhere", "/usr/bin/stockrelay") == f"'{script}'", "the shell finds another"
    assert program_name(python, str(tmp_path), None) == "'a folder/bin/stockrelay'"


async def test_the_demos_receiver_takes_notifications() -> None:
    async with Inbox() as inbox:
        url = inbox.url.replace("json:", "http:")
        request = urllib.request.Request(url, data=b'{"title": "x"}', method="POST")
        reply = await to_thread(urllib.request.urlopen, request, timeout=5)
        assert reply.status == 200
        reply.close()
        assert inbox.notifications == 1
