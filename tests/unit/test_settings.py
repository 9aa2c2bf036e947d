"""Settings: every way to write a value, every refusal, and no secret in any message."""

import json
import os
import re
import tomllib
import traceback
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from daemon.app.configuration import exposed_files, load, settings_schema
from daemon.core.errors import ConfigError
from daemon.core.types import ChannelName
from daemon.marketplaces.registry import sections
from daemon.settings import Settings
from daemon.settings.files import config_file
from daemon.settings.keys import Key, keys_of
from daemon.settings.load import validated
from daemon.settings.problems import Problems
from tests.channels import SEKORM

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "config.example.toml"
SECRET = "hunter2-Zq8"
FERNET_KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="

SMALLEST = """
[database]
dsn = "postgresql://stockrelay@127.0.0.1/erp"

[[watch]]
table = "erp.stock"
sku = "sku"

[channels.sekorm]
account = "SP-1"
app_secret = "s3cret-of-sekorm"
listing = "SELECT 1"
"""


KEYS = keys_of(sections())

Writer = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    """Writes a configuration file."""

    def write_file(text: str) -> Path:
        file = tmp_path / "config.toml"
        file.write_text(text, encoding="utf-8")
        return file

    return write_file


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    folder = tmp_path / "secrets"
    folder.mkdir()
    return folder


def read(file: Path | None, secrets_dir: Path | None = None, /, **variables: str) -> Settings:
    return load(file, secrets_dir, {f"STOCKRELAY_{name}": value for name, value in variables.items()})


def secret_of(found: Settings, key: str, channel: str = "sekorm") -> str:
    value: SecretStr = getattr(found.channels[ChannelName(channel)], key)
    return value.get_secret_value()


def refusal(file: Path, secrets_dir: Path | None = None, /, **variables: str) -> list[str]:
    """The problems, one a line, without the heading."""
    with pytest.raises(ConfigError) as caught:
        read(file, secrets_dir, **variables)
    assert caught.value.exit_code == 78
    heading, *problems = str(caught.value).split("\n  ")
    assert str(file) in heading
    assert problems
    return problems


def sekorm(line: str) -> str:
    """The smallest configuration with one more line for Sekorm, or with that key written otherwise."""
    if line.startswith("["):
        return SMALLEST + line
    key = line.split(" = ", 1)[0]
    return re.sub(rf"(?m)^{key} = .*$", "", SMALLEST) + line


# Where values come from


def test_the_smallest_file_gets_the_defaults(write: Writer) -> None:
    found = read(write(SMALLEST))
    assert found.database.pool_size == 8
    assert found.channels[SEKORM].base_url == "https://wwww.sekorm.com/serviceGate"
    assert secret_of(found, "app_secret") == "s3cret-of-sekorm"
    assert list(found.enabled_channels()) == ["sekorm"]


def test_the_environment_goes_before_the_secrets_folder_and_that_before_the_file(
    write: Writer, secrets: Path
) -> None:
    file = write(SMALLEST)
    name = {"CHANNELS__SEKORM__APP_SECRET": "from-environment"}
    (secrets / "channels__sekorm__app_secret").write_text("from-folder\n")
    assert secret_of(read(file), "app_secret") == "s3cret-of-sekorm"
    assert secret_of(read(file, secrets), "app_secret") == "from-folder"
    assert secret_of(read(file, secrets, **name), "app_secret") == "from-environment"


def test_layers_are_laid_over_each_other_key_by_key(write: Writer, secrets: Path) -> None:
    (secrets / "channels__sekorm__rate_per_s").write_text("3")
    found = read(write(SMALLEST), secrets, CHANNELS__SEKORM__CONCURRENCY="2").channels[SEKORM]
    assert (found.rate_per_s, found.concurrency, found.listing) == (3.0, 2, "SELECT 1")


def test_the_environment_alone_is_enough() -> None:
    found = read(
        Path("/dev/null"),
        DATABASE__DSN="postgresql://localhost/erp",
        WATCH='[{"table": "erp.stock", "sku": "sku"}]',
        CHANNELS__YMATOU__APP_ID="app",
        CHANNELS__YMATOU__APP_SECRET="secret",
        CHANNELS__YMATOU__AUTH_CODE="code",
        CHANNELS__YMATOU__LISTING="SELECT 1",
    )
    assert [watch.table for watch in found.watch] == ["erp.stock"]
    assert list(found.enabled_channels()) == ["ymatou"]


def test_a_section_can_be_given_as_json_and_single_keys_over_it(write: Writer) -> None:
    found = read(write(SMALLEST), RUN='{"poll_s": 5, "lease_s": 7}', RUN__LEASE_S="8")
    assert (found.run.poll_s, found.run.lease_s) == (5.0, 8.0)


def test_names_of_variables_and_secret_files_may_be_in_any_case(write: Writer, secrets: Path) -> None:
    (secrets / "CHANNELS__SEKORM__ACCOUNT").write_text("upper")
    found = load(write(SMALLEST), secrets, {"stockrelay_run__poll_s": "4"})
    assert secret_of(found, "account") == "upper"
    assert found.run.poll_s == 4


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_one_newline_at_the_end_of_a_secret_file_does_not_count(
    write: Writer, secrets: Path, ending: str
) -> None:
    (secrets / "channels__sekorm__app_secret").write_bytes(b" ".join([b"two", b"words"]) + ending.encode())
    assert secret_of(read(write(SMALLEST), secrets), "app_secret") == "two words"


