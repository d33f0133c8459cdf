"""Blocks: functions and classes whose ports and parameters are declared by annotations."""

import inspect
import importlib
import importlib.util
import logging
import os
import re
import signal
import sys
import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, NoReturn, TypeVar

import numpy as np

from millpond import _millpond
from millpond._millpond import Frame

_T = TypeVar("_T", bound=Callable[..., Any])

_KINDS = {bool: "bool", int: "int", float: "float", str: "text", list[str]: "names"}


@dataclass(frozen=True)
class _Port:
    name: str
    dtype: str | None
    """numpy's name, or `None`: any, and as `Frame`."""
    like: str | None = None


@dataclass(frozen=True)
class _Param:
    name: str
    kind: str
    default: Any


@dataclass(frozen=True)
class _Type:
    """One type of block."""

    name: str
    doc: str
    inputs: list[_Port]
    outputs: list[_Port]
    params: list[_Param]
    make: Callable[..., "_Worker"]
    target: Callable[..., Any]
    source: str
    """Where another process finds it: a file, or the name of a module in a package; empty: nowhere."""


_types: dict[str, _Type] = {}


def block(target: _T) -> _T:
    """Makes a function or a class a type of block, which pipeline files can name; returns it unchanged.

    Positional parameters are input ports, keyword-only ones are parameters of the block (`bool`, `int`, `float`, `str`,
    `list[str]`), the return annotation says what is sent: `NDArray[np.float32]` (or `... | None`) on the port `out`, or a
    `NamedTuple` of these with a port for each field. A port annotated `Frame` takes or sends frames of any type; arrays carry
    on the timestamp of the first input. Without inputs the function is a generator, and its end is the stream's end.

    A class has its parameters in `__init__`, its ports in `work`, and may have `finish`, whose result is sent at the end.

    >>> import numpy as np
    >>> from numpy.typing import NDArray
    >>> @block
    ... def halve(samples: NDArray[np.float32], *, factor: float = 0.5) -> NDArray[np.float32]:
    ...     return samples * np.float32(factor)
    >>> halve(np.ones(2, np.float32))
    array([0.5, 0.5], dtype=float32)
    """
    described = _describe(target)
    _types[described.name] = described
    return target


def _type_name(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).replace("_", "-").lower()


def _describe(target: Callable[..., Any]) -> _Type:
    is_class = isinstance(target, type)
    work: Any = getattr(target, "work", None) if is_class else target
    if work is None:
        raise TypeError(f"block {target.__name__}: a class needs a method `work`")
    hints = typing.get_type_hints(work)
    parameters = list(inspect.signature(work).parameters.values())[is_class:]
    made_by = inspect.signature(target) if not is_class else inspect.signature(target.__init__)
    inputs, params = [], []
    for parameter in parameters:
        if parameter.kind is not parameter.KEYWORD_ONLY:
            if parameter.name not in hints:
                raise TypeError(f"block {target.__name__}: input `{parameter.name}` needs an annotation")
            inputs.append(_port(target.__name__, parameter.name, hints[parameter.name]))
        elif is_class:
            raise TypeError(f"block {target.__name__}: parameters belong into `__init__`, found `{parameter.name}`")
    of_params = typing.get_type_hints(target.__init__) if is_class else hints
    for parameter in made_by.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY:
            params.append(_param(target.__name__, parameter, of_params.get(parameter.name)))
    outputs = _outputs(target.__name__, hints.get("return", NoneType), inputs)
    doc = (inspect.getdoc(target) or "").split("\n")[0].rstrip(".")
    described: _Type

    def make(**values: Any) -> _Worker:
        return _Worker(target, is_class, described, values)

    described = _Type(_type_name(target.__name__), doc, inputs, outputs, params, make, target, _source(target))
    return described


def _source(target: Callable[..., Any]) -> str:
    module = sys.modules.get(target.__module__)
    # A module of a package may import from it; any other file stands for itself.
    if getattr(module, "__package__", None):
        return target.__module__
    file = getattr(module, "__file__", None)
    return os.path.abspath(file) if file else ""


def _param(block: str, parameter: inspect.Parameter, hint: Any) -> _Param:
    kind = _KINDS.get(hint)
    if kind is None:
        raise TypeError(
            f"block {block}: parameter `{parameter.name}`: expected bool, int, float, str or list[str], found {hint}"
        )
    default = None if parameter.default is parameter.empty else parameter.default
    if kind == "float" and default is not None:
        default = float(default)
    return _Param(parameter.name, kind, default)


