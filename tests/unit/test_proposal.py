"""What `stockrelay init` makes of a catalogue: which tables it takes for stock, and the file it writes."""

import tomllib
from collections.abc import Sequence
from typing import Final

import pytest

from daemon.core.proposal.candidates import rank
from daemon.core.proposal.document import ProposedChannel, write_document
from daemon.core.proposal.recipes import RECIPES, Choice, adapt, schema_of
from daemon.core.proposal.values import CatalogTable, Column, ForeignKey, Proposal, ProposedWatch
from daemon.settings.example import example
from tests.docs.pages import ROOT
from tests.recipes.recipe import recipe

KINDS: Final = {"t": "text", "n": "number", "o": "other"}


def table(name: str, columns: str, *unique: str, **more: object) -> CatalogTable:
    """A table; `columns` are NAME:KIND, with an exclamation mark for NOT NULL; `unique` are keys."""
    found = []
    for word in columns.split():
        column, _, kind = word.partition(":")
        found.append(Column(column, column, KINDS[kind[0]], kind.endswith("!")))  # type: ignore[arg-type] # a kind
    keys = tuple(tuple(key.split()) for key in unique)
    return CatalogTable("public", name, f"public.{name}", tuple(found), keys, **more)  # type: ignore[arg-type]


def to(column: str, name: str, target: str) -> tuple[ForeignKey, ...]:
    return (ForeignKey(column, f"public.{name}", target),)


PRODUCTS: Final = table("products", "id:n! code:t! brand:t", "id", "code")
STOCK: Final = table(
    "stock",
    "product_id:n! place:t! qty:n!",
    "product_id place",
    foreign_keys=to("product_id", "products", "id"),
)


@pytest.mark.parametrize(
    ("tables", "titles"),
    [
        ([table("stock", "sku:t! qty:n", "sku")], ["public.stock: sku, qty"]),
        # The number that is net already is preferred, and a column of another type is none.
        ([table("stock", "sku:t on_hand:n available:n", "sku")], ["public.stock: sku, available"]),
        ([table("stock", "sku:t on_hand:n available:o", "sku")], ["public.stock: sku, on_hand"]),
        ([STOCK, PRODUCTS], ["public.stock: qty, with public.products: code"]),
        # Numbers that are limits or plans are no stock.
        ([table("stock", "sku:t min_qty:n reorder_qty:n", "sku")], []),
        # A SKU and a quantity are not enough.
        ([table("order_lines", "order_no:n sku:t quantity:n", "order_no sku")], []),
        ([table("stock_movements", "id:n sku:t quantity:n", "id")], []),
        ([table("price_list", "sku:t qty:n", "sku")], []),
        # A place with a code is no product.
        (
            [
                table("counts", "place_id:n qty:n", foreign_keys=to("place_id", "places", "id")),
                table("places", "id:n code:t", "id"),
            ],
            [],
        ),
        # The likeliest first: one row for each SKU, and rows in it.
        (
            [
                table("goods", "sku:t quantity:n", "sku"),
                table("stock_old_format", "sku:t quantity:n", is_empty=True),
                table("stock", "sku:t quantity:n", "sku"),
            ],
            ["public.stock: sku, quantity", "public.goods: sku, quantity"],
        ),
        # What may not be read is not proposed.
        ([table("stock", "sku:t qty:n", "sku", is_readable=False)], []),
        # A view without a table below it that tells the SKU can't be captured.
        ([table("stock", "sku:t qty:n", is_view=True, bases=("public.x",)), table("x", "n:n")], []),
    ],
)
def test_the_tables_that_hold_stock_are_found_in_order(
    tables: Sequence[CatalogTable], titles: Sequence[str]
) -> None:
    assert [proposal.title for proposal in rank(tables)] == titles


def listing(proposal: Proposal, *columns: str) -> str:
    return " ".join(proposal.listing_for(proposal.identifiers(columns, "shop")).split())


