"""TVSD: multi-unit activity of two macaques in V1, V4 and IT to the THINGS images (Papale et al. 2025).

`THINGS_normMUA.mat` holds, per electrode, the normalised response to each of 22,248 training images, shown once, and to
each repeat of 100 test images; `_logs/things_imgs.mat` says which images they are. Which electrodes lie in which area
differs between the monkeys.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from advalign.data.hdf5 import dataset, open_hdf5, values
from advalign.data.imports._place import stem_of
from advalign.data.imports.responses._mat import mat_texts
from advalign.data.imports.responses._plan import Block, Plan, Session, distinct, need_file
from advalign.errors import DataError, unknown_name

AREAS: dict[str, tuple[tuple[str, int], ...]] = {
    "F": (("V1", 512), ("IT", 320), ("V4", 192)),
    "N": (("V1", 512), ("V4", 256), ("IT", 256)),
}
"""Monkey -> areas and how many electrodes are in each, in the order of the file."""
WHAT = "THINGS_normMUA.mat of TVSD"
IMAGES = "things_imgs.mat of TVSD"
ROWS = 2048  # images that are read together


def plan_tvsd(source: Path, images: Path, monkey: str, areas: dict[str, tuple[tuple[str, int], ...]] = AREAS) -> Plan:
    """The plan of one monkey.

    Args:
        source: `THINGS_normMUA.mat`.
        images: `things_imgs.mat`.
        monkey: "F" or "N".
        areas: where the electrodes are.

    Raises:
        DataError: the files are not those, or do not fit together.
    """
    if monkey not in areas:
        raise unknown_name("monkey", monkey, areas)
    need_file(source, WHAT)
    need_file(images, IMAGES)
    rois = [roi for roi, electrodes in areas[monkey] for _ in range(electrodes)]
    train, test = _images(images)
    _check_shapes(source, len(train), len(test), len(rois), monkey)

    def blocks() -> Iterator[Block]:
        with open_hdf5(source, WHAT) as file:
            data = dataset(file, "train_MUA")
            for start in range(0, len(train), ROWS):
                betas = values(data, slice(start, start + ROWS)).astype(np.float32)
                yield Block(np.arange(start, start + len(betas)), betas, "train")
            data = dataset(file, "test_MUA_reps")
            for repeat in range(data.shape[0]):
                betas = values(data, repeat).astype(np.float32)
                there = ~np.isnan(betas).all(axis=1)
                yield Block(len(train) + np.flatnonzero(there), betas[there], "test")

    return Plan(
        images=pd.DataFrame({"id": [*train, *test]}),
        units=pd.DataFrame({"roi": rois, "subject": f"monkey{monkey}"}),
        sessions=[Session(source.name, [source], blocks)],
        normalisation="normalised within day by the authors",
        description=f"TVSD, monkey {monkey}: multi-unit activity to THINGS images",
        files=[images],
    )


def _images(path: Path) -> tuple[list[str], list[str]]:
    """Names of the training and of the test images, without suffix, in the order of the responses."""
    with open_hdf5(path, IMAGES) as file:
        train, test = (
            [stem_of(one.replace("\\", "/")) for one in mat_texts(file, f"{part}_imgs/things_path", IMAGES)]
            for part in ("train", "test")
        )
    distinct([*train, *test], str(path))
    return train, test


def _check_shapes(source: Path, train: int, test: int, electrodes: int, monkey: str) -> None:
    with open_hdf5(source, WHAT) as file:
        once, reps = (dataset(file, name, WHAT).shape for name in ("train_MUA", "test_MUA_reps"))
    if once != (train, electrodes):
        raise _misfit(source, "train_MUA", once, (train, electrodes), monkey)
    if len(reps) != 3 or reps[1:] != (test, electrodes):
        raise _misfit(source, "test_MUA_reps", reps, ("repeats", test, electrodes), monkey)


def _misfit(source: Path, name: str, got: tuple[int, ...], wanted: tuple[object, ...], monkey: str) -> DataError:
    expected = f"({', '.join(map(str, wanted))}) for monkey {monkey} and these images"
    swapped = tuple(reversed(got)) == wanted
    mend = "the axes are swapped: save it as the authors did" if swapped else "name the files of one monkey"
    return DataError(f"{source}: {name} has shape {got}, expected {expected}: {mend}")
