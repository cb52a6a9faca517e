"""NSD: 7T responses of eight people to 73,000 natural scenes (Allen et al. 2022), session by session.

`betas_session01.hdf5` holds trials x z x y x x whole numbers, 300 times the response in per cent; the NIfTI version is
transposed (x, y, z, trials), as are the volumes that number the areas. On surfaces there is a file per hemisphere.
`nsd_expdesign.mat` says which image each trial showed. Images that all subjects saw are the validation set.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from advalign.data.hdf5 import dataset, open_hdf5, values
from advalign.data.imports.responses._mat import mat_array
from advalign.data.imports.responses._nibabel import load_volume, read_volume
from advalign.data.imports.responses._plan import Block, Plan, Session, need_folder
from advalign.data.imports.responses._rois import KNOWN, named_areas
from advalign.data.reliability import zscored
from advalign.errors import DataError, InputError

SESSIONS = (40, 40, 32, 30, 40, 32, 40, 30)
"""Sessions of subjects 1 to 8."""
TRIALS = 750  # of a session
SHARED = 1000  # values of masterordering up to which an image was shown to all subjects
SCALE = 300  # betas that are whole numbers are so many times the response in per cent
ROWS = 50  # trials that are read together
HEMISPHERES = ("lh", "rh")
KINDS = {
    "hdf5": re.compile(r"betas_session(\d\d)\.hdf5"),
    "nifti": re.compile(r"betas_session(\d\d)\.nii(?:\.gz)?"),
    "mgh": re.compile(r"(?:lh|rh)\.betas_session(\d\d)\.mg[hz]"),
}
Reader = Callable[[Path], NDArray[np.float32]]
BETAS = "betas of NSD"
LABELS = "a label file of NSD"


@dataclass(frozen=True)
class NsdFiles:
    """Where the files are.

    Attributes:
        betas: folder with the sessions of one subject.
        design: `nsd_expdesign.mat`.
        labels: volumes (or surfaces, both hemispheres of each) that number the areas; where they disagree, the first
            counts. Their names say which: `KNOWN`.
    """

    betas: Path
    design: Path
    labels: Sequence[Path]


def plan_nsd(files: NsdFiles, subject: int, sessions: int | None = None, normalise: bool = True) -> Plan:
    """The plan of one subject.

    Args:
        files: where they are.
        subject: 1 to 8.
        sessions: how many, from the first; None: all that the subject had.
        normalise: z-score each voxel within each session, which NSD's authors advise.

    Raises:
        DataError: a session is missing, or files do not fit together.
    """
    if not 1 <= subject <= len(SESSIONS):
        raise InputError(f"subject {subject}: NSD has subjects 1 to {len(SESSIONS)}")
    found = _sessions(files.betas, SESSIONS[subject - 1] if sessions is None else sessions, subject)
    shown_image, shared = _design(files.design, subject)
    needed = TRIALS * len(found)
    if needed > len(shown_image):
        raise DataError(f"{files.design}: {len(shown_image)} trials, {len(found)} sessions need {needed}: fetch it")
    masks = _label_sets(files.labels, found[0])
    used = np.unique(shown_image[:needed])
    image = np.searchsorted(used, shown_image[:needed]).reshape(-1, TRIALS)
    split = np.where(shared[:needed], 1, 0).reshape(-1, TRIALS)
    read = _readers(found[0], masks)
    rois = np.concatenate([mask[mask != ""] for mask in masks])
    return Plan(
        images=pd.DataFrame({"id": [f"nsd-{one - 1:05d}" for one in used]}),
        units=pd.DataFrame({"roi": rois, "subject": f"subj{subject:02d}"}),
        sessions=[
            Session(f"session {n + 1}", paths, partial(_blocks, paths, read, image[n], split[n], normalise))
            for n, paths in enumerate(found)
        ],
        normalisation="z-scored within session" if normalise else "none (per cent signal change)",
        description=f"NSD, subject {subject}: responses to natural scenes",
        files=[files.design, *files.labels],
    )


def _blocks(
    paths: Sequence[Path], read: Sequence[Reader], image: NDArray[np.int64], split: NDArray[np.int64], normalise: bool
) -> Iterator[Block]:
    """The one block of a session."""
    betas = np.concatenate([one(path) for one, path in zip(read, paths, strict=True)], axis=1)
    if len(betas) != TRIALS:
        raise DataError(f"{paths[0]} holds {len(betas)} trials, expected {TRIALS}: fetch it again")
    yield Block(image, zscored(betas.astype(np.float64), np.zeros(len(betas))) if normalise else betas, split)


def _sessions(folder: Path, wanted: int, subject: int) -> list[list[Path]]:
    """Files of each session: one, or one per hemisphere."""
    need_folder(folder, f"the one with {BETAS}")
    for kind, pattern in KINDS.items():
        found: dict[int, list[Path]] = {}
        for path in sorted(folder.iterdir()):
            if match := pattern.fullmatch(path.name):
                found.setdefault(int(match[1]), []).append(path)
        if not found:
            continue
        sides = len(HEMISPHERES) if kind == "mgh" else 1
        missing = [number for number in range(1, wanted + 1) if len(found.get(number, [])) != sides]
        if missing:
            which = f"session {missing[0]:02d}" + (" of a hemisphere" if missing[0] in found else "")
            mend = f"fetch it, or give --sessions {missing[0] - 1}" if missing[0] > 1 else "fetch it"
            raise DataError(f"{folder}: {which} is missing (subject {subject} has {SESSIONS[subject - 1]}): {mend}")
        return [found[number] for number in range(1, wanted + 1)]
    raise DataError(f"{folder} holds no {BETAS} (betas_session01.hdf5, .nii.gz, lh.betas_session01.mgh): name another")


def _design(path: Path, subject: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """NSD's number of the image in each trial, from 1, and whether all subjects saw it."""
    order = mat_array(path, "masterordering", "nsd_expdesign.mat of NSD").ravel()
    images = mat_array(path, "subjectim", "nsd_expdesign.mat of NSD")
    if images.ndim != 2 or len(images) != len(SESSIONS) or not len(order):
        raise DataError(f"{path}: subjectim is {images.shape}, expected {len(SESSIONS)} subjects x images: fetch it")
    if order.min() < 1 or order.max() > images.shape[1] or images.min() < 1 or np.any(order % 1):
        raise DataError(f"{path}: masterordering must count the {images.shape[1]} images of subjectim from 1")
    order = order.astype(np.int64)
    return images[subject - 1].astype(np.int64)[order - 1], order <= SHARED


