"""Blocks: functions and classes whose ports and parameters are declared by annotations."""

import dis
import importlib
import importlib.util
import inspect
import json
import logging
import os
import re
import signal
import sys
import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NoReturn, TypeVar, overload

import numpy as np

from millpond import _millpond
from millpond._millpond import Frame, Out

_T = TypeVar("_T", bound=Callable[..., Any])
_Rate = Fraction | float | tuple[int, int]
# What `@block(rate_hz=...)` takes.
_RateOf = _Rate | Callable[..., _Rate | None] | None

_KINDS = {bool: "bool", int: "int", float: "float", str: "text", list[str]: "names", list[float]: "numbers"}


@dataclass(frozen=True, kw_only=True)
class Param:
    """What is to be said about a parameter beside its type: `drive: Annotated[float, Param(min=0.1, max=100, unit="dB")] = 1.0`.

    A value beyond `min` or `max` is refused, when the block is made and while it runs. `doc` says in a few words what it
    means. With `fixed` it cannot be set while the block runs, even if it otherwise could.
    """

    min: float | None = None
    max: float | None = None
    unit: str = ""
    doc: str = ""
    fixed: bool = False


@dataclass(frozen=True)
class _Port:
    name: str
    dtype: str | None
    """numpy's name, or `None`: any, and as `Frame`."""
    waits: bool = True
    """An input: there is no call without a frame of it."""
    optional: bool = False
    """An input that need not be connected."""
    shape: tuple[int | None, ...] = ()
    """Of an output's arrays; empty: any."""

    def spec(self, like: str | None = None, follows: str | None = None) -> dict[str, Any]:
        if self.dtype is not None:
            return {
                "name": self.name,
                "doc": f"arrays of {self.dtype}",
                "dtypes": [_millpond._dtype_name(self.dtype)],
                "shape": ["any" if extent is None else str(extent) for extent in self.shape],
                "follows": follows,
                "optional": self.optional,
            }
        return {"name": self.name, "doc": "arrays of any type", "like": like, "optional": self.optional}


@dataclass(frozen=True)
class _Type:
    """One type of block."""

    name: str
    inputs: list[_Port]
    passed: list[_Port]
    """Outputs that are arguments of `work`."""
    returned: list[_Port]
    """Outputs that are what `work` returns."""
    spec: dict[str, Any]
    make: Callable[..., "_Worker"]
    target: Callable[..., Any]
    source: str
    """Where another process finds it, as `load_types` takes it; empty: nowhere."""
    like: str | None
    """The input whose rate and description its outputs keep."""
    rate_hz: _RateOf
    """Of what it sends, if not that of its input."""


_types: dict[str, _Type] = {}


@overload
def block(target: _T) -> _T: ...
@overload
def block(
    target: None = None, *, rate_hz: _RateOf = None, shape: Sequence[int | None] = ()
) -> Callable[[_T], _T]: ...
def block(
    target: _T | None = None, *, rate_hz: _RateOf = None, shape: Sequence[int | None] = ()
) -> _T | Callable[[_T], _T]:
    """Makes a function or a class a type of block, which pipeline files can name; returns it unchanged.

    Positional parameters are input ports: `NDArray[np.float32]`, or `Frame` for frames of any type. `work` is called with one
    item of each. One annotated `... | None` is not waited for: `work` is called when any of these has an item, and has
    `None` for those that have none. With the default `None` it need not even be connected.

    The return annotation says what is sent: an array or a `Frame` on the port `out`, nothing where it is `None`; a
    `NamedTuple` of these has a port for each field. A positional parameter annotated `Out[np.float32]` is an output port of its
    name, which `work` sends on itself; `with out.loan(shape) as array:` there copies nothing.

    Keyword-only parameters are parameters of the block: `bool`, `int`, `float`, `str`, `Literal[...]`, `list[str]`,
    `list[float]`, with `Annotated[..., Param(...)]` for a range, or `... | None = None`. They can be set while the block
    runs, and count from the next call on. Without inputs the function is a generator; its end is the stream's end, and
    its parameters are fixed.

    A class has its parameters in `__init__`, its ports in `work`, and may have `finish`, whose result is sent at the end. A parameter
    can be set while it runs if `__init__` keeps it in an attribute of its name, or the class has a property of that
    name, whose setter is then called, and refuses a value by raising.

    Outputs keep the rate and the description of the first input's stream. `@block(rate_hz=...)` states another rate: a number, a pair
    of numerator and denominator, or a function of the input's rate (a `Fraction`, or `None` if it has none) and of the
    block's parameters by name: `rate_hz=lambda rate, *, factor: rate / factor`. `shape=(None, 2)` states what shape the arrays
    of its outputs have, with `None` for an extent that varies.

    >>> import numpy as np
    >>> from numpy.typing import NDArray
    >>> @block
    ... def halve(samples: NDArray[np.float32], *, factor: float = 0.5) -> NDArray[np.float32]:
    ...     return samples * np.float32(factor)
    >>> halve(np.ones(2, np.float32))
    array([0.5, 0.5], dtype=float32)
    """
    def register(target: _T) -> _T:
        described = _describe(target, rate_hz, tuple(shape))
        _types[described.name] = described
        return target

    return register if target is None else register(target)


