"""Hashes of functions with all that they use of their own package.

    function ──▶ syntax ──▶ references ──▶ functions and classes of the same package, which are followed in turn
                                      └──▶ plain values, by value
                                      └──▶ other objects of the module, by the statement that makes them
                                      └──▶ everything else, by name

A hash has no names of functions or modules in it, so a function that is renamed or moved with its callers keeps it.
"""

from __future__ import annotations

import builtins
import functools
import importlib.util
import sys
import types
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, NamedTuple

from rivers._code.bytecode import digest_bytecode
from rivers._code.home import CodeHome
from rivers._code.imports import MISSING, Imports
from rivers._code.late import late_token
from rivers._code.objects import (
    cells_of,
    foreign_parts,
    generic_of,
    is_made_by_call,
    is_method_of,
    methods_in,
    name_of,
    own_state,
    self_of,
    wrapped_in,
)
from rivers._code.source import ModuleSource, load_source
from rivers._code.syntax import Reference, Syntax, digest_class, digest_function, digest_statements
from rivers._code.values import UnknownValueError, ValueEncoder

__all__ = ["CodeHash", "CodeHasher"]

MOST_PARTS = 10_000
"""Functions and classes that one function may use before its hash is given up."""
# Attributes of a class that are read alive.
_ATTRIBUTES = frozenset({bool, int, float, str, bytes, tuple, list, dict, set, frozenset})


class CodeHash(NamedTuple):
    """The hash of a function.

    `digest` is None if it cannot be known, and `unknown` says why. `parts` has a short hash by the name of each
    function and class that it uses, its own first.
    """

    digest: bytes | None
    parts: dict[str, str]
    unknown: str = ""


class CodeHasher:
    """A hasher of functions for one run: values of modules are read anew, syntax is kept in the process.

    It imports the modules of the package that functions import when they run; without `imports` it imports nothing, and
    a function that needs a module of its own that is not loaded has no hash.
    """

    def __init__(self, *, imports: bool = True) -> None:
        self.imports = imports
        self._found: dict[int, tuple[Any, CodeHash]] = {}
        self._sources: dict[str, ModuleSource | None] = {}

    def hash(self, function: Callable[..., Any]) -> CodeHash:
        """Return the hash of a function and of what it uses in its package."""
        closed = _closed.get(id(function))
        if closed is not None and closed[1] is function.__code__ and not function.__defaults__:
            return closed[2]
        known = self._found.get(id(function))
        if known is None:
            # The function is kept, as its id is only its own while it lives.
            known = self._found[id(function)] = (function, _walk(self, function, function))
            _keep_if_closed(function, known[1])
        return known[1]

    def hash_value(self, value: Any, user: Callable[..., Any] | None) -> CodeHash:
        """Return the hash of a value with the code that it uses in the package of the function that uses it, if any."""
        return _walk(self, value, user)

    def source(self, filename: str, module_globals: dict[str, Any]) -> ModuleSource | None:
        """Return the source of a module, looked at once in a run."""
        if filename not in self._sources:
            self._sources[filename] = load_source(filename, module_globals)
        return self._sources[filename]


# By the identity of code and class objects, which are kept so that it stays theirs.
_syntax: dict[int, tuple[Any, Syntax]] = {}

# Functions that look up nothing outside of themselves, whose hash is always the same; with the code that it is of.
_closed: dict[int, tuple[Any, types.CodeType, CodeHash]] = {}
_MOST_CLOSED = 100_000


def _keep_if_closed(function: Any, found: CodeHash) -> None:
    """Keep the hash of a function for later runs if nothing but its code decides it."""
    if not isinstance(function, types.FunctionType) or function.__closure__ or function.__defaults__:
        return
    known = _syntax.get(id(function.__code__))
    if known is not None and not known[1].references and not function.__kwdefaults__ and found.digest is not None:
        if len(_closed) >= _MOST_CLOSED:
            _closed.clear()
        _closed[id(function)] = (function, function.__code__, found)


def _walk(hasher: CodeHasher, value: Any, user: Callable[..., Any] | None) -> CodeHash:
    """Return the hash of a value; whatever goes wrong means that it cannot be known."""
    try:
        return _Walk(hasher, value, user).run()
    except Exception as error:  # noqa: BLE001 - attributes and texts of objects may raise anything
        return CodeHash(None, {}, _say(error))


