"""The example of deploy/compose without the containers: a server filled as its database is, and its configuration."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from daemon.demo.postgres import PostgresServer
from daemon.simulator import Simulator
from tests.deploy.manifests import DEPLOY

FOLDER: Final = DEPLOY / "compose"
SERVICES: Final[dict[str, dict[str, Any]]] = yaml.safe_load((FOLDER / "compose.yaml").read_text("utf-8"))[
    "services"
]
SECRETS: Final = FOLDER / "secrets"
NETWORK: Final = "host all stockrelay,stockrelay_owner 127.0.0.1/32 scram-sha-256\n"


@pytest.fixture
def example() -> Iterator[PostgresServer]:
    """A server of its own, as roles are the server's: filled by the files that are mounted, in their order."""
    with PostgresServer() as server:
        server.run_sql("CREATE DATABASE erp")
        mounted = [
            volume.split(":")
            for volume in SERVICES["db"]["volumes"]
            if "/docker-entrypoint-initdb.d/" in volume
        ]
        for name, _, _ in sorted(mounted, key=lambda parts: parts[1]):
            file = (FOLDER / name).resolve()
            if file.suffix == ".sql":
                server.run_sql(file.read_text("utf-8"), "erp")
            else:
                run_script(file, server)
        rules = server.data_dir / "pg_hba.conf"
        rules.write_text(NETWORK + rules.read_text("utf-8"), "utf-8")
        server.run_sql("SELECT pg_reload_conf()")
        yield server


def run_script(file: Path, server: PostgresServer) -> None:
    """Run a script of the database's first start, with what the image gives it."""
    environment = {
        **os.environ,
        "PATH": f"{server.bin_dir}:{os.environ['PATH']}",
        "PGHOST": "127.0.0.1",
        "PGPORT": str(server.port),
        "POSTGRES_USER": "postgres",
        "POSTGRES_DB": "erp",
        "SECRETS": str(SECRETS),
        "ROLES": str(DEPLOY / "roles.sql"),
    }
    subprocess.run([str(file)], env=environment, check=True, timeout=60)


def placed(folder: Path, dsn: str, server: PostgresServer, simulator: Simulator) -> Path:
    """The configuration with its secrets, led to this server and this simulator."""
    address = (SECRETS / dsn).read_text("utf-8").strip().replace("@db:5432/", f"@127.0.0.1:{server.port}/")
    text = (FOLDER / "config.toml").read_text("utf-8").replace("http://127.0.0.1:8480", simulator.url)
    for file in SECRETS.glob("channels__*"):
        _, channel, key = file.name.split("__")
        section = f"[channels.{channel}]\n"
        text = text.replace(section, f'{section}{key} = "{file.read_text("utf-8").strip()}"\n')
    config = folder / f"{dsn}.toml"
    config.write_text(f'{text}\n[database]\ndsn = "{address}"\n\n[ops]\nport = 0\n', "utf-8")
    return config
