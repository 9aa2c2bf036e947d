"""`stockrelay init` on databases of many shapes: what it writes loads, migrates and passes the check."""

import asyncio
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from click.shell_completion import ShellComplete

from daemon.app.administration import migrate
from daemon.app.configuration import load
from daemon.check import run_checks
from daemon.cli import cli, invoke
from daemon.core.finding import Verdict
from daemon.settings.example import example
from daemon.simulator import Simulator, SimulatorSettings
from daemon.simulator.marketplaces.sekorm import SekormShop
from daemon.simulator.marketplaces.ymatou.settings import YmatouShop
from tests.acceptance.replica import command, environment
from tests.conftest import Database
from tests.docs.pages import ROOT
from tests.example import VARIABLES
from tests.init.terminal import Terminal
from tests.recipes.test_recipes import BEGINNINGS, file

EXAMPLE: Final = ROOT / "config.example.toml"
EMPTY: Final = "DROP SCHEMA erp CASCADE;"
Typed = Callable[..., int]


@dataclass(frozen=True, slots=True)
class Layout:
    """An ERP's tables, and the numbers that the listing has to have, by the marketplace's name of the SKU."""

    sql: str
    numbers: dict[str, int]
    watched: dict[str, str]


LAYOUTS: Final = {
    "one table": Layout(
        """CREATE TABLE inventory (id serial PRIMARY KEY, sku text NOT NULL UNIQUE, on_hand integer, reserved integer,
                                   min_qty integer);
           INSERT INTO inventory (sku, on_hand, reserved, min_qty) VALUES ('A', 9, 2, 50), ('B', 5, NULL, 50);
           CREATE TABLE order_lines (order_no integer, sku text, quantity integer, PRIMARY KEY (order_no, sku));
           INSERT INTO order_lines VALUES (1, 'A', 1000)""",
        {"A": 7, "B": 5},
        {"public.inventory": "sku"},
    ),
    "stock beside products": Layout(
        """CREATE SCHEMA wms;
           CREATE TABLE wms.warehouse (id integer PRIMARY KEY, code text NOT NULL UNIQUE);
           CREATE TABLE wms.product (id integer PRIMARY KEY, item_code text NOT NULL UNIQUE, brand text);
           CREATE TABLE wms.stock_level (product_id integer NOT NULL REFERENCES wms.product,
               warehouse_id integer NOT NULL REFERENCES wms.warehouse, qty numeric(12, 3) NOT NULL,
               allocated_qty numeric NOT NULL, PRIMARY KEY (product_id, warehouse_id));
           INSERT INTO wms.warehouse VALUES (1, 'W1'), (2, 'W2');
           INSERT INTO wms.product VALUES (1, 'A', 'TI'), (2, 'B', 'TI'), (3, 'C', NULL);
           INSERT INTO wms.stock_level VALUES (1, 1, 5, 1), (1, 2, 3, 0), (2, 1, 4.5, 0)""",
        {"A": 7, "B": 4, "C": 0},
        {"wms.stock_level": "product_id", "wms.product": "id"},
    ),
    "several rows for a SKU": Layout(
        """CREATE TABLE stock (part_no text NOT NULL, location text NOT NULL, quantity double precision, brand text,
                               PRIMARY KEY (part_no, location));
           INSERT INTO stock VALUES ('A', 'x', 5, 'TI'), ('A', 'y', 4, 'TI'), ('B', 'x', 2, 'TI')""",
        {"A": 9, "B": 2},
        {"public.stock": "part_no"},
    ),
    "German": Layout(
        """CREATE TABLE artikel (id integer PRIMARY KEY, artikelnummer text NOT NULL UNIQUE, hersteller text);
           CREATE TABLE lagerbestand (artikel_id integer NOT NULL UNIQUE REFERENCES artikel, bestand integer NOT NULL,
                                      reserviert integer NOT NULL);
           CREATE TABLE bestellpositionen (artikel_id integer REFERENCES artikel, menge integer);
           INSERT INTO artikel VALUES (1, 'A', 'TI'), (2, 'B', 'TI');
           INSERT INTO lagerbestand VALUES (1, 8, 3), (2, 4, 0)""",
        {"A": 5, "B": 4},
        {"public.lagerbestand": "artikel_id", "public.artikel": "id"},
    ),
    "Chinese": Layout(
        """CREATE TABLE 库存表 (货号 text PRIMARY KEY, 品牌 text, 库存数量 integer NOT NULL, 预留数量 integer NOT NULL);
           INSERT INTO 库存表 VALUES ('甲', 'TI', 8, 3), ('乙', 'TI', 4, 0)""",
        {"甲": 5, "乙": 4},
        {'public."库存表"': '"货号"'},
    ),
    "mixed case": Layout(
        """CREATE SCHEMA "My ERP";
           CREATE TABLE "My ERP"."Stock Items" ("Item Code" varchar(20) PRIMARY KEY, "Qty On Hand" integer,
                                                "Brand" text, "it's'''odd" text);
           INSERT INTO "My ERP"."Stock Items" VALUES ('A', 8, 'TI'), ('B', 4, 'TI')""",
        {"A": 8, "B": 4},
        {'"My ERP"."Stock Items"': '"Item Code"'},
    ),
    "a view": Layout(
        """CREATE TABLE goods (id integer PRIMARY KEY, sku text NOT NULL UNIQUE);
           CREATE TABLE movements (good_id integer NOT NULL REFERENCES goods, quantity integer NOT NULL);
           CREATE VIEW stock_available AS SELECT g.sku, coalesce(sum(m.quantity), 0) AS available
               FROM goods AS g LEFT JOIN movements AS m ON m.good_id = g.id GROUP BY g.sku;
           INSERT INTO goods VALUES (1, 'A'), (2, 'B');
           INSERT INTO movements VALUES (1, 9), (1, -2), (2, 4)""",
        {"A": 7, "B": 4},
        {
            "public.goods": "sku",
            "public.movements": "SELECT b.sku FROM public.goods AS b WHERE b.id = changed.good_id",
        },
    ),
}


