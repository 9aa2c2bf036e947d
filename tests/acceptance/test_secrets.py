"""Secrets are planted wherever one can be set, and all that comes out is searched for them, however they are written.

The real daemon and every command, through success and failure: logs at debug, console and JSON, standard error, the ops
port, the process list, and a dump of the database.
"""

import asyncio
import base64
import contextlib
import json
import os
import signal
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import psutil
import pytest
from cryptography.fernet import Fernet

from daemon.cli import invoke
from daemon.simulator.marketplaces.ymatou.settings import YmatouShop
from tests.acceptance import planted
from tests.acceptance.harness import LISTINGS, SETTINGS, Stage
from tests.acceptance.planted import (
    ACCOUNT,
    ALL,
    DATABASE,
    HEADER,
    KEY,
    LISTENER,
    PASSWORD,
    RECEIVER,
    ROBOT,
    SHOP,
    SIGNER,
    TOKEN,
    Planting,
    Source,
    Sweep,
    dsn,
    receiver_urls,
)
from tests.acceptance.replica import Done, Replica, command, environment
from tests.channels import SEKORM, YMATOU
from tests.marketplaces.authority import Authority
from tests.marketplaces.scripted import Request, Scripted, wire
from tests.notify.inbox import Inbox, inbox

ANSWERS: Final = (
    ("check",),
    ("status", "--json"),
    ("explain", "SKU-1"),
    ("attempts", "--json"),
    ("parked", "list"),
    ("reconcile", "--dry-run"),
    ("reconcile",),
    ("sync", "ymatou", "--dry-run"),
    ("notify", "test"),
)
OTHERS: Final = (
    ("check", "--json"),
    ("status",),
    ("explain", "no such SKU"),
    ("config", "schema"),
    ("pause", "ymatou", "--reason", "why"),
    ("resume", "ymatou"),
    ("release", "ymatou"),
    ("migrate",),
    ("migrate", "--sql"),
    ("health",),
)
NOTICE: Final = (
    "INSERT INTO stockrelay.notice (kind, key, channel, data) VALUES ('guard_released', $1, 'sekorm', '{}')"
)