def _type_name(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).replace("_", "-").lower()


def _describe(
    target: Callable[..., Any], rate_hz: _RateOf = None, shape: tuple[int | None, ...] = ()
) -> _Type:
    try:
        return _read(target, rate_hz, shape)
    except TypeError as error:
        raise TypeError(f"block {target.__name__}: {error}") from None


def _read(target: Callable[..., Any], rate_hz: _RateOf, shape: tuple[int | None, ...]) -> _Type:
    is_class = isinstance(target, type)
    work: Any = getattr(target, "work", None) if is_class else target
    if work is None:
        raise TypeError("a class needs a method `work`")
    hints = typing.get_type_hints(work, include_extras=True)
    inputs: list[_Port] = []
    passed: list[_Port] = []
    for parameter in list(inspect.signature(work).parameters.values())[is_class:]:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(f"expected ports and parameters by name, found `{parameter}`")
        if parameter.kind is not parameter.KEYWORD_ONLY:
            if parameter.name not in hints:
                raise TypeError(f"input `{parameter.name}` needs an annotation")
            hint = hints[parameter.name]
            if typing.get_origin(hint) is Out or hint is Out:
                passed.append(_checked(_Port(parameter.name, _scalar(typing.get_args(hint)))))
            elif passed:
                raise TypeError(f"inputs come before outputs, found `{parameter.name}` after `{passed[-1].name}`")
            else:
                inputs.append(_input(parameter, hint))
        elif is_class:
            raise TypeError(f"parameters belong into `__init__`, found `{parameter.name}`")
    passed = [replace(port, shape=shape) for port in passed]
    returned = [replace(port, shape=shape) for port in _outputs(hints.get("return", NoneType))]
    init: Any = target.__init__ if is_class else target
    of_params = typing.get_type_hints(init, include_extras=True) if is_class else hints
    params = []
    for parameter in list(inspect.signature(init).parameters.values())[is_class:]:
        if parameter.kind is parameter.KEYWORD_ONLY:
            can_be_set = _keeps(target, parameter.name) if isinstance(target, type) else bool(inputs)
            params.append(_param(parameter, of_params.get(parameter.name), can_be_set))
        elif is_class and parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            raise TypeError(f"parameters are keyword-only, found `{parameter.name}`: put a `*` before it")
    like = next((port.name for port in inputs if not port.optional), None)
    # An array that is returned has the stamp of the one input's frame; what is sent otherwise may have any.
    follows = inputs[0].name if len(inputs) == 1 else None
    spec = {
        "type": _type_name(target.__name__),
        "doc": (inspect.getdoc(target) or "").split("\n")[0].rstrip("."),
        "inputs": [port.spec() for port in inputs],
        "outputs": [port.spec(like) for port in passed] + [port.spec(like, follows) for port in returned],
        "params": params,
    }
    _millpond._check_spec(json.dumps(spec))
    described: _Type

    def make(**values: Any) -> _Worker:
        return _Worker(described, values)

    described = _Type(
        str(spec["type"]), inputs, passed, returned, spec, make, target, _source(target), like, rate_hz
    )
    return described


def _source(target: Callable[..., Any]) -> str:
    module = sys.modules.get(target.__module__)
    file = getattr(module, "__file__", None)
    path = os.path.abspath(file) if file else ""
    # A module of a package may import from it; any other file stands for itself. (What `python -m` runs is `__main__` only here.)
    spec = getattr(module, "__spec__", None)
    if spec is None or not spec.parent:
        return path
    # With the directory: another process does not look into that of this program, nor where this program alone was told to look.
    # A package that does not lie where its name says was found by other means, which both have.
    directory, in_package = os.path.dirname(path), os.sep + spec.parent.replace(".", os.sep)
    if directory.endswith(in_package):
        return f"{directory.removesuffix(in_package) or os.sep}:{spec.name}"
    return str(spec.name)


def _keeps(target: type, name: str) -> bool:
    """Whether an object of the class has what is set as an attribute of that name: a property, or what `__init__` stores."""
    known = inspect.getattr_static(target, name, None)
    if isinstance(known, property):
        return known.fset is not None
    inits = [base.__dict__["__init__"] for base in target.__mro__ if "__init__" in base.__dict__]
    return any(
        instruction.opname == "STORE_ATTR" and instruction.argval == name
        for init in inits
        if inspect.isfunction(init)
        for instruction in dis.get_instructions(init)
    )


