"""MATLAB's files of version 5 hold the numbers that SciPy wrote, packed or not; damaged ones are refused."""

import struct

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from advalign.data.imports.responses._mat5 import read_mat5
from advalign.errors import DataError

VARIABLES = {
    "double": np.arange(24.0).reshape(2, 3, 4) / 7,
    "single": np.float32([[1.5, -2]]),
    "bytes": np.array([[1, 2, 3]], np.uint8),
    "large": np.array([[2**40]], np.int64),
    "one": 3.0,
    "empty": np.zeros((0, 4)),
    "a_name_that_is_longer": np.int16([[7]]),
    "text": "not a number",
    "structure": {"field": np.ones(3)},
    "complex": np.array([[1j]]),
}
NUMBERS = [name for name in VARIABLES if name not in ("text", "structure", "complex")]


@pytest.mark.parametrize("packed", [False, True])
def test_numbers_are_those_of_scipy(tmp_path, packed):
    path = tmp_path / "x.mat"
    savemat(path, VARIABLES, do_compression=packed)
    found = read_mat5(path)
    assert list(found) == NUMBERS
    for name, one in found.items():
        wanted = loadmat(path)[name]
        assert one.shape == wanted.shape and one.values().dtype == wanted.dtype
        np.testing.assert_array_equal(one.values(), wanted)


def test_doubles_that_matlab_keeps_as_bytes_and_the_other_byte_order(tmp_path):
    """MATLAB keeps whole doubles in the narrowest type, which SciPy's writer never does: written by hand."""

    def element(order, kind, content):
        if len(content) <= 4:
            return struct.pack(f"{order}I", len(content) << 16 | kind) + content.ljust(4, b"\0")
        return struct.pack(f"{order}II", kind, len(content)) + content + bytes(-len(content) % 8)

    for order, mark in (("<", b"IM"), (">", b"MI")):
        parts = [
            (6, struct.pack(f"{order}II", 6, 0)),
            (5, struct.pack(f"{order}ii", 1, 3)),
            (1, b"order"),
            (4, struct.pack(f"{order}HHH", 1, 500, 30_000)),
        ]
        body = b"".join(element(order, *part) for part in parts)
        path = tmp_path / "x.mat"
        path.write_bytes(b"MATLAB 5.0".ljust(124) + struct.pack(f"{order}H", 0x0100) + mark + element(order, 14, body))
        (one,) = read_mat5(path).values()
        assert one.values().tolist() == [[1.0, 500.0, 30_000.0]] and one.values().dtype.kind == "f"


@pytest.mark.parametrize("packed", [False, True])
def test_whatever_is_damaged_is_one_line(tmp_path, packed):
    path = tmp_path / "x.mat"
    savemat(path, VARIABLES, do_compression=packed)
    good, random = path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        content = bytearray(good[: random.integers(1, len(good))] if random.random() < 0.3 else good)
        for place in random.integers(0, len(content), 3):
            content[place] = random.integers(0, 256)
        path.write_bytes(content)
        try:
            for one in read_mat5(path).values():
                one.values()
        except DataError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 100
