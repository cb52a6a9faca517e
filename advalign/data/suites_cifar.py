"""Suites of expectations on data/cifar: what each split holds, and that splits do not share images.

The tables are `train`, `test` and `swapped` (a row per image of each split that is there) and `swaps` (a row per image
that is in test and in swapped).
"""

import hashlib
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from advalign.data.cifar import MASK_SOURCES, CifarSplit, read_split, split_file
from advalign.data.classes import Classes
from advalign.data.suites import Tables
from advalign.files import Project

SPLITS = ("train", "test", "swapped")
AT_ONCE = 1000  # images that are decoded together
# Official CIFAR-10 has a few images twice, within its splits and across them: a share of these is no fault.
DISTINCT = 0.99
# Share of the image that a mask covers. The drawn world: 0.03 to 0.53. A mask of all, or of a single pixel, is a fault.
LEAST_MASK, GREATEST_MASK = 0.005, 0.95
LEAST_CONTRAST = 0.005  # standard deviation of the pixels, values from 0 to 1; the drawn world: at least 0.05
AGREEMENT = (0.9, 1.0)  # share of drawn images whose background is that of their own class, in train and test


def cifar_tables(project: Project, classes: Classes) -> Tables:
    """The tables of data/cifar with their suites; none where there is no data/cifar.

    Raises:
        DataError: there is no test split, a file is unreadable, or an image in it cannot be decoded.
    """
    folder = project.data / "cifar"
    if not folder.exists():
        return {}
    split_file(project, "test")
    paths = [folder / f"{name}.parquet" for name in SPLITS]
    frames = {path.stem: image_table(read_split(path, len(classes))) for path in paths if path.exists()}
    seen = set(frames["train"]["sha256"]) if "train" in frames else set()
    tables: Tables = {}
    for name, frame in frames.items():
        shared = frame.assign(in_train=frame["sha256"].isin(seen) & (name != "train"))
        agreement = None if frame["agrees"].isna().all() else (0.0, 0.0) if name == "swapped" else AGREEMENT
        tables[name] = (shared, partial(image_suite, classes=len(classes), agreement=agreement))
    if {"test", "swapped"} <= frames.keys():
        tables["swaps"] = (swap_table(frames["test"], frames["swapped"]), swap_suite)
    return tables


def image_table(split: CifarSplit) -> pd.DataFrame:
    """A row per image: the columns of the file, and what its pixels and its mask are like.

    Returns:
        image (its index), label, lossy, mask_source, cue and agrees (whether the cue is the label's; both null where an
        image is not drawn), sha256 (of the pixels), contrast (standard deviation of the pixels, 0 to 1), mask_share
        (of the image, that the mask covers) and mask_sha256 (both null where there is no mask).
    """
    digests: list[str] = []
    mask_digests: list[str | None] = []
    contrast: list[Tensor] = []
    mask_share: list[Tensor] = []
    for first in range(0, len(split), AT_ONCE):
        last = min(first + AT_ONCE, len(split))
        pixels, masks = split.pixels(first, last), split.masks(first, last)
        digests += [hashlib.sha256((one * 255).round().byte().numpy().tobytes()).hexdigest() for one in pixels]
        mask_digests += [hashlib.sha256(one.numpy().tobytes()).hexdigest() for one in masks]
        contrast.append(pixels.flatten(1).std(1))
        mask_share.append(masks.flatten(1).float().mean(1))
    table = split.table
    drawn, masked = table["cue"] >= 0, table["mask_source"] != ""
    return pd.DataFrame(
        {
            "image": table["index"],
            "label": table["label"],
            "lossy": table["lossy"],
            "mask_source": table["mask_source"].where(masked),
            "cue": table["cue"].where(drawn),
            "agrees": (table["cue"] == table["label"]).astype(float).where(drawn),
            "sha256": digests,
            "contrast": torch.cat(contrast).numpy(),
            "mask_share": pd.Series(torch.cat(mask_share).numpy()).where(masked),
            "mask_sha256": pd.Series(mask_digests).where(masked),
        }
    )


def image_suite(gxe: Any, classes: int, agreement: tuple[float, float] | None) -> list[Any]:
    """Images are distinct, none of them is a training image, every class is there, masks are possible.

    Args:
        gxe: the module `great_expectations.expectations`.
        classes: how many there are.
        agreement: least and largest share of images whose background is that of their own class; None: not drawn.
    """
    between = gxe.ExpectColumnValuesToBeBetween
    drawn = []
    if agreement is not None:
        least, most = agreement
        drawn = [gxe.ExpectColumnMeanToBeBetween(column="agrees", min_value=least, max_value=most)]
    return [
        gxe.ExpectColumnValuesToBeUnique(column="image"),
        between(column="label", min_value=0, max_value=classes - 1),
        gxe.ExpectColumnDistinctValuesToEqualSet(column="label", value_set=list(range(classes))),
        gxe.ExpectColumnValuesToBeUnique(column="sha256", mostly=DISTINCT),
        gxe.ExpectColumnValuesToBeInSet(column="in_train", value_set=[False], mostly=DISTINCT),
        between(column="contrast", min_value=LEAST_CONTRAST),
        gxe.ExpectColumnValuesToBeInSet(column="mask_source", value_set=list(MASK_SOURCES)),
        between(column="mask_share", min_value=LEAST_MASK, max_value=GREATEST_MASK),
        *drawn,
    ]


def swap_table(test: pd.DataFrame, swapped: pd.DataFrame) -> pd.DataFrame:
    """Each image of test beside the one of swapped: labels, masks, cues, and whether the pixels differ."""
    columns = ["image", "label", "mask_sha256", "cue", "sha256"]
    pairs = test[columns].merge(swapped[columns], on="image", how="outer", suffixes=("", "_swapped"))
    return pairs.assign(
        same_pixels=pairs["sha256"] == pairs["sha256_swapped"], same_cue=pairs["cue"] == pairs["cue_swapped"]
    )


def swap_suite(gxe: Any) -> list[Any]:
    """The same objects under the same labels, before another background."""
    equal = gxe.ExpectColumnPairValuesToBeEqual
    return [
        equal(column_A="label", column_B="label_swapped"),
        equal(column_A="mask_sha256", column_B="mask_sha256_swapped"),
        gxe.ExpectColumnValuesToBeInSet(column="same_pixels", value_set=[False]),
        gxe.ExpectColumnValuesToBeInSet(column="same_cue", value_set=[False]),
    ]
