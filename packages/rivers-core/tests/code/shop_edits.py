"""A package of assets, and edits of it: those that change nothing, and those that change some of its assets."""

from __future__ import annotations

ASSETS = '''\
"""The assets of a shop."""

import functools
import logging
import re

import rivers as rs

from . import prices
from .cleaning import clean, strip as strip_text
from .limits import LIMITS, Limits

LOG = logging.getLogger(__name__)
RATE = 1.2
COUNTRIES = {"DE", "FR"}
ROUNDING = {"DE": 2, "FR": 3}
WORD = re.compile(r"\\w+")
_CACHE: dict[str, int] = {}


def remember(function):
    """Return a function that keeps its values."""

    @functools.wraps(function)
    def wrapper(**inputs):
        return function(**inputs)

    return wrapper


@rs.Asset(tags=["raw"])
def orders() -> list[str]:
    """Return the orders."""
    # two of them
    lines = ["a 1", "b 2"]
    for number, line in enumerate(lines):
        LOG.info("line %s: %s", number, line)
    return lines


@rs.Asset
def cleaned(orders: list[str]) -> list[str]:
    return [clean(order) for order in orders if WORD.match(order)]


@rs.Asset
def priced(cleaned: list[str]) -> list[float]:
    total = 0.0
    found = []
    for item in cleaned:
        price = prices.price_of(item)
        total += price
        found.append(price * RATE)
    return found


@rs.Asset
def limited(priced: list[float]) -> list[float]:
    return [min(one, LIMITS.most) for one in priced if Limits.is_valid(one)]


@rs.Asset
@remember
def report(limited: list[float], orders: list[str]) -> str:
    from .text import render

    try:
        return render(limited, ROUNDING, sorted(COUNTRIES))
    except ValueError as error:
        return str(error)


def make(n):
    @rs.Asset(name=f"made_{n}")
    def made() -> int:
        return n * 2

    return made


made_1 = make(1)
made_2 = make(2)
'''
CLEANING = '''\
SEPARATOR = " "


def strip(text: str) -> str:
    return text.strip(SEPARATOR)


def clean(text: str, *, deep: bool = False) -> str:
    """Return a clean text."""
    if deep and text:
        return clean(text[1:], deep=is_deep(text))
    return strip(text)


def is_deep(text: str) -> bool:
    return bool(text) and len(clean(text)) > 3
'''
PRICES = """\
from functools import lru_cache

BASE: float = 10.0


@lru_cache
def price_of(item: str) -> float:
    base = BASE
    return base + (lambda text: len(text))(item)


def unused() -> float:
    return BASE * 2
"""
LIMITS = '''\
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """The limits."""

    most: float = 100.0

    @staticmethod
    def is_valid(value: float) -> bool:
        return value > 0


LIMITS = Limits()
'''
TEXT = """\
import json


class Writer:
    def __init__(self, width: int) -> None:
        self.width = width

    def write(self, values: list[float]) -> str:
        return json.dumps(values)[: self.width]


WRITER = Writer(80)


def render(values: list[float], rounding: dict[str, int], countries: list[str]) -> str:
    return WRITER.write(values)
"""
ASSET_LIMITED = """\
@rs.Asset
def limited(priced: list[float]) -> list[float]:
    return [min(one, LIMITS.most) for one in priced if Limits.is_valid(one)]


"""
WRITER = """\
class Writer:
    def __init__(self, width: int) -> None:
        self.width = width

    def write(self, values: list[float]) -> str:
        return json.dumps(values)[: self.width]


"""
FILES = {
    "writing.py": "",
    "assets.py": ASSETS,
    "cleaning.py": CLEANING,
    "prices.py": PRICES,
    "limits.py": LIMITS,
    "text.py": TEXT,
}
UPSTREAMS = {
    "cleaned": {"orders"},
    "priced": {"cleaned"},
    "limited": {"priced"},
    "report": {"limited", "orders"},
}
NAMES = ("orders", "cleaned", "priced", "limited", "report", "made_1", "made_2")