def test_the_secrets_folder_can_be_named_in_the_environment(write: Writer, secrets: Path) -> None:
    (secrets / "channels__sekorm__account").write_text("from-folder")
    assert secret_of(read(write(SMALLEST), SECRETS_DIR=str(secrets)), "account") == "from-folder"


def test_a_secrets_file_may_be_called_as_its_variable(write: Writer, secrets: Path) -> None:
    """As systemd names the credentials of `LoadCredential=stockrelay:FOLDER`."""
    (secrets / "stockrelay_channels__sekorm__account").write_text("from-a-credential")
    assert secret_of(read(write(SMALLEST), secrets), "account") == "from-a-credential"
    (secrets / "stockrelay_channels__sekorm__acount").write_text("x")
    (problem,) = refusal(write(SMALLEST), secrets)
    assert problem.startswith("secrets file stockrelay_channels__sekorm__acount: it names no setting")


def test_what_kubernetes_and_others_keep_beside_secrets_is_let_be(write: Writer, secrets: Path) -> None:
    data = secrets / "..2026_01_01"
    data.mkdir()
    (data / "channels__sekorm__account").write_text("linked")
    (secrets / "..data").symlink_to(data.name)
    (secrets / "channels__sekorm__account").symlink_to("..data/channels__sekorm__account")
    (secrets / "tls.key").write_text("of another program")
    found = load(
        write(SMALLEST),
        secrets,
        {"STOCKRELAY_SERVICE_HOST": "10.0.0.1", "STOCKRELAY_PORT_8080_TCP": "tcp://10.0.0.1"},
    )
    assert secret_of(found, "account") == "linked"


def test_the_file_is_found_by_option_then_variable_then_place(tmp_path: Path) -> None:
    first, second = tmp_path / "first.toml", tmp_path / "second.toml"
    places = (first, second)
    assert config_file(None, None, places) is None
    second.touch()
    assert config_file(None, None, places) == second
    first.touch()
    assert config_file(None, None, places) == first
    assert config_file(None, "/named.toml", places) == Path("/named.toml")
    assert config_file(None, "", places) == first
    assert config_file(Path("/option.toml"), "/named.toml", places) == Path("/option.toml")


def test_a_byte_order_mark_from_an_editor_does_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(b"\xef\xbb\xbf" + SMALLEST.encode())
    assert read(file).database.pool_size == 8


# What is handed on


def test_durations_are_timedeltas_too(write: Writer) -> None:
    found = read(write(SMALLEST))
    assert found.debounce.quiet == timedelta(seconds=2)
    assert found.debounce.max_wait == timedelta(seconds=10)
    assert found.run.poll == timedelta(seconds=1)
    assert found.run.lease == timedelta(seconds=10)
    assert found.run.resync == timedelta(hours=1)
    assert found.run.grace == timedelta(seconds=10)
    assert found.run.heartbeat == timedelta(minutes=1)
    assert found.database.statement_timeout == timedelta(seconds=30)
    assert found.channels[SEKORM].timeout == timedelta(seconds=5)
    assert found.channels[SEKORM].settle == timedelta(minutes=1)


def test_the_doorbell_is_listened_for_past_the_pooler(write: Writer) -> None:
    assert read(write(SMALLEST)).database.doorbell_dsn.get_secret_value().endswith("@127.0.0.1/erp")
    direct = read(write(SMALLEST), DATABASE__LISTEN_DSN="postgresql://direct/erp")
    assert direct.database.doorbell_dsn.get_secret_value() == "postgresql://direct/erp"


def test_settings_cannot_be_changed(write: Writer) -> None:
    found = read(write(SMALLEST))
    with pytest.raises(ValueError, match="frozen"):
        found.run.poll_s = 3


def test_a_listing_is_ready_to_stand_inside_another_query(write: Writer) -> None:
    assert read(write(sekorm("listing = ' SELECT 1 ; '"))).channels[SEKORM].listing == "SELECT 1"


def test_a_sku_expression_may_have_several_lines(write: Writer) -> None:
    text = SMALLEST.replace('sku = "sku"', "sku = '''\nbrand ||\n'/' || part_no\n'''")
    assert read(write(text)).watch[0].sku == "brand ||\n'/' || part_no"


@pytest.mark.parametrize(
    "table",
    ["stock", "erp.stock", '"ERP"."Stock"', '"with ""quotes"" and.dot"', "库存.数量", "erp.st$ck", "_s"],
)
def test_a_table_is_written_as_in_sql(write: Writer, table: str) -> None:
    assert read(write(SMALLEST.replace('"erp.stock"', f"'{table}'"))).watch[0].table == table


@pytest.mark.parametrize(
    "url",
    [
        "https://a.example",
        "https://a.example:8443/x/",
        "http://127.0.0.1:8480",
        "http://localhost:1",
        "http://[::1]:80/x",
    ],
)
def test_base_urls_lose_only_their_last_slash(write: Writer, url: str) -> None:
    assert read(write(sekorm(f'base_url = "{url}"'))).channels[SEKORM].base_url == url.rstrip("/")


