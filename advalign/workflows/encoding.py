"""Encoding models of a set of responses: how much of an area do pixels, Gabor energy, a category or a layer explain?"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from advalign.data.responses import ResponseStore, need_responses
from advalign.errors import DataError, InputError, quoted, shown, unknown_name
from advalign.files import Project
from advalign.models.checkpoints import load_checkpoint
from advalign.models.predictors import layer_vectors, prepared
from advalign.names import check_name
from advalign.tensors.encoding import DIMENSIONS
from advalign.tensors.feature_spaces import SIDE, SPACES, in_batches
from advalign.tensors.neural_fit import neural_fit, side_by_side
from advalign.tensors.representations import agreement, category_dissimilarities, ceilings, dissimilarities

Array = NDArray[np.float64]

CATEGORY, CHECKPOINT = "category", "checkpoint:"
NAN = float("nan")


@dataclass(frozen=True)
class AreaFit:
    """How well one feature space, or several joined by +, describe one area of one subject. NaN: not asked, or unknown.

    Attributes:
        features: names, joined by +.
        subject, roi: whose area; subject is empty where dissimilarities of several people are compared.
        images, units: how many.
        explained: mean share of the variance of held-out responses, over units.
        over_ceiling: the same divided by each unit's ceiling.
        low, high: 95 % interval over images.
        cka: debiased linear CKA with the mean responses.
        rsa: Spearman's rho of the dissimilarities (of people: mean).
        rsa_lower, rsa_upper: ceilings of rsa (Nili et al. 2014), where there are several people.
    """

    features: str
    subject: str
    roi: str
    images: int
    units: int = 0
    explained: float = NAN
    over_ceiling: float = NAN
    low: float = NAN
    high: float = NAN
    cka: float = NAN
    rsa: float = NAN
    rsa_lower: float = NAN
    rsa_upper: float = NAN

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Fits:
    """All fits of a set of responses, and where these are from."""

    provenance: str
    normalisation: str
    areas: tuple[AreaFit, ...]


def fit_responses(
    project: Project,
    name: str,
    wanted: Sequence[str],
    images: Path | None = None,
    *,
    roi: str | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Fits:
    """Fit encoding models to every area of every subject; of dissimilarities, compare the matrices.

    Args:
        project: with data/responses/NAME.h5.
        name: of the responses.
        wanted: feature spaces: names of `SPACES`, category, checkpoint:NAME or checkpoint:NAME@LAYER; several joined by
            + are fitted together, each with a penalty of its own.
        images: folder of the image files, which are found by their SHA-256; needed by all but category.
        roi: one area; None: all.
        resamples, seed: of intervals; the seed also draws folds and projections.

    Raises:
        InputError: an unknown name, no folder where one is needed, or himalaya is not installed.
        DataError: images are missing or unreadable, or labels are unknown.
    """
    store = ResponseStore.open(need_responses(project, name))
    check_spaces(wanted)
    rois = [roi] if roi is not None else store.rois
    spaces = list(dict.fromkeys(part for one in wanted for part in one.split("+")))
    features = _Features(project, store, images, seed)
    found: list[AreaFit] = []
    for area in rois:
        if len(store.matrices):
            found += _against_people(store, area, wanted, {one: features.of(one) for one in spaces})
            continue
        for subject in dict.fromkeys(store.units.loc[store.mask(area), "subject"]):
            rows, responses = store.mean_responses(area, subject)
            some = {one: features.of(one, rows) for one in spaces}
            limits = store.units.loc[store.mask(area, subject), "noise_ceiling"].to_numpy(np.float64)
            shared = _Area(subject, area, responses.astype(np.float64), limits)
            found += _against_responses(shared, wanted, some, resamples, seed)
    return Fits(store.provenance, store.normalisation, tuple(found))


def check_spaces(wanted: Sequence[str]) -> None:
    """Refuse unknown feature spaces, or one twice.

    Raises:
        InputError: names the first, and offers the nearest.
    """
    for one in wanted:
        parts = one.split("+")
        for part in parts:
            layer_of = part.startswith(CHECKPOINT) and part.removeprefix(CHECKPOINT).partition("@")[0]
            if part not in (*SPACES, CATEGORY) and not layer_of:
                raise unknown_name("feature space", part, (*SPACES, CATEGORY, f"{CHECKPOINT}NAME@LAYER"))
        if len(set(parts)) < len(parts):
            raise InputError(f"feature space {shown(one)}: a space is there twice: name it once")
    if len(set(wanted)) < len(wanted) or not wanted:
        raise InputError("feature spaces: expected different names such as pixels,gabor-energy")


@dataclass(frozen=True)
class _Area:
    subject: str
    roi: str
    responses: Array
    limits: Array


def _against_responses(
    area: _Area, wanted: Sequence[str], spaces: Mapping[str, Array], resamples: int, seed: int
) -> list[AreaFit]:
    (images, units), found = area.responses.shape, []
    for one in wanted:
        parts = one.split("+")
        own = [spaces[part] for part in parts]
        fit = neural_fit(own, area.responses, area.limits, resamples, seed, _model_dissimilarities(spaces, parts))
        told = fit.explained
        found.append(
            AreaFit(
                one, area.subject, area.roi, images, units, told.share, told.over_ceiling, told.low, told.high, fit.cka,
                fit.rsa,
            )
        )  # fmt: skip
    return found


def _against_people(
    store: ResponseStore, roi: str, wanted: Sequence[str], spaces: Mapping[str, Array]
) -> list[AreaFit]:
    people = torch.from_numpy(store.rdms(roi).astype(np.float64))
    limits = ceilings(people) if len(people) > 1 else None
    lower, upper = (limits.lower, limits.upper) if limits else (NAN, NAN)
    found = []
    for one in wanted:
        rho = float(agreement(_model_dissimilarities(spaces, one.split("+")), people).mean())
        found.append(AreaFit(one, "", roi, len(store.images), rsa=rho, rsa_lower=lower, rsa_upper=upper))
    return found


def _model_dissimilarities(spaces: Mapping[str, Array], parts: Sequence[str]) -> Tensor:
    if parts == [CATEGORY]:
        return category_dissimilarities(torch.from_numpy(spaces[CATEGORY].argmax(1)))
    return dissimilarities(side_by_side([spaces[part] for part in parts]))


class _Features:
    """Feature spaces of a store's images, each computed once."""

    def __init__(self, project: Project, store: ResponseStore, images: Path | None, seed: int) -> None:
        self.project, self.store, self.folder, self.seed = project, store, images, seed
        self._seen: dict[str, Array] = {}
        self._files: list[Path] | None = None

    def of(self, space: str, rows: NDArray[np.int64] | None = None) -> Array:
        """(N, F) float64 of some rows of `store.images`; None: all."""
        if space not in self._seen:
            self._seen[space] = self._category() if space == CATEGORY else self._of_pictures(space)
        found = self._seen[space]
        return found if rows is None else found[rows]

    def _category(self) -> Array:
        labels = self.store.images["label"].to_numpy()
        if (labels < 0).any():
            raise DataError(f"{self.store.path}: {int((labels < 0).sum())} images have no label: import them with one")
        return np.eye(len(labels))[np.unique(labels, return_inverse=True)[1]]

    def _of_pictures(self, space: str) -> Array:
        if space in SPACES:
            grey = torch.stack([_grey(path) for path in self.files])
            return in_batches(SPACES[space], grey).double().numpy()
        name, _, layer = space.removeprefix(CHECKPOINT).partition("@")
        return self._of_layer(name, layer or None)

    def _of_layer(self, name: str, layer: str | None) -> Array:
        classifier, _ = load_checkpoint(self.project.checkpoints / check_name(name, "model"))
        blocks = prepared(classifier, [partial(opened, path) for path in self.files])
        return layer_vectors(classifier, layer, blocks, DIMENSIONS, self.seed)

    @property
    def files(self) -> list[Path]:
        """The file of each row of `store.images` (`stimulus_files`)."""
        if self._files is None:
            self._files = stimulus_files(self.store, self.folder)
        return self._files


