"""Predictors of responses (image -> responses of an area), fitted to images that neither guide a training nor test.

The map is fitted to trials of split train alone, and never to an image of the project's validation. A store of its
predictions leaves out every image that it was fitted to (`predicted_responses`).
"""

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from advalign.closures import closure
from advalign.data.classes import read_classes
from advalign.data.image_digests import image_digests
from advalign.data.responses import ResponseStore, need_responses, responses_digest
from advalign.data.training_images import AnyImages, training_images, validation_images
from advalign.errors import DataError, InputError, shown
from advalign.files import Project, sha256
from advalign.models.checkpoints import CARD, load_checkpoint
from advalign.models.classifier import Classifier
from advalign.models.predictors import (
    PREDICTOR,
    Open,
    PredictorCard,
    layer_vectors,
    predictor_folder,
    prepared,
    read_predictor_card,
    save_predictor,
)
from advalign.provenance import git_state
from advalign.settings import load_settings
from advalign.strict_settings import digest
from advalign.tensors.encoding import DIMENSIONS, LEAST_IMAGES, Explained, explained, need_himalaya
from advalign.tensors.linear_fit import fit_linear_map
from advalign.workflows.encoding import opened, stimulus_files
from advalign.workflows.sources import find_checkpoint

ROOT = "advalign.workflows.predictors:fit_predictor"  # whose code decides what is fitted
SHARE, LEAST_HELD = 10, 10  # of the images a tenth is held out, and at least so many


def fit_predictor(
    project: Project,
    responses: str,
    model: str,
    roi: str,
    name: str,
    *,
    layer: str | None = None,
    subject: str | None = None,
    images: Path | None = None,
    seed: int = 0,
    resamples: int = 1000,
    replace: bool = False,
) -> tuple[PredictorCard, bool]:
    """Fit a linear map from a layer's features to the responses of an area, and write outputs/predictors/NAME.

    Args:
        project: with data/responses/RESPONSES.h5.
        responses, roi, subject: whose responses; subject None: the only one with this area.
        model: a trained or imported checkpoint of the project.
        name: of the predictor.
        layer: None: the penultimate features.
        images: folder of the store's image files; None: the project's own images that the store has responses to.
        seed: of the images held out, and of a projection.
        resamples: of the images held out, for the interval.
        replace: whether a predictor of that name that was fitted to something else may be replaced.

    Returns:
        The predictor's card, and whether it was fitted now; False: it was there already.

    Raises:
        InputError: an unknown name, several subjects, too few images, or himalaya is not installed.
        DataError: a file is damaged or missing.
    """
    need_himalaya()
    folder = predictor_folder(project, name)
    store = ResponseStore.open(need_responses(project, responses))
    owner = _subject(store, roi, subject)
    checkpoint = find_checkpoint(project, model)
    pictures, validation = _pictures(project, store, images)
    train, held = _sides(store, roi, owner, set(pictures), validation, seed)
    what = {
        "responses_sha256": responses_digest(store.path), "roi": roi, "subject": owner, "layer": layer,
        "dimensions": DIMENSIONS, "seed": seed,
    }  # fmt: skip
    identity = digest([what, sha256(checkpoint / CARD), train.digests, held.digests, closure(ROOT).digest])
    if not replace and (there := _there(folder, identity)) is not None:
        return there, False
    classifier, card = load_checkpoint(checkpoint)
    features = [_features(classifier, layer, [pictures[one] for one in side.digests], seed) for side in (train, held)]
    fit = fit_linear_map(features[0], train.means)
    ceilings = store.units.loc[store.mask(roi, owner), "noise_ceiling"].to_numpy(np.float64)
    found = explained(fit(features[1]), held.means, ceilings, resamples, seed)
    names = {"name": name, "backbone": card.name, "architecture": card.architecture, "inputs_sha256": identity}
    told = {**what, **names, **_told(project, store, train, held, found, ceilings)}
    return save_predictor(folder, checkpoint, fit, train.digests, told), True


def _there(folder: Path, identity: str) -> PredictorCard | None:
    """The card of the same predictor, where it is there already; another one is refused."""
    if not (folder / PREDICTOR).is_file():
        return None
    there = read_predictor_card(folder)
    if there.inputs_sha256 != identity:
        raise InputError(f"{folder} was fitted to something else: give another --name, or --replace")
    return there


class _Side:
    """Images that the map is fitted to, or that are held out: their SHA-256, and the mean responses (N, U)."""

    def __init__(self, digests: list[str], means: NDArray[np.float32]) -> None:
        self.digests, self.means = digests, means.astype(np.float64)