def _without_none(hint: Any) -> tuple[Any, bool]:
    """The type in `... | None`, and whether it was one."""
    if typing.get_origin(hint) not in (typing.Union, UnionType):
        return hint, False
    hints = [part for part in typing.get_args(hint) if part is not NoneType]
    if len(hints) != 1 or len(hints) == len(typing.get_args(hint)):
        raise TypeError(f"expected one type, or one or None, found {hint}")
    return hints[0], True


def _param(parameter: inspect.Parameter, hint: Any, can_be_set: bool) -> dict[str, Any]:
    says = Param()
    plain, is_optional = _without_none(hint)
    if typing.get_origin(plain) is Annotated:
        plain, *notes = typing.get_args(plain)
        says = next((note for note in notes if isinstance(note, Param)), says)
        plain, inside = _without_none(plain)
        is_optional = is_optional or inside
    words = list(typing.get_args(plain)) if typing.get_origin(plain) is Literal else []
    kind = "one_of" if words and all(isinstance(word, str) for word in words) else _KINDS.get(plain)
    if kind is None:
        kinds = "bool, int, float, str, Literal of strings, list[str] or list[float]"
        raise TypeError(f"parameter `{parameter.name}`: expected {kinds}, found {hint}")
    default = None if parameter.default is parameter.empty else parameter.default
    return {
        "name": parameter.name,
        "doc": says.doc,
        "kind": kind,
        "words": words,
        "unit": says.unit,
        "default": default,
        "optional": is_optional and parameter.default is None,
        "fixed": says.fixed or not can_be_set,
        "min": says.min,
        "max": says.max,
    }


def _scalar(arguments: tuple[Any, ...]) -> str | None:
    """numpy's name of the type in `NDArray[...]` and `Out[...]`; `None`: none that is a single number type."""
    (scalar,) = arguments or (None,)
    return np.dtype(scalar).name if isinstance(scalar, type) and issubclass(scalar, np.generic) else None


def _port(name: str, hint: Any) -> _Port:
    if hint is Frame:
        return _Port(name, None)
    if typing.get_origin(hint) is np.ndarray:
        dtype = _scalar(typing.get_args(typing.get_args(hint)[1]))
        if dtype is not None:
            return _checked(_Port(name, dtype))
    raise TypeError(f"port `{name}`: expected NDArray[...] with a number type, or Frame, found {hint}")


def _checked(port: _Port) -> _Port:
    """The port, if a pond has its dtype."""
    try:
        port.spec()
    except TypeError as error:
        raise TypeError(f"port `{port.name}`: {error}") from None
    return port


def _input(parameter: inspect.Parameter, hint: Any) -> _Port:
    hint, may_be_none = _without_none(hint)
    if parameter.default is not parameter.empty and not (may_be_none and parameter.default is None):
        raise TypeError(
            f"input `{parameter.name}`: expected no default, or `| None = None`; parameters come after a `*`"
        )
    port = _port(parameter.name, hint)
    return replace(port, waits=not may_be_none, optional=parameter.default is None)


def _outputs(hint: Any) -> list[_Port]:
    hint, _ = _without_none(hint)
    origin = typing.get_origin(hint)
    if origin is not None and isinstance(origin, type) and issubclass(origin, Iterator):
        return _outputs(typing.get_args(hint)[0])
    if hint is None or hint is NoneType:
        return []
    if isinstance(hint, type) and issubclass(hint, tuple) and hasattr(hint, "_fields"):
        fields = typing.get_type_hints(hint)
        return [_port(field, _without_none(annotated)[0]) for field, annotated in fields.items()]
    return [_port("out", hint)]