def _port(block: str, name: str, hint: Any, like: str | None = None) -> _Port:
    if hint is Frame:
        return _Port(name, None, like)
    if typing.get_origin(hint) is np.ndarray:
        (scalar,) = typing.get_args(typing.get_args(hint)[1]) or (None,)
        if isinstance(scalar, type) and issubclass(scalar, np.generic):
            return _Port(name, np.dtype(scalar).name)
    raise TypeError(f"block {block}: port `{name}`: expected NDArray[...] with a number type, or Frame, found {hint}")


def _outputs(block: str, hint: Any, inputs: list[_Port]) -> list[_Port]:
    if typing.get_origin(hint) in (typing.Union, UnionType):
        hints = [part for part in typing.get_args(hint) if part is not NoneType]
        if len(hints) != 1:
            raise TypeError(f"block {block}: expected one type or None as the result, found {hint}")
        (hint,) = hints
    origin = typing.get_origin(hint)
    if origin is not None and isinstance(origin, type) and issubclass(origin, Iterator):
        return _outputs(block, typing.get_args(hint)[0], inputs)
    if hint is NoneType:
        return []
    like = inputs[0].name if inputs else None
    if isinstance(hint, type) and issubclass(hint, tuple) and hasattr(hint, "_fields"):
        fields = typing.get_type_hints(hint)
        return [
            _Port(port.name, port.dtype, like if port.dtype is None else None)
            for field, annotated in fields.items()
            for port in _outputs(block, annotated, inputs)
            for port in [_Port(field, port.dtype)]
        ]
    return [_port(block, "out", hint, like)]


_Sent = list[tuple[str, object]]


class _Worker:
    """One block at work, as the runtime calls it."""

    def __init__(self, target: Callable[..., Any], is_class: bool, described: _Type, values: dict[str, Any]) -> None:
        self._described = described
        made = target(**values) if is_class else None
        self._finish = getattr(made, "finish", None)
        work: Callable[..., Any] = made.work if made is not None else lambda *inputs: target(*inputs, **values)
        self._work = work
        self._items: Iterator[Any] | None = None
        if not described.inputs:
            items = work()
            if not isinstance(items, Iterator):
                raise TypeError(f"block {described.name}: without inputs it must be a generator")
            self._items = items

    def work(self, frames: Sequence[Frame]) -> _Sent | None:
        """One call; `None`: the block is done."""
        if self._items is not None:
            end = object()
            item = next(self._items, end)
            return None if item is end else self._sent(item)
        inputs = zip(frames, self._described.inputs, strict=True)
        return self._sent(self._work(*(frame if port.dtype is None else frame.array for frame, port in inputs)))

    def finish(self) -> _Sent:
        """What is sent after the last call."""
        return self._sent(self._finish()) if self._finish is not None else []

    def _sent(self, result: Any) -> _Sent:
        if result is None:
            return []
        # A generator sends several, one after the other.
        if isinstance(result, Iterator):
            return [pair for item in result for pair in self._sent(item)]
        outputs = self._described.outputs
        results = result if hasattr(result, "_fields") else (result,)
        if len(results) != len(outputs):
            raise TypeError(f"block {self._described.name}: expected {len(outputs)} results, found {len(results)}")
        return [(port.name, _item(port, item)) for port, item in zip(outputs, results, strict=True) if item is not None]


def _item(port: _Port, item: Any) -> object:
    if isinstance(item, Frame):
        return item
    array = np.asarray(item)
    if port.dtype is not None and array.dtype != np.dtype(port.dtype):
        raise TypeError(f"output `{port.name}`: expected {port.dtype} as annotated, found {array.dtype}")
    return array


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
    """Runs a file, or imports a module of a package, for the block types in it. Its `__name__` is not `__main__` then."""
    if not source.endswith(".py"):
        importlib.import_module(source)
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


def _for_rust(described: _Type) -> tuple[Any, ...]:
    return (
        described.name,
        described.doc,
        [(port.name, _port_doc(port), port.dtype, port.like) for port in described.inputs],
        [(port.name, _port_doc(port), port.dtype, port.like) for port in described.outputs],
        [(param.name, "", param.kind, param.default) for param in described.params],
        described.make,
    )


def _port_doc(port: _Port) -> str:
    return "arrays of any type" if port.dtype is None else f"arrays of {port.dtype}"
