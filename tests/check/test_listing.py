"""What `check` says of the listings."""

import pytest

from daemon.core.finding import Verdict
from daemon.settings import Settings
from tests.check.conftest import Office

LISTING = "SELECT sku, ymatou_code AS outer_sku_id, 7 AS quantity FROM erp.products"


NO_LISTING = [
    (
        "SELECT sku FROM erp.nowhere",
        'relation "erp.nowhere" does not exist',
        "correct channels.ymatou.listing",
    ),
    ("SELEC 1", "syntax error", "correct channels.ymatou.listing"),
    ("SELECT sku, 1 AS quantity FROM erp.products", "no column outer_sku_id", "AS outer_sku_id"),
    ("SELECT 1", "no column sku, outer_sku_id, quantity", "AS sku"),
    (LISTING.replace("7 AS", "'7' AS"), "quantity is of type text", "::integer AS quantity"),
    (LISTING.replace("7 AS", "NULL AS"), "quantity is of type text", "::integer AS quantity"),
    (LISTING.replace("7 AS", "true AS"), "quantity is of type bool", "::integer AS quantity"),
    (LISTING.replace("SELECT", "SELECT sku,"), "the column sku twice", "once"),
    (LISTING + " WHERE sku = $1", "a parameter ($1)", "write a value"),
    (LISTING + " WHERE $1", "a parameter ($1)", "write a value"),
    (LISTING + "; SELECT 1", "several statements", "one SELECT"),
    (
        "DELETE FROM erp.stock RETURNING sku, sku AS outer_sku_id, 1 AS quantity",
        "syntax error",
        "single SELECT",
    ),
]


async def test_a_query_that_cannot_be_a_listing_is_explained(office18: Office) -> None:
    for sql, found, advice in NO_LISTING:
        answers = await office18.check(office18.listing(sql))
        failed = answers.failed("listing ymatou")
        assert found in failed.found, sql
        assert advice in failed.advice, sql
        assert answers.of("rows ymatou").verdict is Verdict.SKIPPED
        assert set(answers.bad()) == {"listing ymatou", "rows ymatou", "cost ymatou", "reads ymatou"}


def chosen(office: Office, **only: object) -> Settings:
    """The settings with a choice of Ymatou's SKUs."""
    return office.settings(channels={"sekorm": {"enabled": False}, "ymatou": {"listing": LISTING, **only}})


async def test_a_choice_of_skus_that_cannot_work_is_explained(office18: Office) -> None:
    for condition, found in (
        (
            "colour = 'red'",
            'channels.ymatou.only_where fails: preparing the listing: column "colour" does not exist',
        ),
        ("sku >", "channels.ymatou.only_where fails"),
        ("count(*) > 1", "aggregate functions are not allowed"),
        ("sku = $1", "channels.ymatou.only_where fails"),
        ("true) OR (true; DROP TABLE erp.stock", "syntax error"),
    ):
        answers = await office18.check(chosen(office18, only_where=condition))
        failed = answers.failed("listing ymatou")
        assert found in failed.found, condition
        assert "columns of channels.ymatou.listing: sku, outer_sku_id, quantity" in failed.advice
    answers = await office18.check(chosen(office18, only=["nothing like it"], only_where="sku = 'SKU-7'"))
    named, rows = (answers.warned(name) for name in ("listing ymatou", "rows ymatou"))
    assert named.found.startswith("1 of the 1 SKUs of channels.ymatou.only are not in it")
    assert rows.found == "no SKU of the listing is chosen: nothing is sent"


async def test_a_policy_that_may_hide_rows_is_named(office18: Office) -> None:
    office18.make_role()
    office18.database.run_sql(
        f"GRANT USAGE ON SCHEMA erp, stockrelay TO {office18.role};"
        f"GRANT SELECT ON ALL TABLES IN SCHEMA erp, stockrelay TO {office18.role};"
        "ALTER TABLE erp.products ENABLE ROW LEVEL SECURITY; CREATE POLICY one_company ON erp.products USING (false)"
    )
    answers = await office18.check(office18.listing(LISTING, database={"dsn": office18.dsn_of_role()}))
    failed = answers.failed("listing ymatou")
    assert 'row-level security policy for table "products"' in failed.found
    assert "read a view whose owner no policy applies to" in failed.advice
    assert "one_company on erp.products" in failed.advice
    assert answers.of("row security").verdict is Verdict.PASSED