def test_what_an_address_may_not_hold_is_percent_encoded_once(write: Writer) -> None:
    found = read(write(sekorm('base_url = "https://a.example/käse/库存/%E5%BA%93{x}~"'))).channels[SEKORM]
    assert found.base_url == "https://a.example/k%C3%A4se/%E5%BA%93%E5%AD%98/%E5%BA%93%7Bx%7D~"


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql:///erp",
        "postgres://u:p%40ss@db.example:5432/erp?sslmode=verify-full",
        "postgresql://u@[::1]:5432/erp",
        "postgresql://u:p@one:5432,two:5433/erp?target_session_attrs=primary",
        "postgresql:///erp?host=/var/run/postgresql&user=u%40x",
    ],
)
def test_every_postgresql_uri_is_taken(write: Writer, dsn: str) -> None:
    assert read(write(SMALLEST), DATABASE__DSN=dsn).database.dsn.get_secret_value() == dsn


def test_a_byte_order_mark_is_no_part_of_a_secret(write: Writer, secrets: Path) -> None:
    (secrets / "channels__sekorm__app_secret").write_bytes(b"\xef\xbb\xbfs3cret\r\n")
    assert secret_of(read(write(SMALLEST), secrets), "app_secret") == "s3cret"


def test_a_secrets_folder_as_kubernetes_makes_it_is_read(write: Writer, secrets: Path) -> None:
    (secrets / "..2026").mkdir()
    (secrets / "..2026" / "channels__sekorm__app_secret").write_text("s3cret")
    (secrets / "..data").symlink_to("..2026")
    (secrets / "channels__sekorm__app_secret").symlink_to("..data/channels__sekorm__app_secret")
    (secrets / "lost+found").mkdir()
    assert secret_of(read(write(SMALLEST), secrets), "app_secret") == "s3cret"


def test_what_is_no_file_or_has_no_end_is_refused_in_place_of_a_secret(write: Writer, secrets: Path) -> None:
    name = "channels__sekorm__app_secret"
    for made, said in (
        (os.mkfifo, "cannot be read: it is a pipe and not a file; write it to a file"),
        (
            lambda place: place.symlink_to("/dev/zero"),
            "cannot be read: it is larger than 65536 bytes; is it the right file?",
        ),
        (lambda place: place.mkdir(), "cannot be read: Is a directory"),
        (lambda place: place.symlink_to("/not/there"), "cannot be read: No such file or directory"),
    ):
        made(secrets / name)
        assert f"secrets file {name}: {said}" in refusal(write(SMALLEST), secrets)
        (secrets / name).rmdir() if said.endswith("directory") and (secrets / name).is_dir() else (
            secrets / name
        ).unlink()


