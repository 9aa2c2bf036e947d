"""What ERPs call a SKU, a quantity and so on, in English, German and Chinese: the likeliest word first."""

import re
from collections.abc import Iterable, Mapping
from typing import Final


def _listed(text: str) -> tuple[str, ...]:
    return tuple(text.split())


SKU: Final = _listed("""
    sku skuid skucode skuno productsku variantsku itemsku stockcode itemcode itemno itemnumber productcode productno
    productnumber articlecode articleno articlenumber partno partnumber materialno materialnumber matnr artikelnummer
    artikelnr artnr 货号 sku编码 商品编码 商品编号 产品编码 产品编号 物料编码 物料编号 存货编码 料号 品号 ean gtin
""")
CODE: Final = (*SKU, *_listed("code number no nummer barcode 编码 编号 条码"))
"""In a table of products, these name a SKU, too."""
NET: Final = _listed("""
    availabletosell availablequantity availableqty quantityavailable qtyavailable availablestock available verfuegbar
    verfügbar verfuegbaremenge verfügbaremenge 可售数量 可售库存 可用数量 可用库存 可用量
""")
"""Quantities from which what is reserved has been subtracted already."""
QUANTITY: Final = NET + _listed("""
    onhand qtyonhand quantityonhand onhandqty onhandquantity actualqty instock stockonhand stockqty stockquantity
    stocklevel currentstock physicalstock quantity qty stock balance bestand lagerbestand aktuellerbestand menge
    库存数量 库存量 库存 现存量 在库数量 实际库存 数量
""")
RESERVED: Final = _listed("""
    reserved reservedqty reservedquantity qtyreserved quantityreserved reservedstock allocated allocatedqty
    allocatedquantity qtyallocated quantityallocated committed committedqty qtycommitted onhold reserviert
    reserviertemenge reservierterbestand 预留数量 预留 已预留 占用数量 占用 已占用 锁定数量 锁定 冻结数量 锁定库存
""")
IDENTIFIERS: Final[Mapping[str, tuple[str, ...]]] = {
    "pncode": _listed("""
        partno partnumber partnr mpn pn manufacturerpartno mfrpartno teilenummer herstellernummer 型号 规格型号 料号
    """),
    "brandname": _listed("""
        brand brandname manufacturer manufacturername make maker marke hersteller 品牌 厂牌 厂商 制造商
    """),
}
"""What ERPs call a marketplace's identifiers."""

STOCK_TABLE: Final = _listed("stock inventory inventories bin quant lager bestand 库存 仓库")
PRODUCT_TABLE: Final = _listed("""
    product item article artikel part material good goods sku variant 商品 产品 物料 货品 存货
""")
RESERVATION_TABLE: Final = _listed("reservation reserved allocation reservierung 预留 占用")
OTHER_TABLE: Final = RESERVATION_TABLE + _listed("""
    order invoice sale sales purchase shipment delivery receipt move movement transaction history log audit line cart
    basket price quote bom backup bak old tmp temp archive import export staging count forecast plan bestell rechnung
    liefer bewegung preis 订单 发票 出库 入库 流水 明细 日志 历史 价格 采购 销售 盘点 备份
""")
"""Tables with a SKU and a quantity that is not what lies in stock."""

_LONG: Final = 5
_TOKEN: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[^\W\d_a-zA-Z]+")


def plain(name: str) -> str:
    """A column's name without capitals and separators."""
    return re.sub(r"[\W_]+", "", name.casefold())


def is_about(name: str, known: Iterable[str]) -> bool:
    """Whether a table's name has one of these words; a long or Chinese one also inside another word."""
    tokens = [token.casefold() for token in _TOKEN.findall(name)]
    return any(
        token in (word, f"{word}s") or ((len(word) >= _LONG or not word.isascii()) and word in token)
        for token in tokens
        for word in known
    )
