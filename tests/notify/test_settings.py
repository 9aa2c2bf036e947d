"""`[notify]`: where addresses may come from, what is refused, and that no message shows one."""

import json
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from daemon.app.configuration import load
from daemon.core.errors import ConfigError
from daemon.settings import Settings

EXAMPLE = Path(__file__).parents[2] / "config.example.toml"
SECRET = "hunter2Zq8x"
GOOD = [f"dingtalk://SEC{SECRET}@{SECRET}", f"mailto://u:{SECRET}@mail.example?to=boss@shop.example"]


def read(*urls: str, folder: Path | None = None, **variables: str) -> Settings:
    if urls:
        variables["URLS"] = json.dumps(urls)
    return load(EXAMPLE, folder, {f"STOCKRELAY_NOTIFY__{name}": value for name, value in variables.items()})


def test_addresses_come_from_the_environment_or_the_secrets_folder_as_a_list(tmp_path: Path) -> None:
    (tmp_path / "notify__urls").write_text(json.dumps(GOOD[:1]) + "\n")
    assert [url.get_secret_value() for url in read(*GOOD).notify.urls] == GOOD
    assert [url.get_secret_value() for url in read(folder=tmp_path).notify.urls] == GOOD[:1]
    assert read().notify.urls == ()


def test_what_is_shown_of_addresses_is_their_kind() -> None:
    found = read(*GOOD)
    assert found.masked()["notify"]["urls"] == ["dingtalk://[masked]", "mailto://[masked]"]
    assert SECRET not in repr(found)
    assert {SECRET, f"SEC{SECRET}", *GOOD} <= set(found.secrets())
    assert "mail.example" not in found.secrets()


@pytest.mark.parametrize(
    "url",
    [SECRET, f"nosuch://{SECRET}", f"dingtalk://{SECRET}!/x y", f"mailto://{SECRET}", f"slack://{SECRET}", f"://{SECRET}",
     f"json://[{SECRET}", f" dingtalk://{SECRET}", f"dingtalk://{SECRET}\n", f"file:///etc/{SECRET}"],
)  # fmt: skip
def test_what_is_no_address_is_refused_without_being_shown(
    url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError) as raised:
        read(GOOD[0], url)
    message = str(raised.value)
    assert "notify.urls[1]" in message
    assert SECRET not in message
    assert SECRET not in "".join(traceback.format_exception(raised.value))
    assert SECRET not in "".join(capfd.readouterr())


def test_a_single_address_that_is_no_list_is_refused_without_being_shown() -> None:
    with pytest.raises(ConfigError) as raised:
        read(URLS=GOOD[0])
    assert "notify.urls (from STOCKRELAY_NOTIFY__URLS): is not JSON" in str(raised.value)
    assert SECRET not in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        (
            "LANGUAGE",
            "fr",
            "notify.language = \"fr\" (from STOCKRELAY_NOTIFY__LANGUAGE): must be 'zh' or 'en'",
        ),
        ("MOST_PER_HOUR", "0", 'notify.most_per_hour = "0"'),
        ("RETRY_S", "3600", "notify.retry_s = 3600"),
        ("TIMEOUT_S", "0", 'notify.timeout_s = "0"'),
    ],
)
def test_a_wrong_value_is_refused_in_words(name: str, value: str, problem: str) -> None:
    with pytest.raises(ConfigError, match="the configuration is wrong") as raised:
        load(EXAMPLE, None, {f"STOCKRELAY_NOTIFY__{name}": value})
    assert problem in str(raised.value).replace('= "3600"', "= 3600")


def test_whoever_tells_nobody_does_not_wait_for_the_library() -> None:
    code = (
        "import sys, pathlib; from daemon.app.configuration import load; "
        f"load(pathlib.Path({str(EXAMPLE)!r}), None, {{}}); print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert "apprise" not in done.stdout.split()