def test_what_is_no_file_or_has_no_end_is_refused_as_a_configuration(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    terminal, other_side = os.openpty()
    for file, said in (
        (Path(os.ttyname(other_side)), "is a terminal and not a file"),
        (tmp_path / "pipe", "is a pipe and not a file; write it to a file"),
        (Path("/dev/zero"), "is larger than 1048576 bytes"),
        (tmp_path, "Is a directory"),
    ):
        with pytest.raises(ConfigError, match=f"cannot read the configuration {file}: (it )?{said}"):
            read(file)
    os.close(terminal)
    os.close(other_side)


def test_files_with_secrets_that_everybody_may_read_are_found(write: Writer, secrets: Path) -> None:
    file = write(SMALLEST)
    secret, other = secrets / "channels__ymatou__app_secret", secrets / "run__poll_s"
    for each in (secret, other):
        each.write_text("3")
        each.chmod(0o644)
    file.chmod(0o644)
    for above in (secrets, *secrets.parents):
        if above.stat().st_mode & 0o001 == 0:
            above.chmod(above.stat().st_mode | 0o001)
    assert exposed_files(file, secrets) == sorted([file, secret])
    secret.chmod(0o640)
    assert exposed_files(file, secrets) == [file]
    file.write_text(re.sub("(?m)^app_secret.*$|^account.*$", "", SMALLEST))
    assert exposed_files(file, secrets) == []
    secret.chmod(0o644)
    secrets.chmod(0o700)
    assert exposed_files(file, secrets) == []


TOKYO = """
[channels.tokyo]
marketplace = "ymatou"
app_id = "app"
app_secret = "secret-of-tokyo"
auth_code = "code-of-tokyo"
listing = "SELECT 1"
"""


def test_a_channel_has_the_operators_name_and_its_marketplaces_keys(write: Writer, secrets: Path) -> None:
    text = SMALLEST + TOKYO + TOKYO.replace("tokyo", "osaka-2")
    (secrets / "channels__osaka-2__auth_code").write_text("from-folder")
    found = read(
        write(text), secrets, CHANNELS__TOKYO__RATE_PER_S="7", CHANNELS__OSAKA_2__APP_SECRET="of-osaka"
    )
    assert list(found.enabled_channels()) == ["sekorm", "tokyo", "osaka-2"]
    tokyo, osaka = (found.channels[ChannelName(name)] for name in ("tokyo", "osaka-2"))
    assert (tokyo.marketplace, tokyo.rate_per_s, osaka.rate_per_s) == ("ymatou", 7.0, 20.0)
    assert secret_of(found, "app_secret", "osaka-2") == "of-osaka"
    assert secret_of(found, "auth_code", "osaka-2") == "from-folder"
    assert "code-of-tokyo" in found.secrets()
    assert found.masked()["channels"]["tokyo"]["auth_code"] == "[masked]"


def test_a_channel_can_come_from_the_environment_alone(write: Writer) -> None:
    names = {
        "MARKETPLACE": "ymatou",
        "APP_ID": "a",
        "APP_SECRET": "b",
        "AUTH_CODE": "c",
        "LISTING": "SELECT 1",
    }
    found = read(write(SMALLEST), **{f"CHANNELS__KOBE__{name}": value for name, value in names.items()})
    assert found.channels[ChannelName("kobe")].marketplace == "ymatou"


def test_a_named_channel_may_be_one_json_value(write: Writer, secrets: Path) -> None:
    osaka = {
        "marketplace": "ymatou",
        "app_id": "a",
        "app_secret": "b",
        "auth_code": "c",
        "listing": "SELECT 1",
    }
    (secrets / "channels__kobe_2").write_text(json.dumps(osaka | {"auth_code": "k"}))
    found = read(write(SMALLEST), secrets, CHANNELS__OSAKA=json.dumps(osaka), CHANNELS__OSAKA__RATE_PER_S="7")
    assert list(found.channels) == ["sekorm", "kobe_2", "osaka"]
    assert found.channels[ChannelName("osaka")].rate_per_s == 7.0
    (problem,) = refusal(write(SMALLEST), CHANNELS__OSAKA='{"marketplace": ')
    assert problem.startswith("channels.osaka (from STOCKRELAY_CHANNELS__OSAKA): is not JSON")
    (problem,) = refusal(write(SMALLEST), CHANNELS__SEKORN="x")
    assert "it names no setting" in problem


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (TOKYO.replace("tokyo]", '"a\\nb"]'), "channels.a\\nb: is no name for a channel"),
        (TOKYO.replace('"ymatou"', '"ymatuo"'), '"ymatuo": there is no such marketplace; did you mean ymatou?'),
        (TOKYO.replace('"ymatou"', '"x"'), 'channels.tokyo.marketplace = "x": there is no such marketplace; there is'),
        (TOKYO.replace('"ymatou"', "7"), "channels.tokyo.marketplace = 7: must be text, in quotes"),
        (TOKYO.replace("[channels.tokyo]", "[channels.sekorn]").replace('marketplace = "ymatou"', ""),
         "channels.sekorn: is no marketplace's name, and has no key marketplace; write marketplace = \"sekorm\""),
        (TOKYO.replace("tokyo]", "ymatou]").replace('"ymatou"', '"sekorm"'),
         'channels.ymatou.marketplace = "sekorm": a channel that is called ymatou is at ymatou'),
        (TOKYO.replace("tokyo]", "Tokyo]"), "channels.Tokyo: is no name for a channel; write lower-case letters"),
        (TOKYO.replace("tokyo]", f"{'x' * 41}]"), "at most 40"),
        (TOKYO.replace("tokyo]", "a__b]"), "channels.a__b: is no name for a channel"),
        (TOKYO.replace("tokyo]", "a-b]") + TOKYO.replace("tokyo]", "a_b]"),
         "channels.a_b: differs from channels.a-b only by - and _; rename one"),
        (TOKYO + "settle_s = 3", "channels.tokyo.settle_s = 3: must be more than run.lease_s + timeout_s"),
        (TOKYO + "accont = 3", "channels.tokyo.accont: there is no such key"),
    ],
)  # fmt: skip
def test_a_channels_name_and_marketplace_are_refused_in_words(write: Writer, text: str, problem: str) -> None:
    problems = refusal(write(SMALLEST + text))
    assert any(problem in found for found in problems), problems


SAME_ACCOUNT = {
    "sekorm": SMALLEST.partition("[channels.sekorm]")[2],
    "ymatou": TOKYO.partition("\n")[2].partition("\n")[2],
    "webhook": """
base_url = "https://SHOP.example/x"
secret = "whsec_Y2hhbmdlLW1lLWNoYW5nZS1tZS1jaGFuZ2UtbWU="
listing = "SELECT 1"
""",
}


@pytest.mark.parametrize(
    ("marketplace", "keys", "of_another"),
    [
        ("sekorm", "base_url and account", 'account = "other"'),
        ("ymatou", "base_url and app_id and auth_code", 'auth_code = "other"'),
        ("webhook", "base_url", 'base_url = "https://shop.example/y"'),
    ],
)
def test_two_enabled_channels_at_one_account_are_refused(
    write: Writer, marketplace: str, keys: str, of_another: str
) -> None:
    body = SAME_ACCOUNT[marketplace].replace(f'marketplace = "{marketplace}"', "")
    body += f'\nmarketplace = "{marketplace}"\n'
    text = SMALLEST.partition("[channels")[0] + f"[channels.one]\n{body}"
    again = f"[channels.two]\n{body}".replace("SHOP", "shop")
    (problem,) = refusal(write(text + again))
    assert problem.startswith(f"channels.two.{keys.rpartition(' ')[2]}")
    assert f"is the account of channels.one, which has the same {keys}; give each shop one channel" in problem
    assert "code-of-tokyo" not in problem
    read(write(text + again + "enabled = false"))
    key = of_another.partition(" = ")[0]
    read(write(text + re.sub(rf"(?m)^{key} = .*$", of_another, again)))