async def test_a_listing_that_is_right_passes_with_a_semicolon_and_a_comment(office18: Office) -> None:
    assert (await office18.check(office18.listing(f"{LISTING} -- all\n;\n"))).bad() == {}


UNSENT = [
    (f"{LISTING} UNION ALL {LISTING}", "20 SKUs have more than one row, such as", "one row per SKU"),
    (
        LISTING.replace("SELECT sku", "SELECT nullif(sku, sku) AS sku"),
        "20 rows have no SKU",
        "never sent",
    ),
    (LISTING.replace("7", "nullif(7, 7)"), "20 SKUs have no quantity (NULL or NaN)", "coalesce"),
    (LISTING.replace("7", "'NaN'::float8"), "20 SKUs have no quantity (NULL or NaN)", "coalesce"),
    (LISTING.replace("7", "'Infinity'::float8"), "20 SKUs have a quantity that can't be sent", "parked"),
    (LISTING.replace("7", "1e400"), "20 SKUs have a quantity that can't be sent", "max_quantity"),
    (
        LISTING.replace("ymatou_code", "repeat(' ', product_id::integer)"),
        "20 SKUs have identifiers that the marketplace refuses",
        "parked",
    ),
    (
        LISTING.replace("sku,", "repeat(sku, 400) AS sku,"),
        "20 rows have a SKU of more than",
        "never sent",
    ),
    (LISTING.replace("7", "700 / (product_id - 3)"), "1 SKUs can't be read, such as", "the others are"),
    (LISTING.replace("7", "7 / (product_id - product_id)"), "20 SKUs can't be read, such as", "parked"),
    (LISTING.replace("7", "7 / count(*) FILTER (WHERE false) OVER ()"), "by zero", "fails on its data"),
]


async def test_rows_that_will_not_be_sent_are_counted(office: Office) -> None:
    for sql, found, advice in UNSENT:
        failed = (await office.check(office.listing(sql))).failed("rows ymatou")
        assert found in failed.found, sql
        assert advice in failed.advice, sql


@pytest.mark.parametrize(
    ("quantity", "condition", "code", "is_compared"),
    [
        ("erp.checked(p.sku)", "true", "ERP01", True),
        ("7", "erp.checked(p.sku) > 0", "ERP01", False),
        ("7", "erp.checked(p.sku) > 0", "42501", False),
        ("erp.checked(p.sku)", "true", "57014", True),
        ("erp.checked(p.sku)", "true", "55P03", True),
    ],
    ids=["a quantity", "a condition", "a right", "a cancelling", "a lock"],
)
async def test_a_row_that_fails_is_named_and_leaves_the_other_answers_as_they_are(
    office18: Office, quantity: str, condition: str, code: str, is_compared: bool
) -> None:
    first = office18.database.run_sql("SELECT sku FROM erp.products LIMIT 1").strip()
    office18.database.run_sql(f"""CREATE FUNCTION erp.checked(sku text) RETURNS integer LANGUAGE plpgsql STABLE AS $$
        BEGIN IF sku = '{first}' THEN RAISE 'not this one' USING ERRCODE = '{code}'; END IF; RETURN 7; END $$""")
    sql = f"SELECT p.sku, p.ymatou_code AS outer_sku_id, {quantity} AS quantity FROM erp.products AS p"
    answers = await office18.check(office18.listing(f"{sql} WHERE {condition}"))
    rows = [
        result for result in answers if result.check == "rows ymatou" and result.verdict is not Verdict.PASSED
    ]
    assert "1 SKUs can't be read" in rows[0].found
    assert first in rows[0].found
    assert "not this one" in rows[0].found
    assert [result.verdict for result in rows[1:]] == ([] if is_compared else [Verdict.WARNING])
    others = [result for result in answers if not result.check.startswith(("rows", "cost"))]
    assert [result for result in others if result.verdict is not Verdict.PASSED] == []


