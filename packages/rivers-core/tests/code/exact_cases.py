"""Pieces of code whose values differ by one number, written `$`, that stands in unusual places."""

from __future__ import annotations

FOREIGN = """
def without_wraps(function):
    def call(*args):
        return function(*args)
    return call


def adder(n):
    def add(x):
        return x + n
    return add
"""

# By name: the module, whose asset's body is `a`, with the expression that it returns behind `a = `.
KNOWN = {
    "bound method of a pattern": "import re\nM = re.compile('a{$}').match\na = M('aaa').end()",
    "bound method of a set": "H = frozenset({$}).__contains__\na = H(2)",
    "default factory": "from collections import defaultdict\nR = defaultdict(lambda: $)\na = R['k']",
    "field with a factory": (
        "from dataclasses import dataclass, field\n@dataclass\nclass Row:\n"
        "    items: list = field(default_factory=lambda: [$])\na = Row().items"
    ),
    "subclass of dict": "class D(dict):\n    def __missing__(self, key): return $\nR = D()\na = R['k']",
    "subclass of int": "class M(int):\n    def tax(self): return self * $\nR = M(3)\na = R.tax()",
    "subclass of str": "class M(str):\n    def tax(self): return self * $\nR = M('x')\na = R.tax()",
    "subclass of date": (
        "import datetime\nclass D(datetime.date):\n    def tax(self): return $\nR = D(2020, 1, 1)\na = R.tax()"
    ),
    "attribute of a subclass": "class M(int): pass\nR = M(3)\nR.rate = $\na = R.rate",
    "slot of a subclass": "class D(dict):\n    __slots__ = ('rate',)\nR = D()\nR.rate = $\na = R.rate",
    "decorator without wraps": "import foreign_exact\n@foreign_exact.without_wraps\ndef h(): return $\na = h()",
    "closure of another package": "import foreign_exact\nh = foreign_exact.adder($)\na = h(1)",
    "singledispatch": (
        "from functools import singledispatch\n@singledispatch\ndef h(x): return 0\n"
        "@h.register(int)\ndef _(x): return $\na = h(1)"
    ),
    "field of an extra": ("import pydantic\nclass R(pydantic.BaseModel, extra='allow'): pass\nX = R(b=$)\na = X.b"),
    "private field": ("import pydantic\nclass R(pydantic.BaseModel):\n    _b: int = 1\nX = R()\nX._b = $\na = X._b"),
    "what is set after init": (
        "import dataclasses\n@dataclasses.dataclass\nclass R:\n    b: dataclasses.InitVar[int]\n"
        "    def __post_init__(self, b): self.rate = b\nX = R($)\na = X.rate"
    ),
    "own wrapper": (
        "import functools\nclass S:\n    def __init__(self, f, n):\n        functools.update_wrapper(self, f)\n"
        "        self.n = n\n    def __call__(self): return self.__wrapped__() * self.n\n"
        "def one(): return 1\nH = S(one, $)\na = H()"
    ),
    "class of a factory": (
        "def make(n):\n    class C:\n        def f(self): return n\n    return C\nC = make($)\na = C().f()"
    ),
    "list of a class": "class C:\n    R = {}\nC.R['k'] = $\na = C.R['k']",
    "method from elsewhere": "class C:\n    def f(self): return 1\ndef g(self): return $\nC.f = g\na = C().f()",
    "method by another's name": (
        "class C:\n    def f2(self): return 2\n    def f3(self): return 3\nC.h = C.f$\na = C().h()"
    ),
    "class in an else": (
        "if True:\n    class C:\n        def f(self): return $\nelse:\n    class C:\n        def f(self): return 0\n"
        "a = C().f()"
    ),
    "class without a statement": "import enum\nE = enum.Enum('E', {'A': $})\na = E.A.value",
    "model without a statement": "import pydantic\nE = pydantic.create_model('E', x=(int, $))\na = E().x",
    "dataclass without a statement": (
        "import dataclasses\nE = dataclasses.make_dataclass('E', [('x', int, $)])\na = E().x"
    ),
    "deque that is filled later": "from collections import deque\nD = deque()\nD.append($)\na = D[0]",
    "array that is filled later": "from array import array\nD = array('i')\nD.append($)\na = D[0]",
    "namespace that is filled later": "from types import SimpleNamespace\nN = SimpleNamespace()\nN.x = $\na = N.x",
    "generic model": (
        "import pydantic, typing\nT = typing.TypeVar('T')\nclass G(pydantic.BaseModel, typing.Generic[T]):\n"
        "    x: T\nX = G[int](x=$)\na = X.x"
    ),
    "attribute of a function": "def h(): return h.rate\nh.rate = $\na = h()",
    "property from elsewhere": "class C: pass\ndef g(self): return $\nC.f = property(g)\na = C().f",
}
LAZY = "def f(): return $\n"
# By name: the module, its others, and those that are imported before it is hashed.
IMPORTED = {
    "lazy from": ("def h():\n    from lazy_exact import f\n    return f()\na = h()", {"lazy_exact": LAZY}),
    "lazy import": ("def h():\n    import lazy_exact as m\n    return m.f()\na = h()", {"lazy_exact": LAZY}),
    "lazy module of a package": (
        "def h():\n    from pack_exact import lazy\n    return lazy.f()\na = h()",
        {"pack_exact/__init__": "", "pack_exact/lazy": LAZY},
    ),
    "lazy module with dots": (
        "def h():\n    import pack_exact.lazy\n    return pack_exact.lazy.f()\na = h()",
        {"pack_exact/__init__": "", "pack_exact/lazy": LAZY},
    ),
    "lazy module of a folder": (
        "def h():\n    from pack_exact.lazy import f\n    return f()\na = h()",
        {"pack_exact/lazy": LAZY},
    ),
    "first of two": (
        (
            "def h(one):\n    if one:\n        from lazy_exact import f\n    else:\n        from other_exact import f\n"
            "    return f()\na = h(True)"
        ),
        {"lazy_exact": LAZY, "other_exact": "def f(): return 0"},
    ),
    "two that are there": (
        (
            "import lazy_exact, other_exact\ndef h():\n    try:\n        from lazy_exact import f\n"
            "    except ImportError:\n        from other_exact import f\n    return f()\na = h()"
        ),
        {"lazy_exact": LAZY, "other_exact": "def f(): return 0"},
    ),
    "two lambdas in a line": (
        "import lazy_exact\nO = {'a': lambda: lazy_exact.f(), 'b': lambda: lazy_exact.f() + 1}\na = O['a']()",
        {"lazy_exact": LAZY},
    ),
}
# Values that are no plain ones, and code that is too deep: known by the statement that makes them, or not at all.
STRANGE = {
    "number with many digits": "X = 10**5000\na = X > 5",
    "deeply nested list": "X = []\nfor _ in range(3000): X = [X]\na = len(X)",
    "attribute that raises": (
        "import dataclasses\n@dataclasses.dataclass\nclass R:\n    n: int = 1\n    def __getattribute__(self, name):\n"
        "        if name == 'n': raise RuntimeError\n        return object.__getattribute__(self, name)\n"
        "X = R()\na = 2 if X else 0"
    ),
    "text that raises": ("class S(str):\n    def __repr__(self): raise RuntimeError('none')\nX = S('x')\na = len(X)"),
    "proxy": "class P:\n    def __getattr__(self, name): raise RuntimeError('none')\nX = P()\na = X is None",
}
UNKNOWN = {
    "long sum": ("a = len(" + "+".join(["'x'"] * 900) + ")", "RecursionError"),
    "long chain": ("a = 'x'" + ".strip()" * 400, "RecursionError"),
    "module that raises": ("import lazy_exact\na = lazy_exact.thing if 0 else 2", "ImportError"),
}