def _label_sets(paths: Sequence[Path], betas: Sequence[Path]) -> list[NDArray[np.str_]]:
    """Per file of a session, the area of each voxel or vertex ("": none), in the axes of the label volumes."""
    masks = []
    for one in betas:
        side = one.name[:2] if len(betas) > 1 else ""
        chosen = [path for path in paths if not side or path.name.startswith(f"{side}.")]
        if not chosen:
            raise InputError(f"no label file of {side or 'the volume'} is given: name one with --labels")
        mask: NDArray[np.str_] | None = None
        for path in chosen:
            names = _areas(path)
            if mask is not None and names.shape != mask.shape:
                raise DataError(f"{path} has shape {names.shape}, {chosen[0]} {mask.shape}: name labels of one space")
            mask = names if mask is None else np.where(mask == "", names, mask)
        assert mask is not None
        masks.append(mask)
    if not any((mask != "").any() for mask in masks):
        raise DataError(f"{paths[0]}: no voxel is of an area: name labels of this subject")
    return masks


def _areas(path: Path) -> NDArray[np.str_]:
    known = next((numbers for name, numbers in KNOWN.items() if name in path.name), None)
    if known is None:
        raise InputError(f"{path}: which areas? its name must hold {', '.join(KNOWN)}: name such a file of NSD")
    image = load_volume(path, LABELS)
    return named_areas(read_volume(image, path, LABELS), known, str(path))


def _readers(betas: Sequence[Path], masks: Sequence[NDArray[np.str_]]) -> list[Reader]:
    """Per file of a session, what reads the (trials, voxels) of the areas from it."""
    return [_reader(path, mask) for path, mask in zip(betas, masks, strict=True)]


def _reader(example: Path, mask: NDArray[np.str_]) -> Reader:
    packed = example.suffix == ".hdf5"

    def read(path: Path) -> NDArray[np.float32]:
        return _from_hdf5(path, mask) if packed else _from_volume(path, mask)

    return read


def _from_hdf5(path: Path, mask: NDArray[np.str_]) -> NDArray[np.float32]:
    with open_hdf5(path, BETAS) as file:
        data = dataset(file, "betas", BETAS)
        if data.ndim != 4 or data.shape[1:] != tuple(reversed(mask.shape)):
            raise _other_space(path, data.shape[1:], tuple(reversed(mask.shape)), mask.shape)
        scale = SCALE if data.dtype.kind == "i" else 1
        x, y, z = np.nonzero(mask != "")
        blocks = [values(data, slice(start, start + ROWS))[:, z, y, x] for start in range(0, len(data), ROWS)]
    return np.asarray(np.concatenate(blocks) / scale, np.float32)


def _from_volume(path: Path, mask: NDArray[np.str_]) -> NDArray[np.float32]:
    image = load_volume(path, BETAS)
    if len(image.shape) != 4 or image.shape[:3] != mask.shape:
        raise _other_space(path, image.shape[:3], mask.shape, tuple(reversed(mask.shape)))
    scale = SCALE if image.get_data_dtype().kind == "i" else 1
    inside = mask != ""
    blocks: list[NDArray[np.float32]] = []
    for start in range(0, image.shape[3], ROWS):
        block = read_volume(image, path, BETAS, (..., slice(start, start + ROWS)))
        blocks.append(block[inside].T.astype(np.float32))
    return np.asarray(np.concatenate(blocks) / scale, np.float32)


def _other_space(path: Path, got: tuple[int, ...], wanted: tuple[int, ...], swapped: tuple[int, ...]) -> DataError:
    turned = got == swapped and got != wanted
    mend = "the volume is transposed: use NSD's own file" if turned else "name labels of the same space and subject"
    return DataError(f"{path}: volumes are {got}, the labels need {wanted}: {mend}")