def test_two_placeholders_are_not_one_account(write: Writer) -> None:
    text = SMALLEST.replace('"SP-1"', '"change-me"')
    read(write(text + "[channels.two]\nmarketplace = 'sekorm'" + text.partition("[channels.sekorm]")[2]))


def test_a_disabled_channel_needs_no_secrets(write: Writer) -> None:
    found = read(write(SMALLEST + "\n[channels.ymatou]\nenabled = false\n"))
    assert list(found.enabled_channels()) == ["sekorm"]


def test_level_and_format_may_be_in_capitals(write: Writer) -> None:
    found = read(write(SMALLEST), LOG__LEVEL="WARNING", LOG__FORMAT="Json")
    assert (found.log.level, found.log.format) == ("warning", "json")


# What is refused: the key, the value, what is wrong, and the fix


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("rate_per_s = 0", "channels.sekorm.rate_per_s = 0: must be greater than 0 (default 20.0)"),
        ("rate_per_s = inf", "channels.sekorm.rate_per_s"),
        ("rate_per_s = nan", "channels.sekorm.rate_per_s"),
        ('rate_per_s = "fast"', 'channels.sekorm.rate_per_s = "fast": must be a number'),
        ("rate_per_s = true", "channels.sekorm.rate_per_s = true: must be a number, not true or false"),
        (
            "concurrency = 0",
            "channels.sekorm.concurrency = 0: must be greater than or equal to 1 (default 8)",
        ),
        (
            "concurrency = 257",
            "channels.sekorm.concurrency = 257: must be less than or equal to 256 (default 8)",
        ),
        ("concurrency = 1.5", "channels.sekorm.concurrency = 1.5: must be a whole number"),
        ("timeout_s = -1", "channels.sekorm.timeout_s = -1: must be greater than 0 (default 5.0)"),
        ("timeout_s = 1e300", "channels.sekorm.timeout_s = 1e+300: must be less than or equal to 604800"),
        (
            "batch = 201",
            "channels.sekorm.batch = 201: must be less than or equal to 200 (default 200)",
        ),
        (
            "batch_above = -1",
            "channels.sekorm.batch_above = -1: must be greater than or equal to 0 (default 0)",
        ),
        (
            "urgent_below = -1",
            "channels.sekorm.urgent_below = -1: must be greater than or equal to 0 (default 0)",
        ),
        ("park_after = 0", "channels.sekorm.park_after = 0: must be greater than or equal to 1 (default 5)"),
        (
            "settle_s = 15",
            "channels.sekorm.settle_s = 15: must be more than run.lease_s + timeout_s (10 + 5)",
        ),
        ('body = "xml"', "channels.sekorm.body = \"xml\": must be 'form' or 'json' (default \"form\")"),
        ('enabled = "maybe"', 'channels.sekorm.enabled = "maybe": must be true or false'),
        ("account = 12345", "channels.sekorm.account: must be text, in quotes"),
        ('account = ""', "channels.sekorm.account: is empty; give a value or leave the key out"),
        ('account = " x"', "channels.sekorm.account: begins or ends with a blank"),
        ('account = "x\\n"', "channels.sekorm.account: contains a line break or control character"),
        ('listing = " ; "', 'channels.sekorm.listing = " ; ": is empty; write one SELECT with a row per SKU'),
        ("only = []", "channels.sekorm.only: is empty; name SKUs, or leave the key out"),
        ('only = [""]', "channels.sekorm.only"),
        ('only_where = " ;"', 'channels.sekorm.only_where = " ;": is empty; write a condition'),
        (
            "only_where = \"r.Quantity > 0 AND sku <> 'quantity'\"",
            "reads quantity: a SKU that sells out would be left out, and the marketplace would go on selling it",
        ),
        (
            'only_where = "WHERE a > 1"',
            'channels.sekorm.only_where = "WHERE a > 1": begins with WHERE; write only the condition',
        ),
        ('ca_file = "/not/there"', 'channels.sekorm.ca_file = "/not/there": is not there, or is not a file'),
        (
            'base_url = "http://sekorm.example"',
            'channels.sekorm.base_url = "http://sekorm.example": must be https',
        ),
        ('base_url = "http://127.0.0.1.evil.example"', "must be https"),
        ('base_url = "ftp://x"', "is not a URL; write https://HOST/PATH"),
        ('base_url = "https://x:port"', "is not a URL; write https://HOST/PATH"),
        ('base_url = "https:///x"', "is not a URL; write https://HOST/PATH"),
        ('base_url = "https://x/?a=1"', "must hold no query or fragment: addresses are logged"),
        ('base_url = "https://käse.example/"', "must hold the host's name in ASCII letters"),
        (
            'token_key = "short"',
            "channels.sekorm.token_key: is not a Fernet key (32 bytes in url-safe base64)",
        ),
        ('tokenkey = "x"', "channels.sekorm.tokenkey: there is no such key; did you mean token_key?"),
        ("zzz = 1", "channels.sekorm.zzz: there is no such key"),
        (
            "[channels.taobao]",
            "channels.taobao: is no marketplace's name, and has no key marketplace; write marketplace = \"",
        ),
        ("[debounse]", "debounse: there is no such key; did you mean debounce?"),
        ("[_case_sensitive]", "_case_sensitive: there is no such key"),
        ("[debounce]\nquiet_s = 11", "debounce.quiet_s = 11: must be at most max_wait_s (10)"),
        (
            "[debounce]\nquiet_s = -1",
            "debounce.quiet_s = -1: must be greater than or equal to 0 (default 2.0)",
        ),
        (
            "[reconcile]\ncron = '30 25 * * *'",
            'reconcile.cron = "30 25 * * *": is not a time: bad hour; `30 0 * * *` is every day at 00:30',
        ),
        (
            "[reconcile]\ntimezone = 'Asia/Peking'",
            'reconcile.timezone = "Asia/Peking": is not a time zone; did you mean',
        ),
        ("[reconcile]\nchunk = 0", "reconcile.chunk = 0: must be greater than or equal to 1 (default 200)"),
        ("[reconcile]\nheal = 'perhaps'", "reconcile.heal"),
        ("[run]\npoll_s = 0", "run.poll_s = 0: must be greater than 0 (default 1.0)"),
        ("[log]\nlevel = 'loud'", "log.level = \"loud\": must be 'debug', 'info', 'warning' or 'error'"),
        (
            '[[watch]]\ntable = "ERP.Stock"\nsku = "x"',
            'watch[1].table = "ERP.Stock": is watched already by watch[0]',
        ),
        ("[[watch]]", "watch[1].table is missing; name the table as in SQL"),
        ('[[watch]]\ntable = "a"', "watch[1].sku is missing; name the column that holds the SKU"),
        (
            '[[watch]]\ntable = "a"\nsku = "s"\nskus = "SELECT 1"',
            "cannot be given together with `sku`; keep one of them",
        ),
        ('[[watch]]\ntabel = "a"', "watch[1].tabel: there is no such key; did you mean table?"),
        ('[[watch]]\ntable = "a b"\nsku = "x"', 'watch[1].table = "a b": is not a table name'),
        ('[[watch]]\ntable = "a.b; DROP"\nsku = "x"', "is not a table name; write it as in SQL"),
        ('[[watch]]\ntable = "a"\nsku = "  "', 'watch[1].sku = "  ": is empty; name the column'),
    ],
)
def test_a_wrong_value_is_refused_in_words(write: Writer, line: str, problem: str) -> None:
    problems = refusal(write(sekorm(line)))
    assert any(problem in found for found in problems), problems