async def test_the_quantity_of_a_row_is_computed_once(office18: Office) -> None:
    """A listing is usually a sum for each row, and `check` reads all of it."""
    office18.database.run_sql(f"""
        ALTER DATABASE {office18.database.name} SET track_functions = 'all';
        CREATE FUNCTION erp.summed(sku text) RETURNS bigint LANGUAGE plpgsql STABLE
        AS 'BEGIN RETURN (SELECT sum(s.on_hand) FROM erp.stock AS s WHERE s.sku = summed.sku); END';
        INSERT INTO erp.products (sku, part_no, brand, name, ymatou_code)
        SELECT 'MORE-' || i, 'P', i, 'more', 'MORE-' || i FROM generate_series(1, 1000) AS i;
    """)
    quantity = "coalesce((SELECT erp.summed(p.sku)), 0) AS quantity FROM erp.products AS p"
    answers = await office18.check(office18.listing(f"SELECT p.sku, p.sku AS outer_sku_id, {quantity}"))
    assert "1,020" in answers.of("rows ymatou").found
    # Some more for the costs of single SKUs.
    calls = office18.database.run_sql("SELECT calls FROM pg_stat_user_functions WHERE funcname = 'summed'")
    assert int(calls) < 2 * 1020


async def test_identifiers_that_sekorm_refuses_are_named_with_field_and_limit(office18: Office) -> None:
    office18.database.run_sql("UPDATE erp.products SET part_no = repeat('7', 51) WHERE product_id = 3")
    failed = (await office18.check()).failed("rows sekorm")
    assert "1 SKUs have identifiers" in failed.found
    assert "pn_code has 51 characters, at most 50 are allowed" in failed.found


async def test_blanks_and_case_twins_are_warnings_in_quotes(office18: Office) -> None:
    office18.database.run_sql("""
        UPDATE erp.products SET sku = 'Ab ' WHERE product_id = 1;
        UPDATE erp.products SET sku = 'aB' WHERE product_id = 2;
    """)
    answers = await office18.check(office18.listing(LISTING))
    found = [result.found for result in answers if result.check == "rows ymatou"]
    assert found[0].startswith('1 SKUs or their identifiers have blanks at the ends, such as "Ab "')
    assert 'such as "Ab " and "aB"' in found[1]


async def test_skus_that_share_their_identifiers_are_counted(office18: Office) -> None:
    same = LISTING.replace("ymatou_code", "'same'")
    failed = (await office18.check(office18.listing(same))).failed("rows ymatou")
    assert "20 SKUs share their identifiers with others, such as" in failed.found
    assert " and " in failed.found
    assert "they are parked" in failed.advice
    summing = {"sekorm": {"enabled": False}, "ymatou": {"listing": same, "duplicates": "sum"}}
    warned = (await office18.check(office18.settings(channels=summing))).warned("rows ymatou")
    assert "the sum of their quantities is sent" in warned.advice


async def test_identifiers_that_are_almost_alike_are_a_warning(office18: Office) -> None:
    code = "CASE product_id WHEN 1 THEN 'ab' WHEN 2 THEN 'A B' ELSE ymatou_code END"
    warned = (await office18.check(office18.listing(LISTING.replace("ymatou_code", code)))).warned(
        "rows ymatou"
    )
    assert 'such as "A B" and "ab"' in warned.found


async def test_fractions_are_a_warning(office18: Office) -> None:
    sql = LISTING.replace("7", "CASE WHEN sku = (SELECT min(sku) FROM erp.products) THEN 2.5 ELSE 3.0 END")
    warned = (await office18.check(office18.listing(sql))).warned("rows ymatou")
    assert "1 SKUs have a quantity with a fraction" in warned.found
    assert "(2.5): it is rounded down" in warned.found


async def test_a_large_quantity_of_type_real_passes(office18: Office) -> None:
    assert (await office18.check(office18.listing(LISTING.replace("7", "16000001::real")))).bad() == {}


async def test_an_empty_listing_is_a_warning(office18: Office) -> None:
    answers = await office18.check(office18.listing(f"{LISTING} WHERE false"))
    assert "nothing is sold" in answers.warned("rows ymatou").found


FLAT = """
    CREATE TABLE erp.flat (shop integer, sku text, code text, n integer);
    INSERT INTO erp.flat SELECT i % 5000, 's' || i, 'c' || i, 1 FROM generate_series(1, 20000) AS i;
"""
FLAT_LISTING = "SELECT sku, code AS outer_sku_id, n AS quantity FROM erp.flat"


async def test_a_table_that_is_read_whole_for_one_sku_is_a_warning_with_what_it_costs(office: Office) -> None:
    office.database.run_sql(f"{FLAT} ANALYZE erp.flat")
    warned = (await office.check(office.listing(FLAT_LISTING))).warned("cost ymatou")
    assert "20000 rows (most of them of erp.flat)" in warned.found
    assert "numbers a second at most" in warned.found
    assert "CREATE INDEX" in warned.advice
    office.database.run_sql("CREATE INDEX flat_sku ON erp.flat (sku); ANALYZE erp.flat")
    assert "cost ymatou" not in (await office.check(office.listing(FLAT_LISTING))).bad()


