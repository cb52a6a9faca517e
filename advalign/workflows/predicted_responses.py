"""Responses that a predictor gives to the project's images: outputs/responses/NAME.h5, provenance predicted.

Images that the predictor was fitted to are left out, so what guides a training or tests a model is no fit.
"""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from advalign.data.image_digests import image_digests
from advalign.data.response_writer import About, writing_responses
from advalign.data.responses import ResponseStore, response_file
from advalign.data.training_images import AnyImages
from advalign.errors import InputError
from advalign.files import Project, sha256
from advalign.models.predictors import PREDICTOR, PredictorCard, load_predictor, need_predictor
from advalign.workflows.predictors import image_sets, picture


def predict_responses(project: Project, name: str, store_name: str, *, replace: bool = False) -> Path:
    """Predict the responses to the project's training and validation images: outputs/responses/STORE_NAME.h5.

    The file is written anew whenever this is asked. Images that the predictor was fitted to are left out. The noise
    ceiling of a unit is NaN: a prediction has no noise, and how much of a brain it explains is no property of the
    prediction.

    Args:
        project: with the images.
        name: of the predictor.
        store_name: of the set of responses; training images are its split train, validation images its validation.
        replace: whether a set of responses of that name with other content may be replaced.

    Returns:
        The file.

    Raises:
        InputError: an unknown predictor, a name that is taken, or no training image is left.
        DataError: a file is damaged or missing.
    """
    in_data = response_file(project, store_name)
    if in_data.exists():
        raise InputError(f"{in_data} is there, and recipes would read it instead: give another name with --as")
    path = project.root / "outputs" / "responses" / in_data.name
    folder = need_predictor(project, name)
    predictor = load_predictor(folder)
    card = predictor.card
    where, table, splits = _unseen(project, predictor.fitted_to, name)
    sources = {f"{name}/{PREDICTOR}": sha256(folder / PREDICTOR), f"{card.responses}.h5": card.responses_sha256}
    about = About("predicted", card.normalisation, _sentence(card), sources)
    units = pd.DataFrame({"roi": [card.roi] * card.units, "subject": card.subject})
    if path.exists() and not replace:
        there = ResponseStore.open(path)
        if there.sources != sources or list(there.images["sha256"]) != list(table["sha256"]):
            raise InputError(f"{path} exists with other content: give another name with --as, or --replace")
    opens = (partial(picture, *one) for one in where)
    with writing_responses(path, about, table, units) as writer:
        first = 0
        for block in predictor.blocks(opens):
            members = np.arange(first, first + len(block))
            writer.add_trials(members, block, splits[members], 0, np.zeros(len(block), np.int32))
            first += len(block)
    return path


def _unseen(
    project: Project, fitted_to: frozenset[str], name: str
) -> tuple[list[tuple[AnyImages, int]], pd.DataFrame, NDArray[np.int8]]:
    """The project's images that a predictor was not fitted to: where each is, id, sha256 and label, and its split."""
    where: list[tuple[AnyImages, int]] = []
    tables, counts = [], []
    for split, images in zip(("train", "validation"), image_sets(project), strict=True):
        known = image_digests(images, project.digests)
        numbers = np.flatnonzero(~known["sha256"].isin(fitted_to))
        if split == "train" and not len(numbers):
            raise InputError(f"{name} was fitted to all {len(known)} training images: none is left to guide a training")
        where += [(images, int(number)) for number in numbers]
        tables.append(known.iloc[numbers].assign(id=[f"{split}/{number:05}" for number in numbers]))
        counts.append(len(numbers))
    return where, pd.concat(tables, ignore_index=True), np.repeat(np.array([0, 1], np.int8), counts)


def _sentence(card: PredictorCard) -> str:
    """What the file of predicted responses says of itself."""
    layer = "the penultimate features" if card.layer is None else f"layer {card.layer}"
    known = "" if card.over_ceiling is None else f" ({card.over_ceiling:.3f} of what can be explained)"
    return (
        f"Predicted by {card.name}, a linear map from {layer} of {card.backbone}, fitted to {card.provenance} "
        f"responses {card.responses} to {card.fitted} images, which are not in here. Of the variance of responses to "
        f"{card.held_out} other images it explains {card.explained:.3f}{known}."
    )