@pytest.mark.parametrize(
    "dsn",
    ["erp", "mysql://localhost/erp", "host=localhost dbname=erp", "postgresql:erp",
     "postgresql://u:p@ss/w@h/erp", "postgresql://u:p#w@h/erp", "postgresql://u:p?w@h/erp",
     "postgresql://h:port/erp", "postgresql://h h/erp"],
)  # fmt: skip
def test_what_is_no_postgresql_uri_is_refused_without_being_shown(write: Writer, dsn: str) -> None:
    (problem,) = refusal(write(SMALLEST), DATABASE__DSN=dsn)
    assert problem.startswith("database.dsn (from STOCKRELAY_DATABASE__DSN): ")
    assert dsn not in problem


_PYTHON = re.compile(
    r"\b(valid|tuple|dict|dictionary|instance|NoneType|None|str|int|float|bool|Input|pydantic|validator|unpack\w*|"
    r"object|mapping|model|keyword|argument|iterable|\w+Error)\b"
)
_ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=9)
    | st.binary(max_size=3)
    | st.dates(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)


@settings(max_examples=150, deadline=None)
@given(key=st.sampled_from(sorted(KEYS.values(), key=str)), value=_ODD)
def test_whatever_stands_for_a_value_is_refused_in_an_operators_words(key: Key, value: object) -> None:
    values = tomllib.loads(SMALLEST)
    node: Any = values
    for part in key.path[:-1]:
        node = node.setdefault(part, {})
        node = node[0] if isinstance(node, list) else node
    node[key.path[-1]] = value
    problems = Problems(KEYS)
    validated(values, sections(), problems)
    for line in problems.lines:
        said = line.partition(": ")[2] if " = " in line else line
        assert not _PYTHON.search(said.rpartition('": ')[2]), line


def test_a_settle_time_that_is_too_short_is_said_once_and_as_it_was_written(write: Writer) -> None:
    (problem,) = refusal(write(sekorm("settle_s = 3")))
    assert problem.startswith("channels.sekorm.settle_s = 3: ")


def test_every_problem_is_listed_at_once_one_a_line(write: Writer) -> None:
    text = SMALLEST.replace('account = "SP-1"', "rate_per_s = -1\nsettle_s = 3\nsecret = 1")
    problems = refusal(write(text + "\n[debounce]\nquiet_s = 99\n[x]\n"), LOG__LEVEL="x", RUNN__POLL_S="1")
    starts = [
        "environment variable STOCKRELAY_RUNN__POLL_S: it names no setting",
        "x: there is no such key",
        "debounce.quiet_s = 99: ",
        "channels.sekorm.rate_per_s = -1: ",
        "channels.sekorm.secret: there is no such key",
        "channels.sekorm.settle_s = 3: ",
        'log.level = "x" (from STOCKRELAY_LOG__LEVEL): ',
    ]
    for start in starts:
        assert sum(problem.startswith(start) for problem in problems) == 1, (start, problems)
    assert len(problems) == len(starts)