CHECKED: Final = ("stock beside products", "several rows for a SKU", "mixed case", "a view")
"""Each kind of proposal once."""


@pytest.fixture
def stockrelay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Typed:
    """A command in an empty folder, in this process; settings by keyword come from the environment."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("STOCKRELAY_")]:
        monkeypatch.delenv(name)

    def run(*words: str, **variables: str) -> int:
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(f"STOCKRELAY_{name}", value)
            return invoke(list(words))

    return run


def written(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "config.toml").read_text("utf-8"))


def checked(folder: Path, dsn: str) -> dict[str, str]:
    """What the check finds wrong after a migration; marketplaces are not asked for."""
    environment = {
        **{name: value for name, value in VARIABLES.items() if "SEKORM" not in name},
        "STOCKRELAY_DATABASE__DSN": dsn,
        "STOCKRELAY_CHANNELS__YMATOU__BASE_URL": "http://127.0.0.1:9",
    }
    settings = load(folder / "config.toml", None, environment)

    async def look() -> dict[str, str]:
        await migrate(settings, None)
        return {
            each.check: f"{each.found}: {each.advice}"
            for each in await run_checks(settings)
            if each.verdict is Verdict.FAILED or each.check.startswith(("reads", "skus", "cost"))
            if each.verdict is not Verdict.PASSED
        }

    found = asyncio.run(look())
    found.pop("marketplace ymatou")
    return found


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_plain_schema_is_understood(
    name: str, database: Database, stockrelay: Typed, tmp_path: Path
) -> None:
    layout = LAYOUTS[name]
    database.run_sql(EMPTY + layout.sql)
    dsn = database.dsn
    assert stockrelay("init", "--yes", "--marketplace", "ymatou", DATABASE__DSN=dsn) == 0
    values = written(tmp_path)
    assert {each["table"]: each.get("sku") or each["skus"] for each in values["watch"]} == layout.watched
    rows = database.run_sql(
        "SELECT outer_sku_id || '=' || trunc(quantity::numeric) "
        f"FROM ({values['channels']['ymatou']['listing']}) AS l"
    ).split()
    assert sorted(rows) == sorted(f"{sku}={number}" for sku, number in layout.numbers.items())
    if database.server.major == 18 and name in CHECKED:
        assert checked(tmp_path, dsn) == {}


@pytest.mark.parametrize("erp", BEGINNINGS)
def test_an_erp_with_a_recipe_is_recognised(
    erp: str, database: Database, stockrelay: Typed, tmp_path: Path
) -> None:
    schema = "CREATE SCHEMA odoo; SET search_path = odoo;" if erp == "Odoo" else ""
    database.run_sql(EMPTY + schema + file(erp))
    assert stockrelay("init", "--yes", "--marketplace", "ymatou", DATABASE__DSN=database.dsn) == 0
    # tests/recipes has the recipes as they stand in the document checked.
    if database.server.major == 18 and erp == "Odoo":
        assert checked(tmp_path, database.dsn) == {}
    text = (tmp_path / "config.toml").read_text("utf-8")
    assert f"# The recipe for {erp}, for one warehouse" in text
    assert {"Odoo": "odoo.stock_quant", "Tryton": "w.code IN ('WH')", "ERPNext": "'North - SH'"}[erp] in text


def test_a_recipe_s_products_give_the_marketplace_s_other_identifiers(
    database18: Database, stockrelay: Typed, tmp_path: Path
) -> None:
    brand = 'ALTER TABLE "tabItem" ADD brand varchar(140)'
    database18.run_sql(f"{EMPTY}{file('ERPNext')}; {brand}")
    assert stockrelay("init", "--yes", "--marketplace", "sekorm", DATABASE__DSN=database18.dsn) == 0
    listing = written(tmp_path)["channels"]["sekorm"]["listing"]
    assert "i.name AS pn_code" in listing
    assert "i.brand AS brand_name" in listing


def test_odoo_18_has_storable_goods_instead_of_products(
    database18: Database, stockrelay: Typed, tmp_path: Path
) -> None:
    newer = "ALTER TABLE product_template ADD is_storable boolean DEFAULT true;"
    newer += "UPDATE product_template SET type = 'consu'"
    database18.run_sql(f"{EMPTY}{file('Odoo')}; {newer}")
    assert stockrelay("init", "--yes", "--marketplace", "ymatou", DATABASE__DSN=database18.dsn) == 0
    assert "t.type = 'consu' AND t.is_storable" in written(tmp_path)["channels"]["ymatou"]["listing"]


def test_what_fails_or_lacks_a_name_is_off_and_says_why(
    database18: Database, stockrelay: Typed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database18.run_sql(
        EMPTY
        + """CREATE TABLE stock (sku text PRIMARY KEY, quantity integer);
        INSERT INTO stock VALUES ('A', 1);"""
    )
    assert stockrelay("init", "--yes", DATABASE__DSN=database18.dsn) == 0
    assert (
        "the listing of sekorm does not work yet: no column looks like brand_name" in capsys.readouterr().out
    )
    values = written(tmp_path)
    assert values["channels"]["sekorm"]["enabled"] is False
    assert "listing" not in values["channels"]["sekorm"]
    (tmp_path / "config.toml").unlink()
    database18.run_sql(
        """DROP TABLE stock; CREATE TABLE parts (sku text, n integer); INSERT INTO parts VALUES ('A', 0);
        CREATE VIEW stock AS SELECT sku, 1 / n AS quantity FROM parts"""
    )
    assert stockrelay("init", "--yes", "--marketplace", "ymatou", DATABASE__DSN=database18.dsn) == 1
    text = (tmp_path / "config.toml").read_text("utf-8")
    assert "# It does not work: running the listing: division by zero" in text
    assert "no listing works yet" in capsys.readouterr().err


def test_the_file_is_the_examples_and_has_no_password(
    database18: Database, stockrelay: Typed, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dsn = database18.dsn.replace("postgres@", "postgres:hunter2-Zq8@") + "?application_name=x"
    assert stockrelay("init", "--yes", DATABASE__DSN=dsn) == 0
    file = tmp_path / "config.toml"
    assert file.stat().st_mode & 0o777 == 0o600
    text = file.read_text("utf-8")
    out = capsys.readouterr().out
    assert "hunter2" not in text + out
    assert "SKU-" not in out, "rows of the ERP are for terminals"
    assert dsn.replace(":hunter2-Zq8", "") in text
    sections = [
        line for line in example().decode().splitlines() if line.startswith("[") and "watch" not in line
    ]
    assert [line for line in text.splitlines() if line.startswith("[") and "watch" not in line] == sections
    assert stockrelay("config", "show") == 0
    # As it stands, it is not taken for a configuration that is ready.
    assert stockrelay("check") == 78
    before = text
    assert stockrelay("init", "--yes", DATABASE__DSN=dsn) == 1
    assert "config.toml is there already" in capsys.readouterr().err
    assert file.read_text("utf-8") == before


@pytest.mark.parametrize(
    ("sql", "role", "found"),
    [
        (EMPTY, "postgres", "has no table"),
        (
            f"{EMPTY} CREATE TABLE order_lines (sku text, quantity integer)",
            "postgres",
            "no table or view that postgres may read has a column for the SKU",
        ),
        ("CREATE ROLE looker LOGIN", "looker", "looker may read no table of the database"),
    ],
)
def test_a_database_with_nothing_to_propose_leaves_no_file(
    sql: str,
    role: str,
    found: str,
    database18: Database,
    stockrelay: Typed,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    database18.run_sql(sql)
    try:
        dsn = database18.dsn.replace("postgres@", f"{role}@")
        assert stockrelay("init", "--yes", DATABASE__DSN=dsn) == 1
    finally:
        database18.run_sql("DROP ROLE IF EXISTS looker")
    error = capsys.readouterr().err
    assert found in error
    assert "nothing was written" in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "dsn", "code", "found"),
    [
        ("init", "postgresql://u@127.0.0.1:1/erp", 2, "there is no terminal to ask on: give --yes"),
        ("init --yes", "", 2, "which database? give its address as STOCKRELAY_DATABASE__DSN"),
        ("init --yes", "postgresql://u:hunter2@127.0.0.1:1/erp", 1, "nothing listens there"),
        ("init --yes", "mysql://u:hunter2@127.0.0.1:1/erp", 78, "is not a PostgreSQL URI"),
        ("init --yes --dsn postgresql://u:hunter2@h/erp", "", 2, "--dsn has a password"),
        ("init --yes --dsn postgresql://[u@h/erp", "", 78, "the database's address has a host"),
        ("init --yes --marketplace ebay", "", 2, "there is no marketplace 'ebay'; there is: sekorm"),
        ("init --yes --output no/config.toml", "", 1, "the folder of no/config.toml is not there"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    words: str,
    dsn: str,
    code: int,
    found: str,
    stockrelay: Typed,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert stockrelay(*words.split(), **({"DATABASE__DSN": dsn} if dsn else {})) == code
    error = capsys.readouterr().err
    assert found in error
    assert error.count("\n") == 1
    assert "hunter2" not in error
    assert list(tmp_path.iterdir()) == []


async def test_answers_at_a_terminal_lead_to_a_channel_that_the_check_passes(
    database18: Database, tmp_path: Path
) -> None:
    database18.run_sql("""
        INSERT INTO erp.products (sku, part_no, brand, name, ymatou_code)
            SELECT 'SKU-' || i, 'PN-' || i, 'AMS', 'part', 'YM-' || i FROM generate_series(1, 7) AS i;
        INSERT INTO erp.warehouses VALUES (1, 'SZ', 'Shenzhen');
        INSERT INTO erp.stock SELECT product_id, 1, sku, 10, 3 FROM erp.products
    """)

    def talk() -> str:
        with Terminal(tmp_path, "init") as terminal:
            terminal.answer("The database's address", database18.dsn)
            terminal.answer("Its password", "hunter2-Zq8")
            terminal.answer("Which marketplaces", "1, 2")
            terminal.answer("Write config.toml?", "y")
            assert terminal.end() == 0, terminal.text
            return terminal.text

    text = await asyncio.to_thread(talk)
    assert "PN-1" in text
    assert "hunter2" not in text
    assert "SKU-6" not in text, "five rows"
    shops = SimulatorSettings()
    here, there = shops.of(SekormShop), shops.of(YmatouShop)
    simulator = Simulator(shops)
    await simulator.start()
    try:
        variables = {
            "DATABASE__DSN": database18.dsn,
            "CHANNELS__SEKORM__BASE_URL": f"{simulator.url}/serviceGate",
            "CHANNELS__SEKORM__ACCOUNT": here.account,
            "CHANNELS__SEKORM__APP_SECRET": here.app_secret,
            "CHANNELS__YMATOU__BASE_URL": simulator.url,
            "CHANNELS__YMATOU__APP_ID": there.app_id,
            "CHANNELS__YMATOU__APP_SECRET": there.app_secret,
            "CHANNELS__YMATOU__AUTH_CODE": there.auth_code,
        }
        environment = {f"STOCKRELAY_{name}": value for name, value in variables.items()}
        config = tmp_path / "config.toml"
        assert (await command(config, "migrate", **environment)).code == 0
        done = await command(config, "check", **environment)
        assert done.code == 0, done
    finally:
        await simulator.stop()


def test_what_is_ambiguous_is_asked_and_ctrl_c_writes_nothing(database18: Database, tmp_path: Path) -> None:
    database18.run_sql(
        EMPTY
        + """CREATE TABLE stock (sku text PRIMARY KEY, quantity integer, producer text);
        CREATE TABLE inventory (sku text PRIMARY KEY, quantity integer, producer text);
        INSERT INTO stock VALUES ('A', 1, 'TI');"""
    )
    with Terminal(tmp_path, "init", STOCKRELAY_DATABASE__DSN=database18.dsn) as terminal:
        terminal.answer("2. public.stock: sku, quantity", "2")
        terminal.answer("Which marketplaces", "nonsense")
        terminal.answer("Which marketplaces", "1")
        terminal.answer("Which column is brand_name of sekorm?", "2")
        terminal.interrupt("Write config.toml?")
        assert terminal.end() == 130, terminal.text
    assert re.search(r"A +. A +. TI +. 1", terminal.text), terminal.text
    assert list(tmp_path.iterdir()) == []


def test_the_next_steps_name_missing_rights_and_end_with_going_live(
    database18: Database, stockrelay: Typed, capsys: pytest.CaptureFixture[str]
) -> None:
    grant = "GRANT USAGE ON SCHEMA erp TO reader; GRANT SELECT ON ALL TABLES IN SCHEMA erp TO reader"
    database18.run_sql(f"CREATE ROLE reader LOGIN; {grant}")
    try:
        dsn = database18.dsn.replace("postgres@", "reader@")
        assert stockrelay("init", "--yes", DATABASE__DSN=dsn) == 0
    finally:
        database18.run_sql("DROP OWNED BY reader; DROP ROLE reader")
    found = (
        "reader may not put triggers on erp.products, erp.stock, and need not: let a DBA make an owner role"
    )
    out = capsys.readouterr().out
    assert found in out
    assert (
        "as the owner role (its address in STOCKRELAY_DATABASE__DSN): stockrelay migrate --grant-to reader"
        in out
    )
    assert "stockrelay go-live sekorm: nothing is sent before that" in out.splitlines()[-2], out


def test_marketplaces_are_completed() -> None:
    found = ShellComplete(cli, {}, "stockrelay", "_COMPLETE").get_completions(["init", "--marketplace"], "y")
    assert [each.value for each in found] == ["ymatou"]


# `config example`, and what else an installed wheel has of the repository


def test_an_installed_wheel_prints_the_example_and_has_the_recipes(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=60)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    shown = subprocess.run(
        [sys.executable, "-P", "-m", "daemon", "config", "example"],
        env={**environment(), "PYTHONPATH": str(tmp_path / "installed")},
        cwd=tmp_path,
        check=True,
        capture_output=True,
        timeout=60,
    ).stdout
    assert shown == EXAMPLE.read_bytes() == example()
    for recipe in (ROOT / "daemon" / "recipes").iterdir():
        assert (
            tmp_path / "installed" / "daemon" / "recipes" / recipe.name
        ).read_bytes() == recipe.read_bytes()