@dataclass
class World:
    """A stage whose settings are planted."""

    stage: Stage
    folder: Path
    box: Inbox
    sweep: Sweep = field(default_factory=Sweep)
    variables: dict[str, str] = field(default_factory=dict)
    port: int = 0
    replicas: list[Replica] = field(default_factory=list)

    @property
    def secrets(self) -> dict[str, Any]:
        server, name = self.stage.database.server, self.stage.database.name
        return {
            "database.dsn": dsn(server.port, name, f"{name}_one", DATABASE),
            "database.listen_dsn": dsn(server.port, name, f"{name}_two", LISTENER),
            "channels.sekorm.account": ACCOUNT,
            "channels.sekorm.app_secret": PASSWORD,
            "channels.sekorm.token_key": KEY,
            "channels.ymatou.app_secret": SIGNER,
            "channels.ymatou.auth_code": SHOP,
            "notify.urls": receiver_urls(self.box.port),
        }

    async def prepare(self) -> None:
        """Make the roles, and marketplaces that know the same secrets."""
        stage = self.stage
        for role, password in (("one", DATABASE), ("two", LISTENER)):
            name = f"{stage.database.name}_{role}"
            await stage.erp.execute(f"CREATE ROLE \"{name}\" LOGIN SUPERUSER PASSWORD '{password}'")
        stage.marketplaces = stage.marketplaces.changed(SEKORM, account=ACCOUNT, app_secret=PASSWORD).changed(
            YMATOU, app_secret=SIGNER, auth_code=SHOP
        )
        stage.simulator.configure(stage.marketplaces)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def plant(self, source: Source, without: tuple[str, ...] = (), **settings: Mapping[str, Any]) -> None:
        """Write the configuration; `settings` go over the usual ones, section by section."""
        url, common = self.stage.simulator.url, dict(SETTINGS["channel"])
        usual: dict[str, dict[str, Any]] = {
            "[watch]": {"table": "erp.stock", "sku": "sku"},
            **{name: dict(SETTINGS[name]) for name in ("database", "debounce", "run", "guard")},
            "notify": {"gather_s": 0, "timeout_s": 5, "retry_s": 0.2, "retry_most_s": 0.5},
            "reconcile": {"enabled": False, "settle_s": 0.1, "patience_s": 1, "give_up_s": 3, "rate_per_s": 1000},
            "log": {"level": "debug", "format": "json"},
            "ops": {"port": self.port},
            "channels.sekorm": {"base_url": f"{url}/serviceGate", "listing": LISTINGS[SEKORM], **common},
            "channels.ymatou": {
                "base_url": url, "app_id": self.stage.marketplaces.of(YmatouShop).app_id,
                "listing": LISTINGS[YMATOU], **common,
            },
        }  # fmt: skip
        for name, values in settings.items():
            section = name.replace("__", ".")
            usual[section] = {**usual[section], **values}
        secrets = {name: secret for name, secret in self.secrets.items() if name not in without}
        self.variables = Planting(self.folder, source, secrets).plant(usual)

    async def run(self, *words: str) -> Done:
        """Run one command; keep what it says."""
        done = await command(self.stage.config, *words, **self.variables)
        self.sweep.add(" ".join(words), done.out + done.err)
        assert "Traceback" not in done.out + done.err, done
        return done

    async def start(self) -> Replica:
        """Start a daemon; it is ended with the test."""
        folder = self.folder / f"replica-{len(self.replicas)}"
        folder.mkdir()
        replica = Replica(folder.name, self.stage.config, folder, **self.variables)
        # Its command line is looked at.
        replica.is_forked = False
        self.replicas.append(replica)
        await replica.start()
        return replica

    async def stopped(self, replica: Replica, *, code: int | None = 0) -> None:
        """Stop a daemon; keep all that it wrote."""
        if replica.is_running:
            assert await replica.stop() == code, replica.tail()
        await replica.close()
        self.sweep.add("log", replica.text())

    async def look_at(self, replica: Replica) -> None:
        """Look at the running daemon from outside: its ports and its process."""
        for page in ("livez", "readyz", "metrics", "status", "no-such-page"):
            self.sweep.add(f"/{page}", await asyncio.to_thread(_page, self.port, page))
        process = psutil.Process(replica.pid)
        self.sweep.add("process list", " ".join(process.cmdline()) + process.name())
        assert process.children(recursive=True) == [], "a child would inherit the environment"

    async def dump(self) -> None:
        """Keep all that stands in the database, and what the server wrote into its log."""
        server = self.stage.database.server
        dumping = [str(server.bin_dir / "pg_dump"), "--inserts", self.stage.database.dsn]
        process = await asyncio.create_subprocess_exec(*dumping, stdout=asyncio.subprocess.PIPE)
        async with asyncio.timeout(60):
            out, _ = await process.communicate()
        text = out.decode()
        assert "INSERT INTO stockrelay.ledger" in text
        self.sweep.add("dump", text)
        self.sweep.add("server log", server.log_tail())


def _page(port: int, page: str) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}", timeout=20) as answer:
            return f"{answer.headers}{answer.read().decode()}"
    except urllib.error.HTTPError as error:
        with error:
            return str(error.headers) + error.read().decode()


@pytest.fixture
async def world(stage18: Stage, tmp_path: Path) -> AsyncIterator[World]:
    async with inbox() as box:
        world = World(stage18, tmp_path, box)
        await world.prepare()
        yield world
        for replica in world.replicas:
            await replica.close()


def test_the_sweep_finds_every_secret_in_every_form() -> None:
    for secret in ALL:
        for look in planted.forms(secret):
            sweep = Sweep()
            sweep.add("x", f"before{look}after")
            assert len(list(sweep.leaks())) >= 1, look
    text = base64.b64encode(b"1" + DATABASE.encode() + b"22").decode()
    sweep = Sweep()
    sweep.add("x", text)
    assert list(sweep.leaks())
    assert not list(sweep.leaks({"x": [DATABASE]}))


