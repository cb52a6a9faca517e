"""The Algonauts 2023 challenge: NSD's responses at the vertices of visual cortex, z-scored and averaged over repeats.

A folder per subject: `training_split/training_fmri/{lh,rh}_training_fmri.npy` (images x vertices),
`training_split/training_images/train-0001_nsd-00013.png`, and in `roi_masks/` the number of each vertex's area with the
names of the numbers. Repeats were averaged by the authors: neither reliability nor ceilings can be known.
"""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from advalign.data.imports._place import check_regular
from advalign.data.imports.responses._mapping import read_mapping
from advalign.data.imports.responses._plan import Block, Plan, Session, load_array, need_folder
from advalign.data.imports.responses._rois import named_areas
from advalign.errors import DataError, InputError, shown
from advalign.files import sha256

HEMISPHERES = ("lh", "rh")
ROI_SETS = ("prf-visualrois", "streams")
"""Sets of areas whose names count, the first one first: a vertex of V1 is of V1, not of the stream early."""
IMAGE = re.compile(r"train-(\d+)_(nsd-\d+)\.png")
TOLD = "repeats were averaged by the authors: reliability and ceilings cannot be known from these files"
ROWS = 2048  # images that are read together


def plan_algonauts(folder: Path, roi_sets: Sequence[str] = ROI_SETS) -> Plan:
    """The plan of one subject.

    Args:
        folder: of the subject, such as subj01.
        roi_sets: names of the sets of areas, as the masks have them.

    Raises:
        DataError: a file is missing, or they do not fit together.
    """
    need_folder(folder, "that of a subject, with training_split/ and roi_masks/")
    split = folder / "training_split"
    pictures = _images(need_folder(split / "training_images", "the training images of Algonauts 2023"))
    ids = list(pictures)
    files = [split / "training_fmri" / f"{side}_training_fmri.npy" for side in HEMISPHERES]
    arrays = [load_array(file, "responses of Algonauts 2023 (images x vertices)") for file in files]
    for file, array in zip(files, arrays, strict=True):
        if array.ndim != 2 or len(array) != len(ids):
            raise DataError(f"{file} has shape {array.shape}, expected ({len(ids)} images, vertices): fetch it again")
    masks = folder / "roi_masks"
    rois = [_rois(masks, side, array.shape[1], roi_sets) for side, array in zip(HEMISPHERES, arrays, strict=True)]
    chosen = [one != "" for one in rois]
    if not any(one.any() for one in chosen):
        raise DataError(f"{masks}: no vertex is of an area of {', '.join(roi_sets)}: name other sets of areas")
    named = np.concatenate([one[there] for one, there in zip(rois, chosen, strict=True)])
    return Plan(
        images=pd.DataFrame({"id": ids, "sha256": [sha256(picture) for picture in pictures.values()]}),
        units=pd.DataFrame({"roi": named, "subject": folder.name}),
        sessions=[Session(folder.name, files, partial(_blocks, arrays, chosen))],
        normalisation="z-scored within session and averaged over repeats by the authors",
        description="Algonauts 2023: NSD at the vertices of visual cortex",
        told=[TOLD],
    )


def _blocks(arrays: Sequence[Any], chosen: Sequence[NDArray[np.bool_]]) -> Iterator[Block]:
    """The responses of the chosen vertices of both hemispheres, some images at a time."""
    for start in range(0, len(arrays[0]), ROWS):
        betas = [array[start : start + ROWS][:, one] for array, one in zip(arrays, chosen, strict=True)]
        yield Block(np.arange(start, start + len(betas[0])), np.concatenate(betas, axis=1), "train")


def _images(folder: Path) -> dict[str, Path]:
    """NSD's names of the images and their files, in the order of the responses."""
    matches = ((IMAGE.fullmatch(path.name), path) for path in folder.iterdir())
    found = sorted((int(match[1]), match[2], path) for match, path in matches if match)
    if not found:
        raise DataError(f"{folder} holds no images called train-0001_nsd-00013.png: name the subject's own folder")
    gap = next((place for place, (number, *_) in enumerate(found, start=1) if number != place), None)
    if gap is not None:
        raise DataError(f"{folder}: image train-{gap:04d} is missing, or there twice: fetch the folder again")
    for *_, path in found:
        check_regular(path)
    return {name: path for _, name, path in found}


def _rois(masks: Path, side: str, vertices: int, roi_sets: Sequence[str]) -> NDArray[np.str_]:
    """The name of each vertex's area, "" where it is of none."""
    found = np.full(vertices, "", dtype="U64")
    for one in roi_sets:
        if not re.fullmatch(r"[\w-]+", one):
            raise InputError(f"{shown(one)} names no set of areas: give one such as prf-visualrois or streams")
        mapping = read_mapping(masks / f"mapping_{one}.npy", "a mapping of Algonauts 2023")
        path = masks / f"{side}.{one}_challenge_space.npy"
        numbers = load_array(path, "the areas of vertices in Algonauts 2023")
        if numbers.shape != (vertices,):
            raise DataError(f"{path} has shape {numbers.shape}, the responses {vertices} vertices: fetch both again")
        names = named_areas(np.asarray(numbers), mapping, str(path))
        found = np.where(found == "", names, found)
    return found
