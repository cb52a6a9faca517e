"""Trials as every source of clicks gives them: batches of rows, checked value by value."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from advalign.errors import DataError, shown

COLUMNS = {
    "image": ("image_path", "file_pointer"),
    "participant": ("user_id",),
    "clicks": ("clicks",),
    "x": ("x", "clickmap_x"),
    "y": ("y", "clickmap_y"),
    "catch": ("catch_score", "user_catch_trial"),
    "mobile": ("is_mobile",),
}
"""What a column holds -> its names in the sources, the first that is there counts."""
WANTED = "image_path, user_id and clicks (or x and y), and perhaps catch_score and is_mobile"
PER_CLICK = "one row per click: group them into one row per trial with a column clicks"
FARTHEST = 1e6  # pixels from the image's corner: no image is as large
MEND = "fix that row, or remove it"
LONGEST_NAME = 500  # bytes of a path or a participant's name
_NAMES = (pa.types.is_integer, pa.types.is_binary, pa.types.is_string, pa.types.is_large_string)  # kinds of columns
_CONTROL = r"[\x00-\x1f\x7f]"
_TRUE, _FALSE = {"true", "t", "1", "1.0", "yes"}, {"false", "f", "0", "0.0", "no"}


@dataclass(frozen=True)
class Trials:
    """N trials in the order of their source, with C clicks in all.

    Attributes:
        first: row of the first one in the source, from 1.
        images: paths as the source gives them.
        participants: their names.
        x, y: (C,) pixels.
        lengths: (N,) clicks of each trial.
        catch: (N,) share of catch trials passed; NaN: unknown.
        mobile: booleans; null: unknown.
        share: of the source that is read when these are.
    """

    first: int
    images: pa.StringArray
    participants: pa.StringArray
    x: NDArray[np.float32]
    y: NDArray[np.float32]
    lengths: NDArray[np.int64]
    catch: NDArray[np.float32]
    mobile: pa.BooleanArray
    share: float


class Rows:
    """The rows of a source from `first` on: what an error names."""

    def __init__(self, file: Path, first: int) -> None:
        self.file, self.first = file, first

    def refuse(self, index: int, flaw: str, fix: str = MEND) -> NoReturn:
        """Raise a DataError that names the file and the row."""
        raise DataError(f"{self.file}: row {self.first + index} (without the header): {flaw}: {fix}")

    def refuse_any(self, flawed: NDArray[np.bool_], flaw: Callable[[int], str]) -> None:
        """Refuse the first flawed row, if there is one."""
        if flawed.any():
            index = int(flawed.argmax())
            self.refuse(index, flaw(index))

    def names(self, column: pa.Array, what: str) -> pa.StringArray:
        """A column of paths or participants as text without spaces around it.

        Raises:
            DataError: not UTF-8, empty, with control characters, or longer than `LONGEST_NAME`.
        """
        kind = column.type
        if pa.types.is_dictionary(kind):
            column = column.dictionary_decode()
        elif not any(test(kind) for test in _NAMES):
            raise DataError(f"{self.file}: {what} is a column of {kind}, expected text: save it as text")
        try:
            text = column.cast(pa.string())
        except pa.ArrowInvalid:
            self.refuse(_no_utf8(column.to_pylist()), f"{what} is not UTF-8 text")
        text = pc.utf8_trim_whitespace(pc.fill_null(text, ""))
        size = pc.binary_length(text).to_numpy(zero_copy_only=False)
        control = pc.match_substring_regex(text, _CONTROL).to_numpy(zero_copy_only=False)
        self.refuse_any(size == 0, lambda _: f"{what} is empty")
        self.refuse_any(size > LONGEST_NAME, lambda row: f"{what} {shown(text[row].as_py())} has {size[row]} bytes")
        self.refuse_any(control, lambda row: f"{what} {shown(text[row].as_py())} has control characters")
        return text

    def coordinates(self, axis: str, values: NDArray[np.float64], lengths: NDArray[np.int64]) -> NDArray[np.float32]:
        """(C,) coordinates as data/participants stores them.

        Raises:
            DataError: not finite, or farther than `FARTHEST` from the image.
        """
        wrong = ~(np.abs(values) <= FARTHEST)
        if wrong.any():
            click = int(wrong.argmax())
            index = int(np.searchsorted(np.cumsum(lengths), click, side="right"))
            limit = f"expected pixels of the image, from 0, within {FARTHEST:,.0f}"
            self.refuse(index, f"a click has the {axis} coordinate {values[click]:g}, {limit}")
        return values.astype(np.float32)

    def shares(self, values: Sequence[Any], column: str) -> NDArray[np.float32]:
        """(N,) catch scores: numbers from 0 to 1, or text of one; empty: NaN.

        Raises:
            DataError: anything else.
        """
        wanted, fix = "expected a share from 0 to 1, or nothing", "divide percentages by 100, or leave it empty"
        return np.array(self._each(values, _share, column, wanted, fix), np.float32)

    def booleans(self, values: Sequence[Any], column: str) -> pa.BooleanArray:
        """Booleans, or text of one, or lists of one; empty: null.

        Raises:
            DataError: anything else.
        """
        wanted = "expected true or false, or nothing"
        return pa.array(self._each(values, _boolean, column, wanted, MEND), pa.bool_())

    def _each(
        self, values: Sequence[Any], parse: Callable[[Any], Any], column: str, wanted: str, fix: str
    ) -> list[Any]:
        known: dict[Any, Any] = {}
        parsed = []
        for index, value in enumerate(values):
            key = tuple(value) if isinstance(value, list) else value
            try:
                if key not in known:
                    known[key] = parse(value)
            except (ValueError, TypeError):
                said = value.decode(errors="replace") if isinstance(value, bytes) else value
                self.refuse(index, f"{column} is {shown(said)}, {wanted}", fix)
            parsed.append(known[key])
        return parsed


def _no_utf8(values: Sequence[bytes | None]) -> int:
    """Index of the first value that is not UTF-8."""
    for index, value in enumerate(values):
        try:
            (value or b"").decode()
        except UnicodeDecodeError:
            return index
    return 0


def _single(value: Any) -> Any:
    """The value itself; of a list with one, that one; text without spaces and brackets; None where there is nothing."""
    if isinstance(value, list | tuple):
        if len(value) > 1:
            raise ValueError("several values")
        value = value[0] if value else None
    if isinstance(value, bytes):
        value = value.decode()
    if isinstance(value, str):
        value = value.strip().strip("[]").strip().lower()
        value = None if value in ("", "nan", "none", "null") else value
    return None if value is None or value != value else value


def _share(value: Any) -> float:
    value = _single(value)
    if value is None:
        return float("nan")
    number = float(value)
    if not 0 <= number <= 1:
        raise ValueError("not a share")
    return number


def _boolean(value: Any) -> bool | None:
    value = _single(value)
    if value is None:
        return None
    word = str(value).lower()
    if word not in _TRUE | _FALSE:
        raise ValueError("not a boolean")
    return word in _TRUE


def columns_of(names: Sequence[str], file: Path) -> dict[str, str]:
    """Which column holds what: keys of `COLUMNS` -> names in the source.

    Raises:
        DataError: one that is needed is missing, or there twice.
    """
    found = {}
    for what, known in COLUMNS.items():
        name = next((one for one in known if one in names), None)
        if name is None:
            continue
        if list(names).count(name) > 1:
            raise DataError(f"{file}: column {name} is there twice: remove one of them")
        found[what] = name
    if "clicks" in found:
        found = {what: name for what, name in found.items() if what not in ("x", "y")}
    missing = [what for what in ("image", "participant") if what not in found]
    missing += [] if "clicks" in found else [what for what in ("x", "y") if what not in found]
    if missing:
        name = "clicks" if missing == ["x", "y"] else COLUMNS[missing[0]][0]
        raise DataError(f"{file}: column {name} is missing (there are: {shown(list(names))}): expected {WANTED}")
    return found