LISTINGS: Final = {
    "one row for each SKU": (
        [table("stock", "sku:t! qty:n! reserved:n", "sku")],
        ["external_id"],
        """SELECT s.sku AS sku, s.sku AS external_id, s.qty - coalesce(s.reserved, 0) AS quantity
           FROM public.stock AS s""",
    ),
    "several rows": (
        [table("stock", "sku:t place:t qty:n! brand:t mpn:t", "sku place")],
        ["pn_code", "brand_name"],
        """SELECT s.sku AS sku, max(s.mpn) AS pn_code, max(s.brand) AS brand_name, sum(s.qty) AS quantity
           FROM public.stock AS s WHERE s.sku IS NOT NULL GROUP BY s.sku""",
    ),
    "the marketplace's own code, and no brand": (
        [table("stock", "sku:t! qty:n! shop_code:t", "sku")],
        ["external_id", "brand_name"],
        """SELECT s.sku AS sku, s.shop_code AS external_id, NULL::text AS brand_name, s.qty AS quantity
           FROM public.stock AS s""",
    ),
    "stock beside products": (
        [STOCK, PRODUCTS],
        ["pn_code", "brand_name"],
        """SELECT p.id AS sku, p.code AS pn_code, p.brand AS brand_name,
           coalesce((SELECT sum(s.qty) FROM public.stock AS s WHERE s.product_id = p.id), 0) AS quantity
           FROM public.products AS p""",
    ),
}


@pytest.mark.parametrize("name", LISTINGS)
def test_a_listing_has_the_identifiers_and_what_may_be_sold(name: str) -> None:
    tables, columns, sql = LISTINGS[name]
    assert listing(rank(tables)[0], *columns) == " ".join(sql.split())


def test_reservations_in_a_table_of_their_own_are_pointed_out() -> None:
    (found,) = rank([table("stock", "sku:t qty:n", "sku"), table("reservations", "sku:t qty:n")])
    assert "Not subtracted: what public.reservations may hold for open orders." in found.notes


# Recipes


@pytest.mark.parametrize("erp", RECIPES)
def test_a_recipe_in_the_package_is_the_documents(erp: str) -> None:
    text = (ROOT / "daemon" / "recipes" / f"{erp.lower()}.toml").read_text("utf-8")
    assert text == recipe(erp).configuration


RECIPE: Final = """
[[watch]]
table = 'public."Bin"'
sku = "id"
[run]
compared_only = ["public.place"]
[channels.x]
listing = '''
SELECT b.id AS sku,
       b.code AS external_id,
       b.n AS quantity
  FROM public."Bin" AS b WHERE b.place IN ('x')
'''
"""


def test_a_recipe_is_for_the_schema_that_has_all_its_tables_and_the_warehouse_that_was_chosen() -> None:
    bins = CatalogTable('"My ERP"', "Bin", '"My ERP"."Bin"', (Column("brand", "brand", "text"),))
    place = CatalogTable('"My ERP"', "place", '"My ERP".place', ())
    assert schema_of(RECIPE, [bins]) is None
    assert schema_of(RECIPE, [bins, place]) == '"My ERP"'
    choice = Choice("North", (("b.place IN ('x')", "b.place IN ('it''s')"),))
    found = adapt("An ERP", RECIPE, '"My ERP"', choice, [bins, place])
    assert found.watches == (ProposedWatch('"My ERP"."Bin"', "sku", "id"),)
    assert found.compared_only == ('"My ERP".place',)
    assert listing(found, "pn_code", "brand_name") == (
        "SELECT b.id AS sku, b.code AS pn_code, b.brand AS brand_name, b.n AS quantity "
        "FROM \"My ERP\".\"Bin\" AS b WHERE b.place IN ('it''s')"
    )


# The file


def test_a_hostile_name_or_message_stays_in_its_place() -> None:
    hostile = "x\n[log]\nlevel = \"debug\"\n'''\x07"
    watch = ProposedWatch(hostile, "sku", hostile)
    channel = ProposedChannel(hostile, (hostile,), None, ())
    text = write_document(example().decode(), hostile, hostile, [watch], [hostile], {"webhook": channel})
    values = tomllib.loads(text)
    assert values["database"]["dsn"] == hostile
    assert values["watch"] == [{"table": hostile, "sku": hostile}]
    assert values["run"]["compared_only"] == [hostile]
    assert values["channels"].keys() == {"webhook"}
    assert values["channels"]["webhook"]["listing"] == hostile
    assert values["log"]["level"] == "info"


def test_every_comment_of_the_example_is_kept() -> None:
    channel = ProposedChannel("SELECT 1", (), None, ("ca_file", "old_secret"))
    text = write_document(example().decode(), "x", "d", [], [], {"webhook": channel, "sekorm": channel})
    lines = set(text.splitlines())
    lost = [line for line in example().decode().splitlines() if line.startswith("# ") and line not in lines]
    assert [line.split()[1] for line in lost] == ["Stockrelay:", "`stockrelay", "Here:"]