class _Worker:
    """One block at work, as the runtime calls it."""

    def __init__(self, described: _Type, values: dict[str, Any]) -> None:
        self._described = described
        target = described.target
        self.inputs = [(port.name, port.waits, port.dtype is not None) for port in described.inputs]
        ports = described.passed + described.returned
        outs: list[Out[Any]] = [Out(port.dtype, name=port.name) for port in ports]
        self.outs = [(port.name, out, port.shape) for port, out in zip(ports, outs, strict=True)]
        self._passed, self._returned = outs[: len(described.passed)], outs[len(described.passed) :]
        self._made = target(**values) if isinstance(target, type) else None
        # A function has its parameters at each call.
        self._values = values if self._made is None else {}
        self._first_values = dict(values)
        self._work: Callable[..., Any] = target if self._made is None else self._made.work
        self._items: Iterator[Any] | None = None
        if not described.inputs:
            items = self._work(*self._passed, **self._values)
            if not isinstance(items, Iterator):
                raise TypeError(f"block {described.name}: without inputs it must be a generator (`yield`)")
            self._items = items

    @property
    def like(self) -> str | None:
        """The input whose rate and description the outputs keep."""
        return self._described.like

    def rate_hz(self, of_input: tuple[int, int] | None) -> tuple[int, int] | None:
        """The rate of what is sent, as numerator and denominator."""
        rate = self._described.rate_hz
        if rate is None:
            return of_input
        if callable(rate):
            rate = rate(None if of_input is None else Fraction(*of_input), **self._first_values)
            if rate is None:
                return None
        try:
            ratio = Fraction(*rate) if isinstance(rate, tuple) else Fraction(rate).limit_denominator(1_000_000)
        except (TypeError, ValueError, ZeroDivisionError, OverflowError):
            ratio = Fraction(0)
        if not (0 < ratio.numerator < 2**32 and ratio.denominator < 2**32):
            raise ValueError(
                f"block {self._described.name}: rate_hz: expected a number of Hz, or a pair of numerator and "
                f"denominator, more than 0 and less than 2**32, found {rate!r}"
            )
        return ratio.numerator, ratio.denominator

    def work(self, *inputs: Any) -> bool:
        """One call. False: the block is done."""
        if self._items is not None:
            end = object()
            result = next(self._items, end)
            if result is end:
                return False
        else:
            result = self._work(*inputs, *self._passed, **self._values)
        if result is not None:
            self._send(result)
        return True

    def set_param(self, name: str, value: Any) -> None:
        """A parameter has this value from now on."""
        if self._made is None:
            self._values[name] = value
        else:
            setattr(self._made, name, value)

    def finish(self) -> None:
        """After the last call."""
        finish = getattr(self._made, "finish", None)
        if finish is not None:
            self._send(finish(*self._passed) if inspect.signature(finish).parameters else finish())

    def _send(self, result: Any) -> None:
        if result is None:
            return
        # A generator sends several, one after the other.
        if isinstance(result, Iterator):
            for item in result:
                self._send(item)
            return
        results = result if hasattr(result, "_fields") else (result,)
        if len(results) != len(self._returned):
            raise TypeError(
                f"block {self._described.name}: expected {len(self._returned)} results, as its return annotation "
                f"says, found {len(results)}"
            )
        for out, item in zip(self._returned, results, strict=True):
            if item is not None:
                out.send(item)


class _ToPond(logging.Handler):
    """Python's `logging` into the pond's log."""

    def emit(self, record: logging.LogRecord) -> None:
        _millpond._log(record.levelno, self.format(record))


_USAGE = """\
This program has block types for Millpond. Pipeline files name it with `program`;
`millpond run` then starts it.

Commands:
  blocks [--json]                  its block types
  block TYPE NAME --pond POND      runs one block in this process
    [--param NAME=VALUE ...]
"""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The `main` of a program with block types of its own, which pipeline files name with `program`. Ends the program.

    `PROGRAM blocks` lists its types, `PROGRAM block TYPE NAME --pond POND --param NAME=VALUE` runs one.
    """
    _main(list(sys.argv[1:] if arguments is None else arguments), with_builtin=False)


def load_types(source: str) -> None:
    """Runs a file, or imports a module of a package, for the block types in it. Its `__name__` is not `__main__` then.

    `FILE.py`, `DIRECTORY:MODULE` with the directory of the outermost package, or `MODULE` if it is found without.
    """
    if not source.endswith(".py"):
        directory, _, name = source.rpartition(":")
        # One that is there keeps its place: what is installed shall not hide what comes with Python.
        if directory and directory not in sys.path:
            sys.path.insert(0, directory)
        importlib.import_module(name)
        return
    sys.path.insert(0, os.path.dirname(source))
    spec = importlib.util.spec_from_file_location("__mp_main__", source)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot read the block types in {source}")
    module = importlib.util.module_from_spec(spec)
    # Annotations are looked up there.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)


def _main(given: list[str], *, with_builtin: bool) -> NoReturn:
    if given and given[0] in ("help", "--help", "-h"):
        print(_USAGE, end="")
        sys.exit(0)
    # The runtime takes signals over: the first one drains, the second stops.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    logging.basicConfig(level=logging.INFO, handlers=[_ToPond()], format="%(name)s: %(message)s")
    try:
        code = _millpond._main([_for_rust(described) for described in _types.values()], given, with_builtin)
    except ValueError as error:
        print(f"{sys.argv[0]}: {error}\n\n{_USAGE}", end="", file=sys.stderr)
        sys.exit(2)
    except RuntimeError as error:
        sys.exit(f"{sys.argv[0]}: {error}")
    sys.exit(code)


def _for_rust(described: _Type) -> tuple[str, Callable[..., Any]]:
    return json.dumps(described.spec), described.make