def test_an_empty_file_names_what_it_needs(write: Writer) -> None:
    dsn, watch, channels = refusal(write(""))
    assert dsn == (
        "database.dsn is missing; set it in the file, or STOCKRELAY_DATABASE__DSN in the environment, "
        "or the file database__dsn in the secrets folder"
    )
    assert (
        watch == "watch is missing; write a [[watch]] with `table` and `sku` for each table that holds stock"
    )
    assert channels == "channels: no channel is enabled; write " + " or ".join(
        f"[channels.{name}]" for name in sorted(sections())
    )


def test_a_channel_that_is_off_is_named_where_no_other_is_enabled(write: Writer) -> None:
    off = "channels: no channel is enabled; set channels.sekorm.enabled = true"
    assert refusal(write(SMALLEST + "enabled = false\n")) == [off]


def test_missing_secrets_of_an_enabled_channel_name_every_place_for_them(write: Writer) -> None:
    problems = refusal(write(SMALLEST + "\n[channels.ymatou]\n"))
    assert [problem.split(" ")[0] for problem in problems] == [
        "channels.ymatou.app_id",
        "channels.ymatou.app_secret",
        "channels.ymatou.auth_code",
        "channels.ymatou.listing",
    ]
    assert problems[1] == (
        "channels.ymatou.app_secret is missing; set it in the file, "
        "or STOCKRELAY_CHANNELS__YMATOU__APP_SECRET in the environment, "
        "or the file channels__ymatou__app_secret in the secrets folder, "
        "or set channels.ymatou.enabled = false"
    )


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("CHANNELS__SEKORM__APP_SECRT", "STOCKRELAY_CHANNELS__SEKORM__APP_SECRET"),
        ("CHANNELS_SEKORM__APP_SECRET", "STOCKRELAY_CHANNELS__SEKORM__APP_SECRET"),
        ("LOG_LEVEL", "STOCKRELAY_LOG__LEVEL"),
        ("WATCH__0__TABLE", "STOCKRELAY_"),
    ],
)
def test_a_variable_that_names_no_setting_is_refused(write: Writer, name: str, meant: str) -> None:
    (problem,) = refusal(write(SMALLEST), None, **{name: SECRET})
    assert problem.startswith(f"environment variable STOCKRELAY_{name}: it names no setting")
    assert meant in problem
    assert SECRET not in problem


def test_a_secrets_file_that_names_no_setting_is_refused(write: Writer, secrets: Path) -> None:
    (secrets / "channels__sekorm__appsecret").write_text(SECRET)
    (problem,) = refusal(write(SMALLEST), secrets)
    assert problem.startswith("secrets file channels__sekorm__appsecret: it names no setting")
    assert problem.endswith("did you mean channels__sekorm__app_secret?")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\xff", "is not UTF-8 text"),
        (b"x" * 65_537, "is larger than 65536 bytes"),
        (b"a\nb", "contains a line break"),
    ],
)
def test_a_secrets_file_with_something_else_in_it_is_refused(
    write: Writer, secrets: Path, content: bytes, problem: str
) -> None:
    (secrets / "channels__sekorm__account").write_bytes(content)
    assert any(problem in found for found in refusal(write(SMALLEST), secrets))


def test_two_secrets_files_for_one_setting_are_refused(write: Writer, secrets: Path) -> None:
    (secrets / "channels__sekorm__account").write_text("a-1")
    (secrets / "Channels__sekorm__account").write_text("a-2")
    (problem,) = refusal(write(SMALLEST), secrets)
    assert "it gives the same setting as" in problem


def test_a_section_in_the_environment_that_is_not_json_is_refused(write: Writer) -> None:
    (problem,) = refusal(write(SMALLEST), RUN=f"poll {SECRET}")
    assert problem.startswith("run (from STOCKRELAY_RUN): is not JSON: ")
    assert SECRET not in problem


def test_an_empty_list_of_tables_is_refused(write: Writer) -> None:
    (problem,) = refusal(write(SMALLEST), WATCH="[]")
    assert problem.startswith("watch (from STOCKRELAY_WATCH): is empty; write a [[watch]]")


def test_a_section_that_is_a_plain_value_is_refused(write: Writer) -> None:
    (problem,) = refusal(write("log = 3\n" + SMALLEST))
    assert problem.startswith("log")