@pytest.mark.parametrize(
    ("source", "form", "has_key"),
    [("file", "json", False), ("folder", "console", True), ("environment", "json", True)],
)
async def test_where_all_is_well_no_secret_comes_out(
    world: World, source: Source, form: str, *, has_key: bool
) -> None:
    stage = world.stage
    without = () if has_key else ("channels.sekorm.token_key",)
    world.plant(source, without, log={"level": "debug", "format": form})
    await stage.fill(30)
    await world.run("migrate")
    replica = await world.start()
    await stage.converged()
    await stage.erp.execute("UPDATE erp.stock SET on_hand = on_hand + 1")
    await stage.erp.execute(NOTICE, "test:1")
    await world.box.has(2)
    await stage.converged()
    await world.look_at(replica)
    for words in (*ANSWERS, *OTHERS) if source == "file" else ANSWERS[:2]:
        done = await world.run(*words)
        assert done.code == (1 if words == ("explain", "no such SKU") else 0), done
    for words in (("config", "show"), ("config", "show", "--json")):
        assert "[masked]" in (await world.run(*words)).out
    await world.stopped(replica)
    await world.dump()
    kept = await stage.erp.fetchval("SELECT value FROM stockrelay.token")
    token = Fernet(KEY).decrypt(kept.removeprefix("fernet:")).decode() if has_key else kept
    assert kept.startswith("fernet:") is has_key
    assert not any(
        token in text
        for where, text in world.sweep.outputs.items()
        if has_key or not where.startswith("dump")
    ), "the access token"
    assert list(world.sweep.leaks()) == []


SOME: Final = 8
"""Requests that are waited for: a trouble makes the daemon pause. All answers are tried in tests/marketplaces."""


class Parrot:
    """A marketplace that quotes what it was sent, now and before, in every part of an answer and with every code."""

    def __init__(self, *known: str, grants: bool) -> None:
        self._known = known
        self._grants = grants
        self._number = 0

    async def answer(self, request: Request, writer: asyncio.StreamWriter) -> None:
        """One answer of each kind in turn."""
        if self._grants and "getAccessToken" in request.line:
            self._grants = False
            writer.write(wire(json.dumps(GRANT).encode()))
            return
        body = request.body.decode()
        if "token" in body:
            self._known = (*self._known[:2], *([TOKEN] if quote(TOKEN, safe="") in body else []), body)
        said = [*self._known, request.line, body, *request.headers.values()]
        said += [quote(word, safe="") for word in said] + [
            base64.b64encode(word.encode()).decode() for word in said
        ]
        answers = list(_answers(" ".join(said)))
        writer.write(answers[self._number % len(answers)])
        self._number += 1


GRANT: Final = {"code": 0, "msg": "ok", "data": {"accessToken": TOKEN, "expiresIn": 3600}}


def _answers(words: str) -> Iterator[bytes]:
    line = words.replace("é", "e")
    for body in (
        {"code": -1, "msg": words},
        {"code": "0001", "message": words, "content": words},
        {"code": "0000", "content": {"results": [{"outer_sku_id": "SKU-1", "success": False, "msg": words}]}},
        {"code": 0, "msg": words, "data": words},
        {"code": "0100", "message": words},
        {"code": -1, "msg": "no permission", "data": words},
        {"code": "0004", "message": words},
    ):
        yield wire(json.dumps(body).encode())
        yield wire(json.dumps(body, ensure_ascii=False).replace("/", "\\/").encode())
    yield wire(words.encode())
    yield wire(b"{}", "200 " + line[:2000])
    yield wire(b"{}", "500 " + line[:2000], Retry_After=line[:500], Date=line[:500])
    yield wire(b"{}", "302 Found", Location=f"http://127.0.0.1:1/?{line[:2000]}")
    yield wire(b"{}", X_Echo=line + "x" * 20_000)
    yield f"HTTP/1.1 {line}\r\n\r\n".encode()
    yield line.encode() + b"\r\n\r\n"


