"""Clicks as text: pairs (x,y), separated by commas, perhaps in quotes, braces or brackets."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from advalign.data.imports._trials import Rows
from advalign.errors import shown

EXAMPLE = "{(12,34),(56,78)}"
_NUMBER = r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,3})?"
_PAIR = rf"[\"']?\s*\(\s*{_NUMBER}\s*,\s*{_NUMBER}\s*\)\s*[\"']?"
_CLICKS = rf"^[\s\"']*[\[{{]?\s*({_PAIR}(\s*,\s*{_PAIR})*)?\s*[\]}}]?[\s\"']*$"
_NOTHING = {"nan", "na", "n/a", "none", "null"}  # how tables say that there is no value
_KEPT = b"0123456789+-.eE"
_TO_SPACES = bytes(code if code in _KEPT else 32 for code in range(256))


def parse_clicks(column: pa.Array, rows: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Read the pairs of N trials.

    Args:
        column: text; null and empty text are trials without clicks.
        rows: what an error names.

    Returns:
        (C,) x, (C,) y, and (N,) clicks of each trial.

    Raises:
        DataError: a text is not pairs of numbers.
    """
    text = pc.fill_null(column.cast(pa.binary()), b"")
    good = pc.match_substring_regex(text, _CLICKS).to_numpy(zero_copy_only=False)

    def flaw(index: int) -> str:
        said = text[index].as_py().decode(errors="replace")
        if said.strip("\"' ").lower() in _NOTHING:
            rows.refuse(index, f"clicks are {shown(said)}, expected pairs or nothing", "leave it empty")
        cut = f" ({len(said)} characters, which end in {shown(said[-20:])})" if len(said) > 120 else ""
        return f"clicks are {shown(said)}{cut}, expected pairs such as {EXAMPLE}"

    rows.refuse_any(~good, flaw)
    lengths = pc.count_substring(text, "(").to_numpy(zero_copy_only=False).astype(np.int64)
    numbers = np.empty(0)
    if lengths.sum():
        numbers = np.fromstring(b" ".join(text.to_pylist()).translate(_TO_SPACES), np.float64, sep=" ")
    assert len(numbers) == 2 * lengths.sum(), "the pattern lets more pass than pairs"
    return numbers[0::2], numbers[1::2], lengths
