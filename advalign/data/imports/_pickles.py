"""Pickles of plain values and NumPy arrays, read without running anything that a pickle may name.

A pickle is a program. This reader knows the few names that NumPy's own arrays need, and gives each a stand-in of its
own, so that neither numpy's code nor any other is called with what the file says. It refuses every other name.
"""

import math
import pickle
import re
import struct
from typing import IO, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

DAMAGED = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    MemoryError,
    OverflowError,
    RecursionError,
    struct.error,
)
"""What reading a damaged pickle raises."""
_PLAIN = re.compile(r"[|<>=]?[biufUS]\d{1,6}")  # kinds of items that are nothing but bytes


class Refused(Exception):  # noqa: N818  becomes a DataError
    """The pickle names something else; the text is its name."""


class Array:
    """Stand-in for numpy.ndarray.

    Attributes:
        values: the array of numbers or text; the list of its items where they are objects (one-dimensional arrays).
    """

    values: NDArray[Any] | list[Any]

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, content = state
        self.fill(shape, kind, "F" if fortran else "C", content)

    def fill(self, shape: Any, kind: Any, order: Any, content: Any) -> None:
        """Take what a pickle says of an array."""
        if not isinstance(kind, Kind) or not isinstance(shape, tuple) or order not in ("C", "F"):
            raise ValueError("an array has no shape or kind")
        if kind.code.startswith("O"):
            if not isinstance(content, list) or (len(content),) != shape:
                raise ValueError("an array of objects is not a list of them")
            self.values = content
            return
        content = content.encode("latin1") if isinstance(content, str) else content
        if not isinstance(content, bytes | bytearray):
            raise ValueError("the content of an array is not bytes")
        self.values = np.frombuffer(content, kind.dtype()).reshape(shape, order=order)


class Kind:
    """Stand-in for numpy.dtype."""

    def __init__(self, code: Any, *_: object) -> None:
        self.code = str(code)
        self._order = ""

    def __setstate__(self, state: Any) -> None:
        """Take the byte order; alignment says nothing about bytes."""
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else "|"
        self._order = order.decode("latin1") if isinstance(order, bytes) else str(order)

    def dtype(self) -> np.dtype[Any]:
        """NumPy's own, of numbers or text alone."""
        code = self.code if self.code[:1] in "|<>=" else self._order + self.code
        if not _PLAIN.fullmatch(code):
            raise ValueError(f"an array holds items of the kind {code[:20]!r}")
        return np.dtype(code)


def _reconstruct(*_: object) -> Array:
    return Array()


def _scalar(kind: Any, content: Any) -> Any:
    if not isinstance(kind, Kind):
        raise ValueError("a number has no kind")
    content = content.encode("latin1") if isinstance(content, str) else content
    return np.frombuffer(content, kind.dtype(), 1)[0].item()


def _frombuffer(content: Any, kind: Any, shape: Any, order: Any = "C", *_: object) -> Array:
    array = Array()
    array.fill(shape, kind, order, content)
    return array


def _encode(text: str, encoding: str) -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise ValueError("bytes are not written as latin1 text")
    return text.encode("latin1")


_ALLOWED: dict[tuple[str, str], Any] = {("numpy", "ndarray"): Array, ("numpy", "dtype"): Kind}
_ALLOWED |= {("_codecs", "encode"): _encode}
for _core in ("numpy.core", "numpy._core"):
    _ALLOWED[f"{_core}.multiarray", "_reconstruct"] = _reconstruct
    _ALLOWED[f"{_core}.multiarray", "scalar"] = _scalar
    _ALLOWED[f"{_core}.numeric", "_frombuffer"] = _frombuffer


class _Reader(pickle._Unpickler):  # in Python: a damaged index into its memo takes no memory, as in C it does
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise Refused(f"{module}.{name}")
        return _ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> NoReturn:
        raise Refused("an object outside of the file")


def read_pickle(file: IO[bytes], encoding: str = "latin1") -> Any:
    """Read one pickle of plain values and arrays; arrays become `Array`.

    Args:
        file: at the pickle's beginning.
        encoding: of 8-bit text that Python 2 wrote.

    Raises:
        Refused: it names anything else.
        one of `DAMAGED`: it is damaged, or no pickle.
    """
    return _Reader(file, encoding=encoding).load()


def is_number(value: object) -> bool:
    """Whether a value of a pickle is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