@pytest.mark.timeout(240)
async def test_what_marketplaces_and_receivers_quote_does_not_come_out(world: World) -> None:
    stage = world.stage
    world.box.answer = (500, {"quoted": [*ALL, base64.b64encode(RECEIVER.encode()).decode()]})
    async with (
        Scripted(Parrot(ACCOUNT, PASSWORD, grants=True).answer) as sekorm,
        Scripted(Parrot(SIGNER, SHOP, grants=False).answer) as ymatou,
    ):
        fast = {"rate_per_s": 500, "timeout_s": 0.5, "settle_s": 3, "park_after": 2, "concurrency": 4}
        world.plant(
            "folder",
            ("channels.sekorm.token_key",),
            channels__sekorm={"base_url": f"{sekorm.url}/serviceGate", **fast},
            channels__ymatou={"base_url": ymatou.url, **fast},
        )
        await stage.fill(60)
        await world.run("migrate")
        replica = await world.start()
        for server in (sekorm, ymatou):
            await replica.wait_until(lambda s=server: len(s.requests) >= SOME, "answers of some kinds", 90)  # type: ignore[misc]
        await stage.erp.execute(NOTICE, "test:1")
        await replica.wait_for("notify.delivery_failed", timeout=60)
        await world.look_at(replica)
        for words in ANSWERS:
            await world.run(*words)
        await world.stopped(replica)
        await world.dump()
        sent = b" ".join(request.body for server in (sekorm, ymatou) for request in server.requests).decode()
        lines = " ".join(request.line for server in (sekorm, ymatou) for request in server.requests)
    assert all(quote(secret, safe="") in sent for secret in (ACCOUNT, PASSWORD, TOKEN)), (
        "the marketplace was told"
    )
    world.sweep.add("addresses", lines)
    assert "[masked]" in "".join(
        text for where, text in world.sweep.outputs.items() if where.startswith("dump")
    )
    # Without a token_key, the token stands in the database as it is: that is the operator's choice.
    assert list(world.sweep.leaks({"dump": [TOKEN]})) == []
    dump = next(text for where, text in world.sweep.outputs.items() if where.startswith("dump"))
    assert [
        line for line in dump.splitlines() if TOKEN in line and "INTO stockrelay.token " not in line
    ] == []


async def test_what_cannot_be_reached_is_told_without_secrets(world: World, tmp_path: Path) -> None:
    stage, server = world.stage, world.stage.database.server
    await stage.fill(5)
    world.plant("file")
    await world.run("migrate")
    hba = server.data_dir / "pg_hba.conf"
    before = hba.read_text()
    refusing = f"host all {stage.database.name}_one 127.0.0.1/32 scram-sha-256\n"
    name, port = stage.database.name, server.port
    wrong = {
        "refused": dsn(port, name, f"{name}_one", ROBOT),
        "unknown host": f"postgresql://x:{quote(DATABASE, safe='')}@no-such-host.invalid/{name}",
        "nobody there": dsn(1, name, "x", DATABASE),
        "no TLS": dsn(port, name, f"{name}_one", DATABASE, "?sslmode=require"),
        "no such file": dsn(port, name, "x", DATABASE, f"?sslmode=verify-full&sslrootcert=/x&sslpassword={HEADER}"),
        "not a parameter": dsn(port, name, "x", DATABASE, f"?passfile=/x&password={HEADER}"),
    }  # fmt: skip
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    async with Scripted(Parrot(*ALL, grants=False).answer, tls=authority.server()) as marketplace:
        world.box.answer = (401, {"quoted": ALL})
        unreachable: dict[str, Any] = {
            "channels__sekorm": {"base_url": f"{marketplace.url}/serviceGate", "ca_file": str(other.file)},
            "channels__ymatou": {"base_url": "https://127.0.0.1:1"},
        }
        world.plant("environment", **unreachable)
        for words in (
            ("check",),
            ("reconcile", "--dry-run"),
            ("notify", "test"),
            ("sync", "sekorm", "--dry-run"),
        ):
            await world.run(*words)
        assert "not trusted" in next(
            text for where, text in world.sweep.outputs.items() if where.startswith("check")
        )
        hba.write_text(refusing + before)
        try:
            await stage.erp.execute("SELECT pg_reload_conf()")
            for address in wrong.values():
                world.plant("environment", ("database.listen_dsn",), **unreachable)
                world.variables["STOCKRELAY_DATABASE__DSN"] = address
                done = await world.run("check" if address == wrong["refused"] else "migrate")
                assert done.code != 0, done
                replica = await world.start()
                await _said(replica)
                await world.stopped(replica)
        finally:
            hba.write_text(before)
            await stage.erp.execute("SELECT pg_reload_conf()")
    assert "password" in "".join(world.sweep.outputs.values()), "the password was refused"
    assert list(world.sweep.leaks()) == []


