"""Names of the areas that label volumes number."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from advalign.errors import DataError

KNOWN: dict[str, dict[int, str]] = {
    "prf-visualrois": {1: "V1", 2: "V1", 3: "V2", 4: "V2", 5: "V3", 6: "V3", 7: "hV4"},
    "streams": {
        1: "early", 2: "midventral", 3: "midlateral", 4: "midparietal", 5: "ventral", 6: "lateral", 7: "parietal",
    },
    "Kastner2015": {
        1: "V1", 2: "V1", 3: "V2", 4: "V2", 5: "V3", 6: "V3", 7: "hV4", 8: "VO", 9: "VO", 10: "PHC", 11: "PHC",
        12: "TO", 13: "TO", 14: "LO", 15: "LO", 16: "V3B", 17: "V3A", 18: "IPS", 19: "IPS", 20: "IPS", 21: "IPS",
        22: "IPS", 23: "IPS", 24: "SPL", 25: "FEF",
    },
}  # fmt: skip
"""Label file of NSD -> number -> area. Halves of an area are together, and its first and second map."""
UNKNOWN = "Unknown"
HALVES = {"V1v": "V1", "V1d": "V1", "V2v": "V2", "V2d": "V2", "V3v": "V3", "V3d": "V3"}


def named_areas(numbers: NDArray[np.generic], mapping: Mapping[int, str], where: str) -> NDArray[np.str_]:
    """The area of each vertex or voxel, "" where it is of none; ventral and dorsal halves are together.

    Args:
        numbers: of each, whole.
        mapping: number -> name; 0 and below are of no area.
        where: the file, for the message.

    Raises:
        DataError: a number has no name, or is not whole.

    >>> named_areas(np.array([0, 2, 7]), {1: "V1v", 2: "V1d", 7: "hV4"}, "lh.npy").tolist()
    ['', 'V1', 'hV4']
    """
    found = np.full(numbers.shape, "", dtype="U64")
    for number in np.unique(numbers):
        if number <= 0:
            continue
        name = mapping.get(int(number)) if number == int(number) else None
        if name is None:
            known = ", ".join(f"{key} {name}" for key, name in sorted(mapping.items())[:10])
            raise DataError(f"{where}: label {number:g} has no name (known: {known}): name the labels of this data set")
        found[numbers == number] = "" if name == UNKNOWN else HALVES.get(name, name)
    return found
