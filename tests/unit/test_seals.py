"""Seals: every change of a file is noticed, in every format that can hold a text."""

import os
import random

import numpy as np
import pandas as pd
import pytest
import torch

from advalign import seals
from advalign.data.hdf5 import sealed_hdf5
from advalign.data.results import read_kept, read_rows, stored_identity, write_kept, write_table
from advalign.errors import DataError


def write_state(path):
    with seals.sealing(path) as temporary:
        torch.save({"weights": torch.arange(50.0), seals.KEY: seals.OPEN}, temporary)


def write_hdf5(path):
    with sealed_hdf5(path) as file:
        file["betas"] = np.arange(50.0)
        file.attrs["provenance"] = "measured"


WRITERS = {
    "a.json": lambda path: seals.write_json(path, {"pt": 0.5, "name": "ä"}),
    "a.parquet": lambda path: write_table(path, pd.DataFrame({"norm_l2": [0.1, None], "status": ["ok", "no"]}), "i"),
    "a.safetensors": lambda path: write_kept(path, {3: torch.rand(3, 4, 4)}, "i"),
    "a.h5": write_hdf5,
    "a.pt": write_state,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_flipped_bit_and_every_cut_is_noticed(tmp_path, name):
    path = tmp_path / name
    WRITERS[name](path)
    assert seals.is_whole(path)
    content, chance = path.read_bytes(), random.Random(1)
    for place in chance.sample(range(len(content)), min(len(content), 300)):
        changed = bytearray(content)
        changed[place] ^= 1 << chance.randrange(8)
        path.write_bytes(changed)
        assert not seals.is_whole(path), place
    for size in (0, 1, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        assert not seals.is_whole(path), size
    path.write_bytes(content + b"\n")
    assert not seals.is_whole(path)


@pytest.mark.parametrize("name", [name for name in WRITERS if name != "a.pt"])  # PyTorch writes the temporary name
def test_the_same_content_is_the_same_bytes(tmp_path, name):
    torch.manual_seed(0)
    WRITERS[name](tmp_path / name)
    first = (tmp_path / name).read_bytes()
    torch.manual_seed(0)
    WRITERS[name](tmp_path / name)
    assert (tmp_path / name).read_bytes() == first


def test_what_was_written_is_read(tmp_path):
    seals.write_json(tmp_path / "a.json", {"pt": 0.5, "name": "ä"})
    assert seals.read_json(tmp_path / "a.json", "") == {"pt": 0.5, "name": "ä"}
    table = pd.DataFrame({"norm_l2": [0.1, None], "correct": [[1, 2], []]})
    write_table(tmp_path / "a.parquet", table, "of the rows")
    assert read_rows(tmp_path / "a.parquet").to_json() == table.to_json()
    kept = {12: torch.rand(3, 4, 4), 2: torch.zeros(1)}
    write_kept(tmp_path / "a.safetensors", kept, "of the tensors")
    found = read_kept(tmp_path / "a.safetensors")
    assert found.keys() == kept.keys()
    assert all(torch.equal(found[position], kept[position]) for position in kept)
    identities = [stored_identity(tmp_path / name) for name in ("a.parquet", "a.safetensors", "absent.parquet")]
    assert identities == ["of the rows", "of the tensors", None]


def test_a_copy_of_a_seal_is_no_seal(tmp_path):
    """Two seals in a file, or the seal of another file, seal nothing."""
    for name in ("a.json", "b.json"):
        seals.write_json(tmp_path / name, {"name": name})
    a, b = ((tmp_path / name).read_text() for name in ("a.json", "b.json"))
    seal = a[a.index(seals.MARK) :][: len(seals.OPEN)]
    (tmp_path / "b.json").write_text(b.replace(b[b.index(seals.MARK) :][: len(seals.OPEN)], seal))
    assert not seals.is_whole(tmp_path / "b.json")
    (tmp_path / "a.json").write_text(a + seal)
    assert not seals.is_whole(tmp_path / "a.json")


def test_damage_is_one_line_that_names_the_file_and_the_mend(tmp_path, capsys):
    path = tmp_path / "a.json"
    path.write_text("{}")
    with pytest.raises(DataError) as caught:
        seals.read_json(path, "compute it again")
    assert str(caught.value).startswith(f"{path} is damaged")
    assert str(caught.value).endswith(": compute it again")
    for _ in range(2):
        seals.say_damaged(path, "it is computed again")
    assert capsys.readouterr().err.count("\n") == 1  # once for each state of the file
    os.utime(path, (1, 1))
    seals.say_damaged(path, "it is computed again")
    assert str(path) in capsys.readouterr().err


def test_a_writer_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    seals.write_json(path, {"pt": 1})
    with pytest.raises(TypeError):
        seals.write_json(path, {"pt": object()})
    with pytest.raises(AssertionError, match="without a seal"), seals.sealing(path) as temporary:
        temporary.write_text("no seal")
    assert seals.read_json(path, "") == {"pt": 1}
    assert [one.name for one in tmp_path.iterdir()] == ["a.json"]