def _say(error: Exception) -> str:
    """Return why something cannot be known, without the texts of others' errors, which may have values in them."""
    return str(error) if isinstance(error, UnknownValueError) else f"reading it raised {type(error).__name__}"


class _Walk:
    """The walk from one value, mostly a function, over all that it uses."""

    def __init__(self, hasher: CodeHasher, entry: Any, user: Callable[..., Any] | None) -> None:
        self._hasher = hasher
        self._entry = entry
        self._home = CodeHome(user)
        self._imports = Imports(self._home, hasher.imports)
        self._order: dict[int, int] = {}
        self._kept: list[Any] = []
        self._tokens: list[str] = []
        self._parts: dict[str, str] = {}
        self._values = ValueEncoder(self._encode_object)

    def run(self) -> CodeHash:
        try:
            self._tokens.append(self._values.encode(self._entry))
            # `_kept` grows while it is walked.
            for found in self._kept:
                self._visit(found)
                if len(self._kept) > MOST_PARTS:
                    raise UnknownValueError(f"it uses more than {MOST_PARTS:,} functions and classes of its package")
        except Exception as error:  # noqa: BLE001 - attributes and texts of objects may raise anything
            return CodeHash(None, self._parts, _say(error))
        text = "\0".join(self._tokens).encode("utf-8", "surrogatepass")
        return CodeHash(blake2b(text, digest_size=16).digest(), self._parts)

    # ── what is followed ──

    def _encode_object(self, value: Any) -> str | None:
        """Return the token of a function, a class, a module or a definition; None for other objects."""
        if isinstance(value, types.ModuleType):
            return f"module {value.__name__}"
        if isinstance(value, type):
            if is_made_by_call(value):
                raise UnknownValueError(f"no class statement makes {name_of(value)}")
            return self._class(value) if self._home.owns(value.__module__) else name_of(value)
        if isinstance(value, types.FunctionType):
            if self._home.owns(value.__globals__.get("__name__")):
                return self._follow(value)
            return self._foreign(value)
        if isinstance(value, types.BuiltinFunctionType | types.MethodWrapperType):
            bound = self_of(value)
            return name_of(value) if bound is None else f"{name_of(value)} of {self._values.encode(bound)}"
        if isinstance(value, types.MethodDescriptorType | types.WrapperDescriptorType):
            return name_of(value)
        if isinstance(value, types.MethodType):
            return f"method {self._values.encode(value.__func__)} of {self._values.encode(value.__self__)}"
        if isinstance(value, functools.partial):
            parts = (value.func, value.args, value.keywords)
            return f"partial {' '.join(map(self._values.encode, parts))}"
        if isinstance(value, staticmethod | classmethod):
            return self._values.encode(value.__func__)
        if isinstance(value, property):
            return self._values.encode((value.fget, value.fset, value.fdel))
        wrapped = wrapped_in(value)
        if wrapped is not None:
            return self._wrapper(type(value), *wrapped)
        if self._home.owns(type(value).__module__) and callable(value):
            raise UnknownValueError(f"it calls an object of {name_of(type(value))}")
        return None

    def _class(self, cls: type) -> str:
        generic = generic_of(cls)
        if generic is not None:
            return f"generic {self._values.encode(generic)}"
        source = self._source_of(cls.__module__)
        if source is not None and cls.__qualname__ not in source.classes:
            raise UnknownValueError(f"no class statement makes {name_of(cls)}")
        return self._follow(cls)

    def _follow(self, value: Any) -> str:
        index = self._order.get(id(value))
        if index is None:
            index = self._order[id(value)] = len(self._order)
            self._kept.append(value)
        return f"#{index}"

    def _foreign(self, function: types.FunctionType) -> str:
        """Return the token of another package's function: its name, and what it wraps or closes over."""
        name = f"{function.__globals__.get('__name__')}:{function.__code__.co_qualname}"
        parts = foreign_parts(function)
        return name if parts is None else f"{name} {parts[0]} {self._values.encode(parts[1])}"

    def _wrapper(self, cls: type, inner: Any, state: dict[str, Any]) -> str:
        token = f"wrapped {self._values.encode(inner)}"
        # Of another package's wrapper, the expression that made it counts.
        return f"{token} {self._class(cls)} {self._values.encode(state)}" if self._home.owns(cls.__module__) else token

    # ── one function or class ──

    def _visit(self, found: Any) -> None:
        if isinstance(found, type):
            own = self._class_tokens(found)
            name = name_of(found)
        else:
            own = self._function_tokens(found)
            name = f"{found.__globals__.get('__name__')}:{found.__code__.co_qualname}"
        self._tokens += own
        local = "\0".join(token for token in own if not token.startswith("#"))
        self._parts.setdefault(name, blake2b(local.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest())

    def _function_tokens(self, function: types.FunctionType) -> list[str]:
        syntax = self._syntax_of(function)
        cells = cells_of(function)
        module_globals = function.__globals__
        tokens = [syntax.digest.hex()]
        tokens += [self._reference(one, module_globals, cells) for one in syntax.references]
        # Defaults are made once, of values that may have changed since.
        for default in (function.__defaults__, function.__kwdefaults__):
            if default:
                # That of a function within another one may have come from there.
                is_local = "<locals>" in function.__code__.co_qualname
                tokens.append(self._values.encode(default) if is_local else self._try_encode(default))
        state = own_state(vars(function))
        return [*tokens, self._try_encode(state)] if state else tokens

    def _syntax_of(self, function: types.FunctionType) -> Syntax:
        code = function.__code__
        # Not by equality: hashing a code object hashes all of its constants.
        known = _syntax.get(id(code))
        if known is None:
            known = _syntax[id(code)] = (code, self._read_syntax(function))
        return known[1]

    def _read_syntax(self, function: types.FunctionType) -> Syntax:
        code, module_globals = function.__code__, function.__globals__
        source = self._hasher.source(code.co_filename, module_globals)
        node = source.function(code) if source is not None else None
        if node is None:
            return digest_bytecode(code)
        cells = cells_of(function)

        def is_of_rivers(reference: Reference) -> bool:
            """Return whether a decorator makes a definition, whose settings are no code."""
            found = self._look_up(reference, module_globals, cells)[0]
            module = getattr(found, "__module__", None) or type(found).__module__
            return isinstance(module, str) and module.split(".")[0] == "rivers"

        return digest_function(node, is_of_rivers)

    def _class_tokens(self, cls: type) -> list[str]:
        module = sys.modules.get(cls.__module__)
        module_globals = vars(module) if module is not None else {}
        source = self._source_of(cls.__module__)
        nodes = source.classes.get(cls.__qualname__, ()) if source is not None else ()
        tokens: list[str] = ["class"]
        if not nodes:
            tokens.append(cls.__qualname__)
            tokens += [self._values.encode(base) for base in cls.__bases__]
        for node in nodes:
            syntax = digest_class(node)
            tokens.append(syntax.digest.hex())
            tokens += [self._reference(one, module_globals, {}) for one in syntax.references]
        # The live class, too: its source may have been edited since it was imported.
        for name, value in vars(cls).items():
            # Names like `_member_map_` are those of enums, which keep members there that code has asked for.
            if type(value) in _ATTRIBUTES and not (name.startswith("_") and name.endswith("_")):
                tokens.append(f"{name}={self._try_encode(value)}")
            for function in methods_in(value):
                if not self._home.owns(function.__globals__.get("__name__")):
                    # As pydantic makes them; what decorators make of methods is in the syntax.
                    tokens.append(f"{name}={self._try_encode(function)}")
                elif not is_method_of(cls, name, source, bool(nodes), function):
                    tokens.append(f"{name}={self._values.encode(function)}")
                else:
                    cells = cells_of(function)
                    tokens += [self._values.encode(cells[one]) for one in sorted(cells) if one != "__class__"]
        return tokens

    # ── references ──

    def _reference(self, reference: Reference, module_globals: dict[str, Any], cells: dict[str, Any]) -> str:
        if reference.module is not None and not self._hasher.imports:
            late = late_token(self._home, reference, module_globals)
            if late is not None:
                return late
        value, rest = self._look_up(reference, module_globals, cells)
        if value is MISSING:
            # The body would raise a NameError, or the name is bound only later; then the hash changes.
            return f"missing {reference.module or ''} {reference.name}{''.join(f'.{one}' for one in rest)}"
        try:
            token = self._values.encode(value)
        except Exception as error:  # noqa: BLE001 - attributes and texts of objects may raise anything
            token = self._statement(reference, module_globals, cells, _say(error))
        return f"{token}{''.join(f'.{one}' for one in rest)}" if rest else token

    def _look_up(
        self, reference: Reference, module_globals: dict[str, Any], cells: dict[str, Any]
    ) -> tuple[Any, tuple[str, ...]]:
        """Return the value of a reference, and the attributes that are left behind the last module."""
        rest = reference.attributes
        if reference.module is not None:
            value = self._imports.find(reference, module_globals)
        elif reference.name in cells:
            value = cells[reference.name]
        else:
            value = module_globals.get(reference.name, MISSING)
            if value is MISSING:
                value = getattr(builtins, reference.name, MISSING)
        while rest and isinstance(value, types.ModuleType):
            inner = self._imports.attribute(value, rest[0])
            if inner is MISSING:
                break
            value, rest = inner, rest[1:]
        return value, rest

    def _statement(
        self, reference: Reference, module_globals: dict[str, Any], cells: dict[str, Any], reason: str
    ) -> str:
        """Return the token of an object that is no plain value: the statement of its module that makes it."""
        if reference.name in cells and reference.module is None:
            raise UnknownValueError(f"it closes over {reference.name!r}: {reason}")
        module, name = self._origin(reference, module_globals)
        if not self._home.owns(module):
            return f"{module}:{name}"
        source = self._source_of(module)
        nodes = source.bindings.get(name) if source is not None else None
        if not nodes:
            raise UnknownValueError(f"it uses {reference.name or reference.module!r}: {reason}")
        syntax = digest_statements(nodes, name)
        inner = vars(sys.modules[module])
        key = id(nodes)
        if key in self._order:
            # A statement that needs itself by way of a function.
            return f"statement #{self._order[key]}"
        self._order[key] = len(self._order)
        parts = [self._reference(one, inner, {}) for one in syntax.references]
        return f"statement {syntax.digest.hex()} {' '.join(parts)}"

    def _origin(self, reference: Reference, module_globals: dict[str, Any]) -> tuple[str, str]:
        """Return the module and the name under which an object was made, through the imports of its package."""
        module, name = str(module_globals.get("__name__")), reference.name
        for attribute in reference.attributes:
            found = vars(sys.modules[module]).get(name) if module in sys.modules else None
            if not isinstance(found, types.ModuleType):
                break
            module, name = found.__name__, attribute
        if reference.module is not None:
            package = str(module_globals.get("__package__") or "")
            module = importlib.util.resolve_name(reference.module, package)
        # Imports may be circular.
        for _ in range(20):
            imported = self._imported_from(module, name) if self._home.owns(module) else None
            if imported is None:
                break
            module, name = imported
        return module, name

    def _imported_from(self, module: str, name: str) -> tuple[str, str] | None:
        source = self._source_of(module)
        for statement in (source.bindings.get(name) or ()) if source is not None else ():
            for alias in getattr(statement, "names", ()):
                target = getattr(statement, "module", None)
                if (alias.asname or alias.name) == name and (target or getattr(statement, "level", 0)):
                    package = getattr(sys.modules[module], "__package__", "") or ""
                    dots = "." * getattr(statement, "level", 0)
                    return importlib.util.resolve_name(dots + (target or ""), package), alias.name
        return None

    def _source_of(self, module: str) -> ModuleSource | None:
        loaded = sys.modules.get(module)
        filename = getattr(loaded, "__file__", None)
        return self._hasher.source(filename, vars(loaded)) if filename and loaded is not None else None

    def _try_encode(self, value: Any) -> str:
        try:
            return self._values.encode(value)
        except Exception:  # noqa: BLE001 - attributes and texts of objects may raise anything
            # Its expression is in the syntax.
            return "default"
