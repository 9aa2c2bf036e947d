"""The sample ERP's products."""

from hypothesis import given
from hypothesis import strategies as st

from daemon.demo.catalogue import make_catalogue

SEKORM_LIMIT = 50
"""Characters that Sekorm takes for part number and brand (clause S09)."""


@given(count=st.integers(1, 3000), seed=st.integers(0, 1000))
def test_all_names_are_unique_and_within_the_marketplaces_limits(count: int, seed: int) -> None:
    products = make_catalogue(count, seed)
    assert len(products) == count
    assert len({(p.part_no, p.brand) for p in products}) == count
    assert len({p.ymatou_code for p in products}) == len({p.sku for p in products}) == count
    assert all(0 < len(p.part_no) <= SEKORM_LIMIT and 0 < len(p.brand) <= SEKORM_LIMIT for p in products)


def test_the_same_seed_makes_the_same_catalogue() -> None:
    assert make_catalogue(50, 3) == make_catalogue(50, 3) != make_catalogue(50, 4)


def test_the_part_number_of_the_marketplaces_own_example_is_for_sale() -> None:
    assert "1211LL的ON2" in {product.part_no for product in make_catalogue(10, 1)}