Edit = tuple[str, str, str]
COSMETIC: dict[str, tuple[Edit, ...]] = {
    "comment added": (("assets.py", "    lines = [", "    # here they are\n    lines = ["),),
    "comment removed": (("assets.py", "    # two of them\n", ""),),
    "comment in a helper": (("cleaning.py", "    return strip(text)", "    return strip(text)  # at last"),),
    "docstring changed": (("assets.py", "Return the orders.", "Return every order."),),
    "docstring removed": (("cleaning.py", '    """Return a clean text."""\n', ""),),
    "docstring added": (("prices.py", "    base = BASE", '    """Return a price."""\n    base = BASE'),),
    "docstring of a module": (("assets.py", "The assets of a shop.", "All assets."),),
    "docstring of a class": (("limits.py", "The limits.", "Limits of a price."),),
    "blank lines": (("assets.py", "    total = 0.0\n", "\n\n    total = 0.0\n\n"),),
    "line broken": (("assets.py", '["a 1", "b 2"]', '[\n        "a 1",\n        "b 2",\n    ]'),),
    "quotes": (("assets.py", '["a 1", "b 2"]', "['a 1', 'b 2']"),),
    "parentheses": (("cleaning.py", "if deep and text:", "if (deep and (text)):"),),
    "number written otherwise": (("limits.py", "most: float = 100.0", "most: float = 1_00.0"),),
    "local renamed": (
        ("assets.py", "price = prices.price_of(item)", "cost = prices.price_of(item)"),
        (
            "assets.py",
            "total += price\n        found.append(price * RATE)",
            "total += cost\n        found.append(cost * RATE)",
        ),
    ),
    "loop variable renamed": (
        ("assets.py", "for number, line in enumerate(lines):", "for i, text in enumerate(lines):"),
        ("assets.py", "number, line)", "i, text)"),
    ),
    "comprehension variable renamed": (
        (
            "assets.py",
            "clean(order) for order in orders if WORD.match(order)",
            "clean(one) for one in orders if WORD.match(one)",
        ),
    ),
    "exception renamed": (("assets.py", "as error:\n        return str(error)", "as e:\n        return str(e)"),),
    "local of a helper renamed": (("prices.py", "base = BASE\n    return base +", "start = BASE\n    return start +"),),
    "annotation of a local": (("assets.py", "    total = 0.0", "    total: float = 0.0"),),
    "annotation of a parameter": (("cleaning.py", "def strip(text: str) -> str", "def strip(text: 'str')"),),
    "annotation of a constant": (("prices.py", "BASE: float = 10.0", "BASE = 10.0"),),
    "function moved within its file": (
        ("cleaning.py", "def is_deep(text: str) -> bool:\n    return bool(text) and len(clean(text)) > 3\n", ""),
        (
            "cleaning.py",
            "def strip(",
            "def is_deep(text: str) -> bool:\n    return bool(text) and len(clean(text)) > 3\n\n\ndef strip(",
        ),
    ),
    "function moved to another file": (
        (
            "text.py",
            "import json\n",
            "import json\n\nSEPARATOR = ' '\n\n\ndef strip(text: str) -> str:\n    return text.strip(SEPARATOR)\n",
        ),
        (
            "cleaning.py",
            'SEPARATOR = " "\n\n\ndef strip(text: str) -> str:\n    return text.strip(SEPARATOR)\n',
            "from .text import strip\n",
        ),
    ),
    "asset moved within its file": (
        ("assets.py", ASSET_LIMITED, ""),
        ("assets.py", "def make(n):", f"{ASSET_LIMITED}def make(n):"),
    ),
    "asset moved to another file": (
        ("assets.py", ASSET_LIMITED, "from .text import limited\n\n\n"),
        ("text.py", "import json\n", "import json\n\nimport rivers as rs\n\nfrom .limits import LIMITS, Limits\n"),
        ("text.py", "WRITER = Writer(80)\n", f"WRITER = Writer(80)\n\n\n{ASSET_LIMITED}"),
    ),
    "class moved to another file": (
        ("text.py", WRITER, "from .writing import Writer\n\n\n"),
        ("writing.py", "", f"import json\n\n\n{WRITER}"),
    ),
    "file formatted": (
        ("prices.py", "from functools import lru_cache\n\nBASE", "from functools import (\n    lru_cache,\n)\nBASE"),
        (
            "prices.py",
            "@lru_cache\ndef price_of(item: str) -> float:",
            "@lru_cache\ndef price_of(\n  item: str,\n) -> float:",
        ),
        (
            "prices.py",
            "return base + (lambda text: len(text))(item)",
            "return (\n        base\n        + (lambda text : len( text ))(item)\n    )",
        ),
    ),
    "helper renamed": (
        ("cleaning.py", "def strip(", "def strip_ends("),
        ("cleaning.py", "return strip(text)", "return strip_ends(text)"),
        ("assets.py", "strip as strip_text", "strip_ends as strip_text"),
    ),
    "module renamed in its import": (
        ("assets.py", "from . import prices", "from . import prices as costs"),
        ("assets.py", "prices.price_of", "costs.price_of"),
    ),
    "unused function changed": (("prices.py", "return BASE * 2", "return BASE * 3"),),
    "unused import removed": (("assets.py", ", strip as strip_text", ""),),
    "tags changed": (("assets.py", 'tags=["raw"]', 'tags=["raw", "daily"]'),),
}
CHANGES: dict[str, tuple[set[str], tuple[Edit, ...]]] = {
    "constant in the body": ({"orders"}, (("assets.py", '"b 2"]', '"b 3"]'),)),
    "constant of the module": ({"priced"}, (("assets.py", "RATE = 1.2", "RATE = 1.3"),)),
    "constant in a helper's module": ({"cleaned"}, (("cleaning.py", 'SEPARATOR = " "', 'SEPARATOR = "-"'),)),
    "constant in a helper": ({"cleaned"}, (("cleaning.py", "text[1:]", "text[2:]"),)),
    "constant behind a circle": ({"cleaned"}, (("cleaning.py", "> 3", "> 4"),)),
    "constant behind a cache": ({"priced"}, (("prices.py", "BASE: float = 10.0", "BASE: float = 11.0"),)),
    "operator in a lambda": ({"priced"}, (("prices.py", "base + (", "base - ("),)),
    "default of a dataclass": ({"limited"}, (("limits.py", "= 100.0", "= 99.0"),)),
    "method of a class": ({"limited"}, (("limits.py", "value > 0", "value >= 0"),)),
    "set of the module": ({"report"}, (("assets.py", '{"DE", "FR"}', '{"DE", "IT"}'),)),
    "dict of the module": ({"report"}, (("assets.py", '"DE": 2', '"DE": 4'),)),
    "pattern of the module": ({"cleaned"}, (("assets.py", r'"\w+"', r'"\d+"'),)),
    "argument of an object": ({"report"}, (("text.py", "Writer(80)", "Writer(40)"),)),
    "class of an object": ({"report"}, (("text.py", "[: self.width]", "[1 : self.width]"),)),
    "decorator of the package": (
        {"report"},
        (("assets.py", "return function(**inputs)", "return function(**inputs) or None"),),
    ),
    "default of a helper": ({"cleaned"}, (("cleaning.py", "deep: bool = False", "deep: bool = True"),)),
    "order of statements": (
        {"priced"},
        (
            (
                "assets.py",
                "        total += price\n        found.append(price * RATE)",
                "        found.append(price * RATE)\n        total += price",
            ),
        ),
    ),
    "value that is closed over": ({"made_2"}, (("assets.py", "make(2)", "make(3)"),)),
    "body of a factory": ({"made_1", "made_2"}, (("assets.py", "return n * 2", "return n * 3"),)),
    "log message": ({"orders"}, (("assets.py", '"line %s: %s"', '"%s: %s"'),)),
}
