"""The products of the sample ERP: invented by a seed, named as the makers name theirs."""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product as combine
from itertools import zip_longest
from typing import Final

_FAMILIES: Final = """
YAGEO | Resistor 1 % | RC{0201|0402|0603|0805|1206|2010}FR-07{10|12|15|22|33|47|68|100|220|330|470}{R|K|M}L
Murata | MLCC | GRM{155|188|21B|31C}{R7|R6|C8}1{A|C|E|H}{102|103|104|105|106}K{A88|A12}D
STMicroelectronics | MCU Cortex-M | STM32{F030|F103|F407|G031|G431|H743}{F|K|C|R|V|Z}{4|6|8|B|C|E}{T|U|H}6
TI | Converter | {TPS5430|TPS62130|LM5164|TLV1117-33|TPS7A4700}{DDAR|DBVR|DR|RTYR|QDRQ1}
TI | Analog | {LM358|OPA2340|INA226|TLV9062|SN74LVC1G08}{DR|DGKR|PWR|QDBVRQ1}
NXP | Interface | {PCA9548A|TJA1051|PCF8563|74HC595}{PW|BS|T}{,118|,112|-Q100J}
NXP | MCU Cortex-M | {LPC1768F|LPC54606J|MIMXRT1062D}{BD100|BD144|VL6A}{|K|,551}
Vishay | Diode | {1N4148W|BAT54S|SMAJ5.0A|SMBJ24CA}-{E3|M3|HE3}{-08|/61|/5A}
兆易创新 | MCU 微控制器 | GD32{F103|F303|F450|E230|VF103}{C|R|V|Z}{8|B|C|E|G}T6
圣邦微电子 | LDO 稳压器 | SGM{2019|2036|2040|2212}-{1.2|1.8|2.5|3.3|5.0}Y{N5G|C5G|DH4G}/TR
顺络 Sunlord | 功率电感 | SWPA{3012|4020|5040|6045|8040}S{1R0|2R2|4R7|100|220|470|101}{M|N}T
"""
"""Brand, name, and the part numbers with their alternatives in braces."""

_DOCUMENTED: Final = ("1211LL的ON2", "世强", "接插件 ON2")
"""The part number that Sekorm's own document gives as its example."""

_Part = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Product:
    """A product of the ERP. `part_no` and `brand` name it at Sekorm, `ymatou_code` at Ymatou."""

    sku: str
    part_no: str
    brand: str
    name: str
    ymatou_code: str
    safety_stock: int


def make_catalogue(count: int, seed: int) -> list[Product]:
    """Return `count` products with unique names, the same for the same arguments."""
    chance = random.Random(seed)  # noqa: S311 - invents part numbers
    codes = chance.sample(range(100_000, 1_000_000 + count), count)
    parts = _parts(chance)
    return [
        Product(f"P{100_001 + i}", *next(parts), str(code), chance.choice((0, 0, 0, 2, 5, 10)))
        for i, code in enumerate(codes)
    ]


def _parts(chance: random.Random) -> Iterator[_Part]:
    """Yield part number, brand and name without end: each family in turn, later as other packing units."""
    families = []
    for line in _FAMILIES.strip().splitlines():
        brand, name, pattern = line.split(" | ")
        family = [(part_no, brand, name) for part_no in _expand(pattern)]
        chance.shuffle(family)
        families.append(family)
    parts = [_DOCUMENTED, *(part for row in zip_longest(*families) for part in row if part)]
    yield from parts
    reel = 2
    while True:
        yield from ((f"{part_no}-R{reel}", brand, name) for part_no, brand, name in parts)
        reel += 1


def _expand(pattern: str) -> list[str]:
    """Return every text that `pattern` stands for: `a{b|c}` is `ab` and `ac`."""
    pieces = [piece.split("|") for piece in re.split(r"[{}]", pattern)]
    return ["".join(choice) for choice in combine(*pieces)]