async def test_an_index_that_is_read_from_end_to_end_for_one_sku_is_a_warning(office: Office) -> None:
    office.database.run_sql(f"""
        {FLAT} INSERT INTO erp.flat SELECT i % 5000, 's' || i, 'c' || i, 1 FROM generate_series(20001, 100000) AS i;
        CREATE INDEX flat_shop_sku ON erp.flat (shop, sku) INCLUDE (code, n); VACUUM ANALYZE erp.flat;
    """)
    warned = (await office.check(office.listing(FLAT_LISTING))).warned("cost ymatou")
    pages = int(warned.found.split()[3])
    assert pages > 300, (
        "the SKU is a trailing column: all of the index is read, though it is in the plan's condition"
    )


@pytest.mark.parametrize(
    ("pause_s", "found"),
    [(0.06, "and rate_per_s is 20"), (0.3, "10 of the listing's SKUs: cut by the time limit")],
    ids=["slower than the rate", "never within the limit"],
)
async def test_a_listing_that_cannot_keep_up_with_the_rate_fails(
    office18: Office, pause_s: float, found: str
) -> None:
    # The whole of it is read faster than a few SKUs are: what a claim asks for has other plans.
    sql = (
        "SELECT p.sku, p.ymatou_code AS outer_sku_id, CASE WHEN current_query() ~ 'EXPLAIN [(]ANALYZE' "
        f"THEN 7 + length(pg_sleep({pause_s})::text) ELSE 7 END AS quantity FROM erp.products AS p"
    )
    settings = office18.listing(sql, database={"statement_timeout_s": 1})
    assert found in (await office18.check(settings)).failed("cost ymatou").found


async def test_a_listing_that_takes_too_long_fails_and_says_what_is_not_known(office18: Office) -> None:
    office18.database.run_sql(
        "INSERT INTO erp.orders (sku, quantity) SELECT 's' || i, 1 FROM generate_series(1, 5000) AS i"
    )
    sql = "SELECT sku, sku AS outer_sku_id, quantity FROM erp.orders WHERE pg_sleep(0.001) IS NOT NULL"
    settings = office18.listing(sql, database={"statement_timeout_s": 1})
    failed = (await office18.check(settings)).failed("rows ymatou")
    assert "cut after 1 s" in failed.found
    assert "duplicates were not looked for" in failed.found


async def test_a_listing_may_be_read_by_a_role_with_rights_on_its_view_alone(office18: Office) -> None:
    office18.make_role()
    role = office18.role
    office18.database.run_sql(f"""
        CREATE VIEW public."Shop Window" AS {LISTING};
        GRANT USAGE ON SCHEMA stockrelay, erp TO {role};
        GRANT ALL ON ALL TABLES IN SCHEMA stockrelay TO {role};
        GRANT ALL ON ALL SEQUENCES IN SCHEMA stockrelay TO {role};
        GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA stockrelay TO {role};
    """)
    settings = office18.listing('SELECT * FROM "Shop Window"', database={"dsn": office18.dsn_of_role()})
    failed = (await office18.check(settings)).failed("listing ymatou")
    assert failed.advice == f'as their owner: GRANT SELECT ON public."Shop Window" TO {role};'
    office18.database.run_sql(failed.advice.partition(": ")[2])
    assert (await office18.check(settings)).bad() == {}


async def test_a_listing_of_zeroes_is_a_warning_and_a_few_are_counted(office18: Office) -> None:
    answers = await office18.check(office18.listing(LISTING.replace("7 AS", "0 AS")))
    found = answers.of("rows ymatou")
    assert found.verdict is Verdict.WARNING
    assert found.found == "20 of 20 quantities are 0"
    assert "stockrelay release ymatou" in found.advice
    few = LISTING.replace(
        "7 AS", "CASE WHEN sku = (SELECT min(p.sku) FROM erp.products AS p) THEN 0 ELSE 7 END AS"
    )
    assert (
        (await office18.check(office18.listing(few)))
        .of("rows ymatou")
        .found.endswith("1 of 20 quantities are 0")
    )