async def _said(replica: Replica) -> None:
    """Wait until a daemon without a database has ended, or has said that it waits."""
    async with asyncio.timeout(30):
        while replica.is_running and not replica.find("run.database_awaited"):  # noqa: ASYNC110 - its log
            await asyncio.sleep(0.02)


WRONG: Final[Mapping[str, Mapping[str, Any]]] = {
    "a string": {"database.dsn": DATABASE},
    "another database": {"database.dsn": f"mysql://x:{quote(DATABASE, safe='')}@h/d"},
    "not encoded": {"database.dsn": f"postgresql://x:{DATABASE}@h/d"},
    "a bad port": {"database.dsn": f"postgresql://x:{quote(DATABASE, safe='')}@h:port/d"},
    "a fragment": {"database.listen_dsn": f"postgresql://x:a#{DATABASE}@h/d"},
    "a number": {"channels.sekorm.app_secret": 7, "channels.ymatou.app_secret": SIGNER},
    "a list": {"channels.sekorm.app_secret": [PASSWORD]},
    "a line break": {"channels.sekorm.app_secret": f"{PASSWORD}\n", "channels.ymatou.auth_code": f" {SHOP}"},
    "no key": {"channels.sekorm.token_key": PASSWORD},
    "in the URL": {"channels.ymatou.base_url": f"https://x:{quote(SIGNER, safe='')}@h/"},
    "in the URL's query": {"channels.ymatou.base_url": f"https://h/?key={quote(SIGNER, safe='')}"},
    "in another's place": {"channels.ymatou.base_url": SIGNER, "log.level": SIGNER},
    "no receiver": {"notify.urls": [f"nosuch://{RECEIVER}@{ROBOT}"]},
    "half a receiver": {"notify.urls": [f"dingtalk://{ROBOT}@"]},
    "not a list": {"notify.urls": f"json://x:{HEADER}@h/{ROBOT}"},
    "a table": {"channels.sekorm.account": {"value": ACCOUNT}},
    "no such key": {"channels.sekorm.app_secrett": PASSWORD, "channels.sekorm.token": TOKEN},
}  # fmt: skip


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> "Told":
    return Told(tmp_path, monkeypatch, capfd)