def _subject(store: ResponseStore, roi: str, subject: str | None) -> str:
    """The subject, which is the only one with the area where none is named."""
    if not len(store.trials):
        raise InputError(f"{store.path} holds dissimilarities, no responses: name a set of responses to images")
    subjects = list(dict.fromkeys(store.units.loc[store.mask(roi, subject), "subject"]))
    if len(subjects) > 1:
        raise InputError(f"{store.path.stem}: {len(subjects)} subjects have {shown(roi)}: give --subject, one of "
                         f"{', '.join(map(shown, subjects))}")  # fmt: skip
    return str(subjects[0])


def _pictures(project: Project, store: ResponseStore, folder: Path | None) -> tuple[dict[str, Open], set[str]]:
    """How to open the images that the store has and we see, by SHA-256; and the SHA-256 of the validation images."""
    sets = image_sets(project)
    known = [list(image_digests(one, project.digests)["sha256"]) for one in sets]
    if folder is not None:
        files = zip(store.images["sha256"], stimulus_files(store, folder), strict=True)
        return {one: partial(opened, path) for one, path in files}, set(known[1])
    wanted = set(store.images["sha256"]) - {""}
    found: dict[str, Open] = {}
    for images, of_set in zip(sets, known, strict=True):
        for number, one in enumerate(of_set):
            if one in wanted:
                found.setdefault(one, partial(picture, images, number))
    return found, set(known[1])


def image_sets(project: Project) -> tuple[AnyImages, AnyImages]:
    """The training and the validation images of a project.

    Raises:
        DataError: something is missing or damaged.
    """
    classes, settings = read_classes(project.data / "classes.yaml"), load_settings(project.root).train
    return training_images(project, classes, settings), validation_images(project, classes, settings)


def picture(images: AnyImages, number: int) -> Image.Image:
    """One of them, in RGB."""
    return Image.fromarray(images.read(number).image)


def _sides(
    store: ResponseStore, roi: str, subject: str, there: set[str], validation: set[str], seed: int
) -> tuple[_Side, _Side]:
    """Images to fit to, and images held out: trials of split validation or test where enough are seen, or a tenth."""
    digests, means = _visible(store, roi, subject, "train", there)
    others = [_visible(store, roi, subject, split, there) for split in ("validation", "test")]
    apart = validation.union(*(of_split for of_split, _ in others))
    kept = [row for row, one in enumerate(digests) if one not in apart]
    tests = [_Side(*one) for one in others if len(one[0]) >= LEAST_HELD]
    order = np.random.default_rng(seed).permutation(len(kept))
    held = [] if tests else sorted(order[: max(LEAST_HELD, len(kept) // SHARE)].tolist())
    fitted = [kept[row] for row in range(len(kept)) if row not in set(held)]
    if len(fitted) < LEAST_IMAGES:
        raise DataError(
            f"{store.path}: {len(kept)} images of split train with responses of {shown(roi)} are images of the project "
            f"and not of its validation, expected at least {LEAST_IMAGES} to fit to and {LEAST_HELD} to hold out: "
            "import more, or name the folder of the images with --images DIR"
        )
    if tests:
        return _Side([digests[row] for row in fitted], means[fitted]), tests[0]
    out = [kept[row] for row in held]
    return _Side([digests[row] for row in fitted], means[fitted]), _Side([digests[row] for row in out], means[out])


def _visible(
    store: ResponseStore, roi: str, subject: str, split: str, there: set[str]
) -> tuple[list[str], NDArray[np.float32]]:
    """SHA-256 and mean responses of the images of a split that can be opened, each once."""
    try:
        rows, means = store.mean_responses(roi, subject, split)
    except InputError:  # the split has no trials
        return [], np.empty((0, int(store.mask(roi, subject).sum())), np.float32)
    place = {one: row for row, one in enumerate(store.images["sha256"].to_numpy()[rows]) if one in there}
    return list(place), means[list(place.values())]


def _features(classifier: Classifier, layer: str | None, pictures: list[Open], seed: int) -> NDArray[np.float64]:
    return layer_vectors(classifier, layer, prepared(classifier, pictures), DIMENSIONS, seed)


def _told(
    project: Project, store: ResponseStore, train: _Side, held: _Side, found: Explained, ceilings: NDArray[np.float64]
) -> dict[str, Any]:
    """What a card says of the responses, the fit and the project's commit."""
    if math.isnan(found.share):
        raise DataError(f"{store.path}: the responses to the {len(held.digests)} images held out are all the same")
    commit, dirty = git_state(project.root)
    return {
        "git_commit": commit,
        "git_dirty": dirty,
        "responses": store.path.stem,
        "provenance": store.provenance,
        "normalisation": store.normalisation,
        "units": len(ceilings),
        "fitted": len(train.digests),
        "held_out": len(held.digests),
        "explained": found.share,
        "over_ceiling": _known(found.over_ceiling),
        "low": found.low,
        "high": found.high,
        "noise_ceiling": None if np.isnan(ceilings).all() else float(np.nanmean(ceilings)),
    }


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
