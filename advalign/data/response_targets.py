"""Targets of guided training from a set of responses: repeats averaged, standardised, projected; and their controls."""

from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from advalign.data.guided_images import Targets
from advalign.data.image_digests import image_digests
from advalign.data.responses import ResponseStore, need_responses, responses_digest
from advalign.data.training_images import AnyImages
from advalign.errors import DataError, InputError, shown
from advalign.files import Project
from advalign.strict_settings import Strict

Control = Literal["class-code", "shuffled", "shuffled-within-class"]


class TargetSettings(Strict):
    """Which responses guide a training."""

    responses: str | None = Field(None, description="of data/responses; null is possible for the class code alone")
    roi: str | None = Field(None, description="area; null: the only one there is")
    subject: str | None = Field(None, description="null: the units of all subjects side by side")
    variance: float | None = Field(
        0.95, gt=0, le=1, description="share of the variance that the principal components keep; null: all units"
    )
    control: Control | None = Field(
        None, description="in place of each image's own response: its class alone, or another image's response"
    )
    force: bool = Field(False, description="take an area whose reliability is not above zero")


def response_targets(project: Project, settings: TargetSettings, images: AnyImages, seed: int) -> Targets:
    """The targets of the training images.

    The responses of split train to each image are averaged over repeats. Every unit is then standardised over the
    training images that have a response, and the principal components that hold `variance` are kept. One factor makes
    the mean square of all values 1, so that a weight of the loss means the same for every area. A class code is
    standardised and scaled in the same way, and is not projected: the variances of its components are alike.

    Args:
        project: whose data/responses.
        settings: of the recipe.
        images: to train on.
        seed: of shuffling, the training's.

    Raises:
        InputError: no such set of responses, area or subject, or the area is not reliable.
        DataError: no training image has a response, or the file is damaged.
    """
    known = image_digests(images, project.digests)
    if settings.responses is None:
        if settings.control != "class-code":
            raise InputError(f"recipe: responses is null, expected a set of responses: {_there(project)}")
        rows = np.arange(len(known))
        return _targets(rows, _standardised(_codes(known["label"])), known, {"control": "class-code"})
    path = need_responses(project, settings.responses)
    store = ResponseStore.open(path)
    roi = _area(store, settings)
    indices, means = store.mean_responses(roi, settings.subject, "train")
    rows, responses = _matched(store, indices, means, known)
    labels = known["label"].to_numpy()[rows >= 0]
    values = _controlled(settings, responses[rows[rows >= 0]].astype(np.float64), labels, seed)
    told = {
        "name": settings.responses,
        "provenance": store.provenance,
        "sha256": responses_digest(path),
        "roi": roi,
        "subject": settings.subject,
        "control": settings.control,
        "noise_ceiling": _ceiling(store.units["noise_ceiling"][store.mask(roi, settings.subject)]),
    }
    return _targets(rows, values, known, told)


def _there(project: Project) -> str:
    names = sorted(path.stem for path in (project.data / "responses").glob("*.h5"))
    return f"give {', '.join(names)}" if names else "data/responses is empty, import one"


def _area(store: ResponseStore, settings: TargetSettings) -> str:
    """The area, which is there; in no subject its responses are nothing but noise, as far as that is known."""
    if not len(store.trials):
        raise InputError(f"{store.path} holds dissimilarities, no responses: name a set of responses to images")
    if settings.roi is None and len(store.rois) > 1:
        several = ", ".join(shown(roi) for roi in store.rois)
        raise InputError(f"recipe: roi is null, and {store.path.stem} has several areas: give one of {several}")
    roi = settings.roi or store.rois[0]
    units = store.units[store.mask(roi, settings.subject)]
    highest = units.groupby("subject", sort=False)["noise_ceiling"].max()  # NaN where none is known
    noise = [str(subject) for subject, ceiling in highest.items() if ceiling <= 0]
    if noise and not settings.force and settings.control != "class-code":
        whose = f" of subject {shown(noise[0])}" if len(highest) > 1 else ""
        raise InputError(
            f"{store.path}: no unit of {shown(roi)}{whose} has a noise ceiling above zero, so the area is not "
            "reliable: give another roi or subject, or force: true"
        )
    return roi