@dataclass
class Told:
    """What a command says of settings, in this process: there are many to try."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch
    capfd: pytest.CaptureFixture[str]
    sweep: Sweep = field(default_factory=Sweep)

    def run(self, variables: Mapping[str, str]) -> int:
        with self.monkeypatch.context() as environ:
            for name, value in variables.items():
                environ.setenv(name, value)
            code = invoke(["--config", str(self.folder / "config.toml"), "config", "show"])
        out, err = self.capfd.readouterr()
        self.sweep.add("config show", out + err)
        assert "Traceback" not in out + err
        return code


RIGHT: Final[Mapping[str, Any]] = {
    "database.dsn": dsn(5432, "d", "u", DATABASE),
    "channels.sekorm.account": ACCOUNT,
    "channels.sekorm.app_secret": PASSWORD,
    "channels.sekorm.token_key": KEY,
    "channels.ymatou.app_id": "x",
    "channels.ymatou.app_secret": SIGNER,
    "channels.ymatou.auth_code": SHOP,
    "notify.urls": receiver_urls(8080),
}
SECTIONS: Final = {
    "[watch]": {"table": "a", "sku": "b"},
    "channels.sekorm": {"listing": "SELECT 1"},
    "channels.ymatou": {"listing": "SELECT 1"},
}


@pytest.mark.parametrize("source", ["file", "environment", "folder"])
@pytest.mark.parametrize("wrong", [None, *WRONG])
def test_a_configuration_that_is_wrong_is_told_without_secrets(
    told: Told, source: Source, wrong: str | None
) -> None:
    given = {**RIGHT, **(WRONG[wrong] if wrong else {})}
    code = told.run(Planting(told.folder, source, given).plant(SECTIONS))
    # What is no text in TOML is one in a variable or a file, and a line break at a file's end is none.
    is_text_elsewhere = wrong in {"a number", "a list", "a table"} and source != "file"
    assert code == (78 if wrong else 0) or is_text_elsewhere
    assert list(told.sweep.leaks()) == []


def test_a_file_that_is_not_toml_or_not_text_is_told_without_secrets(told: Told) -> None:
    file = told.folder / "config.toml"
    Planting(told.folder, "file", RIGHT).plant(SECTIONS)
    whole = file.read_text("utf-8")
    line = next(row for row in whole.splitlines() if row.startswith("app_secret"))
    for broken in (
        f"app_secret = {PASSWORD}",
        f'app_secret = "{PASSWORD}',
        f"app_secret = '''{PASSWORD}",
        f"{line}\n{line}",
        f"{line} {PASSWORD}",
        f"app_secret {PASSWORD}",
        f"[{PASSWORD}]\n{line}",
        f'{line}\n"{PASSWORD}" = 1',
    ):
        file.write_text(whole.replace(line, broken), "utf-8")
        assert told.run({}) == 78
    file.write_bytes(whole.encode("utf-16"))
    assert told.run({}) == 78
    assert list(told.sweep.leaks()) == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("channels__sekorm__app_secret", PASSWORD.encode("latin-1")),
        ("channels__sekorm__app_secret", (PASSWORD * 9000).encode()),
        ("notify__urls", f'["json://x:{HEADER}@h/{ROBOT}"'.encode()),
        ("channels__sekorm__secret", PASSWORD.encode()),
        ("Channels__sekorm__account", ACCOUNT.encode()),
    ],
)
def test_a_secrets_file_that_is_wrong_is_told_without_secrets(told: Told, name: str, content: bytes) -> None:
    variables = Planting(told.folder, "folder", RIGHT).plant(SECTIONS)
    told.folder.joinpath("secrets", name).write_bytes(content)
    assert told.run(variables) == 78
    assert list(told.sweep.leaks()) == []


# What cannot be brought about from outside: an error that nobody foresaw, and a message that quotes all it can.
BROKEN: Final = """
import asyncio, sys
from daemon.app import configuration as module
from daemon.store import outbox
from daemon.store.ledger import ledger
from daemon.__main__ import main

load = module.load
def quoting(*arguments):
    settings = load(*arguments)
    if {where!r} == "load":
        raise RuntimeError(quote(settings))
    async def failing(*_arguments, **_named):
        raise RuntimeError(quote(settings))
    def raising(*_arguments, **_named):
        raise RuntimeError(quote(settings))
    if {where!r} == "ledger":
        ledger.Ledger.backlog = failing
    if {where!r} == "callback":
        outbox.Outbox.take = lambda *a, **n: asyncio.get_running_loop().call_soon(raising) and failing()
    return settings
def quote(settings):
    import base64, json, urllib.parse
    words = [*settings.secrets(), repr(settings.secrets()), json.dumps(settings.secrets())]
    words += [base64.b64encode(word.encode()).decode() for word in words]
    words += [urllib.parse.quote(word) for word in words]
    return chr(10).join(words)
module.load = quoting
sys.argv = ["stockrelay", *{words!r}]
main()
"""


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("load", ("run",)),
        ("ledger", ("status",)),
        ("ledger", ("run",)),
        ("callback", ("run",)),
    ],
)
async def test_an_error_that_nobody_foresaw_is_told_without_secrets(
    world: World, where: str, words: tuple[str, ...]
) -> None:
    world.plant("environment", run={"heartbeat_s": 0.2, "lease_s": 2, "poll_s": 0.2})
    await world.run("migrate")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-c", BROKEN.format(where=where, words=words),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        cwd=world.folder, env=environment(**world.variables),
    )  # fmt: skip
    told = [b"", b""]
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with asyncio.timeout(40):
            while b"RuntimeError" not in told[0] + told[1]:
                told[0] += await process.stdout.read(65_536) if words == ("run",) else b""
                told[1] += b"" if words == ("run",) else await process.stderr.read(65_536)
                if process.stdout.at_eof() or process.stderr.at_eof():
                    told[1] += await process.stderr.read()
                    break
            if process.returncode is None and words == ("run",):
                # It may have ended by itself a moment ago.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGTERM)
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    text = (told[0] + told[1] + out + err).decode()
    world.sweep.add("broken", text)
    assert "RuntimeError" in text
    assert list(world.sweep.leaks()) == []
