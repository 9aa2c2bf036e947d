"""deploy/compose: valid, confined, and in agreement with the daemon."""

import subprocess
import sys
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
import yaml

from daemon.app.running import STOP_S
from daemon.settings import Settings
from daemon.simulator import SimulatorSettings
from daemon.simulator.marketplaces.sekorm import SekormShop
from daemon.simulator.marketplaces.ymatou.settings import YmatouShop
from tests.deploy.manifests import DEPLOY, is_understood, loaded

FOLDER: Final = DEPLOY / "compose"
FILE: Final = FOLDER / "compose.yaml"
COMPOSE: Final = yaml.safe_load(FILE.read_text("utf-8"))
SERVICES: Final[dict[str, dict[str, Any]]] = COMPOSE["services"]
OURS: Final = [name for name, service in SERVICES.items() if service["image"] == "stockrelay"]
CONFIGURED: Final = ["migrate", "daemon"]


def secrets_of(service: str) -> dict[str, str]:
    """The files of the secrets folder, by the names they have there."""
    mounted = [s if isinstance(s, dict) else {"source": s, "target": s} for s in SERVICES[service]["secrets"]]
    return {
        secret["target"]: (FOLDER / COMPOSE["secrets"][secret["source"]]["file"]).read_text("utf-8")
        for secret in mounted
    }


def settings_of(service: str, folder: Path) -> Settings:
    return loaded(
        FOLDER / "config.toml", secrets_of(service), SERVICES[service]["environment"], folder / service
    )


def test_file_is_valid() -> None:
    words = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(FILE)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout


def test_every_file_that_is_named_is_there_and_every_secret_is_used() -> None:
    binds = [v.split(":")[0] for s in SERVICES.values() for v in s.get("volumes", []) if v.startswith(".")]
    files = [secret["file"] for secret in COMPOSE["secrets"].values()]
    assert [name for name in (*binds, *files) if not (FOLDER / name).is_file()] == []
    used = {
        secret if isinstance(secret, str) else secret["source"]
        for service in SERVICES.values()
        for secret in service.get("secrets", [])
    }
    assert used == COMPOSE["secrets"].keys()
    assert {file.name for file in (FOLDER / "secrets").iterdir()} == used


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "pid", "devices"} & service.keys()


def test_nothing_is_published_but_on_the_loopback_address() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published == ["127.0.0.1:9464:9464"]
    assert SERVICES["db"]["networks"] == ["inside"]
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    assert all(service.get("network_mode") != "host" for service in SERVICES.values())


@pytest.mark.parametrize("name", CONFIGURED)
def test_settings_are_the_programs(name: str, tmp_path: Path) -> None:
    assert len(settings_of(name, tmp_path).enabled_channels()) == 2


def test_published_is_the_ops_port(tmp_path: Path) -> None:
    ops = settings_of("daemon", tmp_path).ops
    assert ops.host == "0.0.0.0"
    assert SERVICES["simulator"]["ports"] == [f"127.0.0.1:{ops.port}:{ops.port}"]


@pytest.mark.parametrize("name", OURS)
def test_commands_are_the_programs(name: str) -> None:
    assert is_understood(SERVICES[name]["command"])


def test_health_is_asked_by_the_programs_own_command() -> None:
    kind, program, *words = SERVICES["daemon"]["healthcheck"]["test"]
    assert (kind, program) == ("CMD", "stockrelay")
    assert is_understood(words)


def test_marketplaces_are_the_simulator(tmp_path: Path) -> None:
    channels: Any = settings_of("daemon", tmp_path).channels
    sekorm, ymatou, simulated = channels["sekorm"], channels["ymatou"], SimulatorSettings()
    assert sekorm.account.get_secret_value() == simulated.of(SekormShop).account
    assert sekorm.app_secret.get_secret_value() == simulated.of(SekormShop).app_secret
    assert ymatou.app_id == simulated.of(YmatouShop).app_id
    assert ymatou.app_secret.get_secret_value() == simulated.of(YmatouShop).app_secret
    assert ymatou.auth_code.get_secret_value() == simulated.of(YmatouShop).auth_code
    port = int(SERVICES["simulator"]["command"][-1])
    addresses = {urlsplit(url).netloc for url in (sekorm.base_url, ymatou.base_url)}
    assert addresses == {f"127.0.0.1:{port}"}
    assert SERVICES["daemon"]["network_mode"] == "service:simulator"
    assert f"127.0.0.1:{port}/" in SERVICES["simulator"]["healthcheck"]["test"][-1]


def test_stopping_is_not_cut_short(tmp_path: Path) -> None:
    grace = float(SERVICES["daemon"]["stop_grace_period"].removesuffix("s"))
    assert grace >= settings_of("daemon", tmp_path).run.grace_s + 2 * STOP_S