def stimulus_files(store: ResponseStore, folder: Path | None) -> list[Path]:
    """The file of each row of `store.images`, found in a folder by its SHA-256.

    Raises:
        InputError: no folder was named.
        DataError: the store knows no SHA-256, or an image has no file in the folder.
    """
    digests = store.images["sha256"]
    if (digests == "").any():
        raise DataError(f"{store.path}: images without SHA-256: import the responses again with --stimuli DIR")
    if folder is None or not folder.is_dir():
        told = "needs the images" if folder is None else f"{folder} is no folder"
        raise InputError(f"{told}: name the folder of the images of {store.path.stem} with --images DIR")
    there = {
        hashlib.sha256(path.read_bytes()).hexdigest(): path for path in sorted(folder.rglob("*")) if path.is_file()
    }
    absent = [row for row, digest in enumerate(digests) if digest not in there]
    if absent:
        first = shown(store.images["id"].iloc[absent[0]])
        raise DataError(
            f"{folder}: {len(absent)} of {len(digests)} images of {store.path.stem} have no file of the "
            f"same bytes, first {first}: name the folder that they were imported with"
        )
    return [there[digest] for digest in digests]


def opened(path: Path) -> Image.Image:
    """A picture in RGB.

    Raises:
        DataError: the file cannot be read as one.
    """
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except Exception as error:  # noqa: BLE001  damaged images raise anything
        raise DataError(f"{path} cannot be read as an image: {quoted(error)}") from None


def _grey(path: Path) -> Tensor:
    """(SIDE, SIDE) float32 in [0, 1]."""
    small = opened(path).convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.asarray(small, np.float32) / 255)
