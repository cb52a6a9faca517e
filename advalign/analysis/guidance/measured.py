"""What a study of guided models has measured: one row per model, and the minimum norms of single images.

A *block* is a seed and a subject: models of one block differ in what guided them and in nothing else. An arm that no
subject's responses guide (none, class code) stands in the blocks of all subjects.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from advalign.errors import InputError, shown, unknown_name

Vector = npt.NDArray[np.float64]
Table = npt.NDArray[np.float64]

NONE, NONE_CE, CLASS_CODE, AREA = "none", "none-ce", "class-code", "area"
SHUFFLED, WITHIN, DEGRADED, RANDOM = "shuffled", "shuffled-within-class", "degraded", "random-net"
SHORTER, OTHER = "shorter", "other"
ROLES = {
    NONE: "unguided",
    NONE_CE: "unguided, cross-entropy of the guided weight",
    CLASS_CODE: "class code",
    AREA: "guided by an area",
    SHUFFLED: "its responses shuffled over images",
    WITHIN: "its responses shuffled within class",
    DEGRADED: "its responses at the lowest ceiling and dimension",
    RANDOM: "features of an untrained network",
    SHORTER: "unguided, fewer epochs",
    OTHER: "trained by other means",
}
"""Role of an arm -> what it is."""
OF_AN_AREA = (AREA, SHUFFLED, WITHIN, DEGRADED)
PROVENANCES = ("measured", "simulated", "predicted")
COLUMNS = ("arm", "role", "area", "subject", "seed", "accuracy")
FIT = ("explained", "rsa", "cka")
GEOMETRY = ("capacity", "radius", "dimension", "separability")
WEAK = 0.8  # of the unguided accuracy: an arm below it does not decide which images are common


@dataclass(frozen=True)
class Results:
    """A study's measurements.

    Attributes:
        models: a row per arm, subject and seed: arm, role (`ROLES`), area ("" where none), subject ("" where none),
            seed, accuracy (share), and, where they are measured, fit to the area's responses (`FIT`: explained variance
            over ceiling, RSA, CKA; of an arm without area the mean over areas) and geometry (`GEOMETRY`, a name or
            NAME@LAYER).
        norms: a row per arm, subject, seed and image that the model gets right: l2 and linf (1/255), or one of them;
            NaN where no perturbation was found.
        areas: in their order, the lowest first.
        provenance: of the responses: measured, simulated or predicted.
        reliability: roi, subject, split_half, split_half_low, above_zero (None: unknown) per area; empty where unknown.
    """

    models: pd.DataFrame
    norms: pd.DataFrame
    areas: tuple[str, ...]
    provenance: str
    reliability: pd.DataFrame = field(default_factory=pd.DataFrame)

    def __post_init__(self) -> None:
        if self.provenance not in PROVENANCES:
            raise unknown_name("provenance", self.provenance, PROVENANCES)
        if lacking := [name for name in COLUMNS if name not in self.models]:
            raise InputError(f"the table of models lacks {', '.join(lacking)}")
        if unknown := sorted(set(self.models["role"]) - set(ROLES)):
            raise unknown_name("role", unknown[0], ROLES)
        rows = self.models[["arm", "subject", "seed"]]
        if rows.duplicated().any():
            arm, subject, seed = rows[rows.duplicated()].iloc[0]
            whose = f" of {shown(subject)}" if subject else ""
            raise InputError(f"two models of arm {shown(arm)}{whose} have the seed {seed}; keep one of them")

    @cached_property
    def norm_names(self) -> tuple[str, ...]:
        """The norms that are measured, l2 first."""
        return tuple(name for name in ("l2", "linf") if name in self.norms)

    @cached_property
    def blocks(self) -> list[tuple[str, int]]:
        """(subject, seed) of every block; subject "" where no arm has one."""
        own = self.models[self.models["role"].isin(OF_AN_AREA)]
        rows = own if len(own) else self.models
        return sorted({(str(subject), int(seed)) for subject, seed in rows[["subject", "seed"]].to_numpy()})

    @cached_property
    def images(self) -> list[Any]:
        """All images with a norm."""
        return sorted(self.norms["image"].unique())

    def find(self, role: str, area: str = "") -> str | None:
        """The arm of a role, and of an area; None where the study has none."""
        rows = self.models[(self.models["role"] == role) & (self.models["area"] == area)]
        return str(rows["arm"].iloc[0]) if len(rows) else None

    def values(self, arm: str, column: str) -> Vector:
        """(blocks,) a column of an arm; NaN where a block lacks it."""
        rows = self.models[self.models["arm"] == arm].set_index(["subject", "seed"])
        if column not in rows:
            return np.full(len(self.blocks), math.nan)
        return np.array([self._of(rows[column], block) for block in self.blocks], dtype=np.float64)

    def _of(self, series: Any, block: tuple[str, int]) -> float:
        """The block's own value, or that of the arm without a subject."""
        for key in (block, ("", block[1])):
            if key in series.index:
                return float(series[key])
        return math.nan

    def of_images(self, arms: str | Sequence[str], norm: str) -> Table:
        """(blocks, images) minimum norms; NaN where the model is wrong or nothing was found.

        Args:
            arms: an arm, or one per block.
            norm: "l2" or "linf".
        """
        named = [arms] * len(self.blocks) if isinstance(arms, str) else list(arms)
        return np.stack([self._row(arm, block, norm) for arm, block in zip(named, self.blocks, strict=True)])

    @cached_property
    def _tables(self) -> dict[str, pd.DataFrame]:
        keys = ["arm", "subject", "seed", "image"]
        if self.norms[keys].duplicated().any():
            raise InputError("an image has two norms of one model; keep one of them")
        if self.norms.empty:  # no model gets any image right
            return {norm: pd.DataFrame() for norm in self.norm_names}
        wide = self.norms.set_index(keys)
        return {norm: wide[norm].unstack("image").reindex(columns=self.images) for norm in self.norm_names}

    @cached_property
    def _places(self) -> dict[str, dict[Any, int]]:
        return {norm: {key: place for place, key in enumerate(table.index)} for norm, table in self._tables.items()}

    def _row(self, arm: str, block: tuple[str, int], norm: str) -> Vector:
        table = self._tables[norm]
        for subject in (block[0], ""):
            place = self._places[norm].get((arm, subject, block[1]))
            if place is not None:
                return np.asarray(table.iloc[place], dtype=np.float64)
        return np.full(len(self.images), math.nan)

    def matched(self, arm: str) -> tuple[list[str], Vector]:
        """The unguided training whose accuracy is nearest to an arm's, in each block, and by how much it is above.

        The choices are the unguided arm and those of fewer epochs; of two that are as near, the longer one.

        Returns:
            An arm per block ("" where there is none); (blocks,) its accuracy minus the arm's.
        """
        known = self.models[self.models["role"].isin((NONE, SHORTER))]
        names = list(dict.fromkeys([*known.loc[known["role"] == NONE, "arm"], *known["arm"]]))
        if not names:
            return [""] * len(self.blocks), np.full(len(self.blocks), math.nan)
        gaps = np.stack([self.values(name, "accuracy") for name in names]) - self.values(arm, "accuracy")
        best = np.where(np.isnan(gaps), np.inf, np.abs(gaps)).argmin(0)
        return [names[place] for place in best], gaps[best, np.arange(len(self.blocks))]