def _ceiling(units: "pd.Series[float]") -> float | None:
    """Mean over the units; None: unknown."""
    return None if units.isna().all() else round(float(units.mean()), 6)


def _matched(
    store: ResponseStore, indices: NDArray[np.int64], means: NDArray[np.float32], known: pd.DataFrame
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Row of the means for each training image, found by content; -1: none. The rows are those of the second array."""
    digests = store.images["sha256"].to_numpy()[indices]
    place = {digest: row for row, digest in enumerate(digests) if digest}
    rows = np.array([place.get(digest, -1) for digest in known["sha256"]], dtype=np.int64)
    if (rows < 0).all():
        raise DataError(
            f"{store.path}: none of its {len(digests)} images with a response of split train is one of the "
            f"{len(known)} training images (by SHA-256, known of {len(place)}): import the images with the responses"
        )
    return rows, means


def _controlled(
    settings: TargetSettings, responses: NDArray[np.float64], labels: NDArray[np.int64], seed: int
) -> NDArray[np.float64]:
    """The values of the images with a response, (n, D)."""
    if settings.control == "class-code":
        return _standardised(_codes(labels))
    values = _standardised(responses)
    if settings.variance is not None:
        values = principal_components(values, settings.variance)
    return values if settings.control is None else values[shuffled(labels, settings.control, seed)]


def _codes(labels: Any) -> NDArray[np.float64]:
    """One dimension per class that is there."""
    return np.asarray(np.asarray(labels)[:, None] == np.unique(labels)[None], dtype=np.float64)


def _standardised(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean 0 and variance 1 in every dimension; dimensions that do not vary are left out."""
    spread = values.std(0)
    varies = spread > 1e-9 * np.maximum(np.abs(values).max(0), 1e-30)
    if not varies.any():
        raise DataError(f"the responses to all {len(values)} training images are the same: give another roi")
    return np.asarray((values[:, varies] - values[:, varies].mean(0)) / spread[varies])


def principal_components(values: NDArray[np.float64], variance: float) -> NDArray[np.float64]:
    """Scores of the fewest components that hold a share of the variance.

    Each component points to where its largest loading is positive, so that its sign does not depend on the machine.

    Args:
        values: (n, D), centred.
        variance: share in (0, 1].

    Returns:
        (n, K), K <= D.
    """
    left, sizes, right = np.linalg.svd(values, full_matrices=False)
    held = np.cumsum(sizes**2) / np.sum(sizes**2)
    kept = min(int(np.searchsorted(held, variance - 1e-9)) + 1, int((sizes > 1e-9 * sizes[0]).sum()))
    largest = np.abs(right).argmax(1)
    signs = np.sign(right[np.arange(len(right)), largest])
    return np.asarray((left * sizes * signs)[:, :kept])


def shuffled(labels: NDArray[np.int64], control: Control, seed: int) -> NDArray[np.int64]:
    """Whose value each image gets: a permutation of all images, or one within every class.

    >>> labels = np.array([0, 1, 0, 1])
    >>> bool((labels[shuffled(labels, "shuffled-within-class", 0)] == labels).all())
    True
    """
    random = np.random.default_rng([seed, 20])
    if control == "shuffled":
        return random.permutation(len(labels))
    order = np.arange(len(labels))
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        order[own] = random.permutation(own)
    return order


def _targets(
    rows: NDArray[np.int64], values: NDArray[np.float64], known: pd.DataFrame, told: dict[str, Any]
) -> Targets:
    """Targets of the images with a row, in one scale; the values are in the order of these images."""
    there = rows >= 0
    scaled = (values / np.sqrt(np.mean(values**2))).astype(np.float32)
    own = np.where(there, np.cumsum(there) - 1, -1)
    numbers = {"images": int(there.sum()), "of": len(rows), "dimensions": scaled.shape[1]}
    return Targets(own, scaled, known["label"].to_numpy()[there], {**told, **numbers})