def test_a_file_or_folder_that_is_not_there_is_named(tmp_path: Path, write: Writer) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the configuration .*nowhere.toml: No such file"):
        read(tmp_path / "nowhere.toml")
    with pytest.raises(ConfigError, match=r"cannot read the configuration .*: Is a directory"):
        read(tmp_path)
    with pytest.raises(ConfigError, match=r"cannot read the secrets folder .*nowhere: No such file"):
        read(write(SMALLEST), tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (b"a = 1\nb = = 2\n", "line 2, column 5: Invalid value"),
        (b'a = "open', "at its end: Unterminated string"),
        (b"ok = 1\nname = '\xb5'\n", "line 2, column 9: the byte 0xb5 is not UTF-8"),
        (b"a = 1\na = 2\n", "line 2, column 6: Cannot overwrite a value"),
    ],
)
def test_malformed_toml_is_told_with_its_place(tmp_path: Path, content: bytes, where: str) -> None:
    file = tmp_path / "broken.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=re.escape(f"{file}, {where}")):
        read(file)


# Secrets


def keys() -> Iterator[Key]:
    return (key for key in KEYS.values() if not key.is_whole and not key.is_in_list)


@pytest.mark.parametrize("key", list(keys()), ids=lambda key: key.dotted)
def test_no_message_shows_a_secret_wherever_it_was_put(write: Writer, key: Key) -> None:
    for value in (SECRET, f"https://u:{SECRET}@x", f"https://x?k={SECRET}", f"postgresql://u:{SECRET}@h@h/x"):
        variables = {"CHANNELS__SEKORM__APP_SECRET": SECRET, key.variable.removeprefix("STOCKRELAY_"): value}
        try:
            text = repr(read(write(SMALLEST), None, **{"LOG__LEVEL": "x", **variables}))
        except ConfigError as error:
            text = "".join(traceback.format_exception(error))
        assert SECRET not in text


def test_values_of_unknown_keys_are_not_shown(write: Writer) -> None:
    problems = refusal(write(sekorm(f'app_secrt = "{SECRET}"')))
    assert SECRET not in " ".join(problems)


def test_masked_settings_hold_no_secret_and_are_json(write: Writer) -> None:
    found = read(
        write(sekorm(f'token_key = "{FERNET_KEY}"')),
        DATABASE__DSN=f"postgresql://u:{SECRET}@h:5432/erp?sslmode=require&sslpassword={SECRET}x",
        DATABASE__LISTEN_DSN=f"postgresql:///erp?password={SECRET}&user=u",
        CHANNELS__SEKORM__APP_SECRET=SECRET,
    )
    masked = found.masked()
    text = json.dumps(masked)
    assert (
        masked["database"]["dsn"] == "postgresql://u:[masked]@h:5432/erp?sslmode=require&sslpassword=[masked]"
    )
    assert masked["database"]["listen_dsn"] == "postgresql:///erp?password=[masked]&user=u"
    assert masked["channels"]["sekorm"]["app_secret"] == "[masked]"
    assert masked["run"]["poll_s"] == 1.0
    for secret in (SECRET, FERNET_KEY, "SP-1"):
        assert secret not in text
        assert secret not in repr(found)
        assert secret in found.secrets()
    assert f"{SECRET}x" in found.secrets()


def test_a_password_is_a_secret_as_written_and_as_decoded(write: Writer) -> None:
    found = read(write(SMALLEST), DATABASE__DSN="postgresql://u:p%40ss-word@h/erp")
    assert {"p%40ss-word", "p@ss-word"} <= set(found.secrets())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(st.dictionaries(st.sampled_from([key.variable for key in keys()]), st.text(max_size=30), max_size=6))
def test_any_environment_is_settings_or_a_refusal(write: Writer, environ: Mapping[str, str]) -> None:
    try:
        found = load(write(SMALLEST), None, environ)
    except ConfigError:
        return
    json.dumps(found.masked())


# The example and the schema


def test_the_example_loads_as_it_stands() -> None:
    found = read(EXAMPLE)
    assert list(found.enabled_channels()) == ["sekorm", "ymatou"]
    assert "safety_stock" in found.channels[SEKORM].listing
    assert "reserved" in found.channels[SEKORM].listing


def test_the_example_has_every_key_with_its_default() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    everything = tomllib.loads(re.sub(r"(?m)^#(?=[a-z_]+ = |\[)", "", text))
    whole = {key.path for key in KEYS.values() if key.is_whole}
    assert set(_paths(everything)) - whole == {key.path for key in KEYS.values() if not key.is_whole}
    written = _paths(tomllib.loads(text))
    given = tomllib.loads(text)["channels"]
    for key in KEYS.values():
        if key.path[0] == "channels" and key.path[1:2] and key.path[1] not in given:
            continue  # the whole section is left out
        if key.has_default and key.default is None:
            assert key.path not in written, f"{key.dotted} is left out by default"
        elif key.has_default and key.default != "":
            assert written[key.path] == key.default, key.dotted


def test_the_example_names_no_key_that_does_not_exist() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    left_out = re.findall(r"(?m)^#([a-z_]+) = ", text)
    assert set(left_out) <= {key.path[-1] for key in KEYS.values()}


def test_every_key_is_described_in_the_schema() -> None:
    schema = settings_schema()
    for section in [schema, *schema["$defs"].values()]:
        for name, field in section["properties"].items():
            assert field.get("description") or "$ref" in field, name


def _paths(values: Mapping[str, Any], above: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    found: dict[tuple[str, ...], Any] = {}
    for name, value in values.items():
        for item in value if isinstance(value, list) else [value]:
            found |= _paths(item, (*above, name)) if isinstance(item, Mapping) else {(*above, name): item}
    return found