def tolerances(results: Results, norm: str, arms: Sequence[str] = ()) -> tuple[pd.DataFrame, list[str]]:
    """Mean minimum norm of arms in every block, over the images that all of them get right in the block.

    Args:
        results: of the study.
        norm: "l2" or "linf".
        arms: which; none named: all of the study.

    Returns:
        arm, subject, seed, tolerance, images; and the names of the arms whose accuracy is below `WEAK` of the unguided
        one's: they do not decide which images are common, and their mean is over those of the images that they get
        right.
    """
    arms = list(arms or dict.fromkeys(results.models["arm"]))
    tables = {arm: results.of_images(arm, norm) for arm in arms}
    unguided = results.find(NONE)
    level = np.nanmean(results.values(unguided, "accuracy")) if unguided else math.nan
    mean = {arm: _mean(results.values(arm, "accuracy")) for arm in arms}
    weak = [arm for arm in arms if mean[arm] < WEAK * level]
    deciding = [tables[arm] for arm in arms if arm not in weak]
    there = [~np.isnan(table) | np.isnan(table).all(1, keepdims=True) for table in deciding]
    common = np.logical_and.reduce(there) if there else np.ones((len(results.blocks), len(results.images)), bool)
    rows = []
    for arm in arms:
        for place, (subject, seed) in enumerate(results.blocks):
            found = tables[arm][place][common[place]]
            found = found[~np.isnan(found)]
            mean_norm = float(found.mean()) if len(found) else math.nan
            rows.append({"arm": arm, "subject": subject, "seed": seed, "tolerance": mean_norm, "images": len(found)})
    return pd.DataFrame(rows), weak


def _mean(values: Vector) -> float:
    return float(np.nanmean(values)) if not np.isnan(values).all() else math.nan
