"""Predictors of brain responses on disk: outputs/predictors/NAME, image -> responses of one area of one subject.

A folder holds the checkpoint of a network as it is (card.json, model.safetensors), a linear map from the features of a
layer (map.safetensors), the SHA-256 of the images that the map was fitted to (images.txt), and predictor.json, which is
sealed and has the digests of the others. The network is in evaluation mode, and its preprocessing is applied inside.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Image
from pydantic import Field
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import Tensor

from advalign import seals
from advalign.errors import DataError, InputError, quoted, unknown_name
from advalign.files import Project, replacing_folder, sha256
from advalign.models.checkpoints import CARD, WEIGHTS, load_checkpoint
from advalign.models.classifier import Classifier
from advalign.models.layer_vectors import LayerVectors
from advalign.models.zoo import evaluation_transform
from advalign.names import check_name
from advalign.strict_settings import ArchitectureName, PublishedName, Strict, parse
from advalign.tensors.linear_map import LinearMap

PREDICTOR, MAP, IMAGES = "predictor.json", "map.safetensors", "images.txt"
FILES = (PREDICTOR, MAP, IMAGES, CARD, WEIGHTS)
AT_ONCE = 200  # images
MEND = "fit it again with `advalign neural predictor --replace`"

Open = Callable[[], Image]
"""Opens a picture in RGB when it is needed."""


class PredictorCard(Strict):
    """Description of a predictor.

    Attributes:
        name: of the predictor.
        backbone, architecture: name and architecture of the network; its preprocessing is in its own card.
        layer: whose features are mapped; None: the penultimate ones.
        dimensions, seed: longer features are projected onto so many; the seed also drew the images that were held out.
        roi, subject, units: area, subject and number of its units.
        responses, provenance, normalisation, responses_sha256: what the map was fitted to.
        fitted, held_out: numbers of images.
        explained: mean share of the variance of the responses to the images held out, over units; below 0 where the
            mean response predicts better.
        over_ceiling: the same divided by each unit's ceiling; None: no ceiling is known.
        low, high: 95 % interval over images of over_ceiling, or else of explained.
        noise_ceiling: mean of the units' ceilings; None: unknown.
        card_sha256, weights_sha256, map_sha256, images_sha256: of the other files.
        inputs_sha256: digest of all that decides what is fitted.
        git_commit, git_dirty: of the project; None outside git.
    """

    name: PublishedName
    backbone: PublishedName
    architecture: ArchitectureName
    layer: str | None
    dimensions: int = Field(ge=1)
    seed: int = Field(ge=0)
    roi: str
    subject: str
    units: int = Field(ge=1)
    responses: PublishedName
    provenance: str
    normalisation: str
    responses_sha256: str
    fitted: int = Field(ge=1)
    held_out: int = Field(ge=1)
    explained: float
    over_ceiling: float | None
    low: float
    high: float
    noise_ceiling: float | None
    card_sha256: str
    weights_sha256: str
    map_sha256: str
    images_sha256: str
    inputs_sha256: str
    git_commit: str | None
    git_dirty: bool | None


@dataclass(frozen=True)
class Predictor:
    """A loaded predictor.

    Attributes:
        classifier: the network, in evaluation mode.
        card: the predictor's.
        fitted_to: SHA-256 of the images that the map was fitted to.
    """

    classifier: Classifier
    card: PredictorCard
    map: LinearMap
    fitted_to: frozenset[str]

    def responses(self, pixels: Tensor) -> NDArray[np.float32]:
        """Responses (N, units) to pixels (N, 3, H, W) in [0, 1], in the units of the responses of the fit."""
        features = layer_vectors(self.classifier, self.card.layer, [pixels], self.card.dimensions, self.card.seed)
        return self.map(features).astype(np.float32)

    def blocks(self, pictures: Iterable[Open]) -> Iterator[NDArray[np.float32]]:
        """Responses to pictures, which the network's own evaluation transform prepares, `AT_ONCE` at a time."""
        return map(self.responses, prepared(self.classifier, pictures))


def prepared(classifier: Classifier, pictures: Iterable[Open]) -> Iterator[Tensor]:
    """Pixels (n, 3, size, size) in [0, 1] of pictures as a network takes them, `AT_ONCE` at a time."""
    transform, block = evaluation_transform(classifier.preprocessing), []
    for opened in pictures:
        block.append(transform(opened()))
        if len(block) == AT_ONCE:
            yield torch.stack(block)
            block = []
    if block:
        yield torch.stack(block)


@torch.no_grad()
def layer_vectors(
    classifier: Classifier, layer: str | None, blocks: Iterable[Tensor], dimensions: int, seed: int
) -> NDArray[np.float64]:
    """What a layer computes of images (`LayerVectors`), the network in evaluation mode: (N, F), F at most `dimensions`.

    Raises:
        InapplicableError: there is no such layer, or it gives no features of images.
        DataError: a feature is not finite.
    """
    classifier.eval()
    found = []
    with LayerVectors(classifier, layer, dimensions, seed) as watched:
        for pixels in blocks:
            classifier(pixels)
            found.append(watched.values.double())
    values = torch.cat(found)
    if not values.isfinite().all():
        raise DataError(f"features of layer {layer or 'penultimate'} are not finite: name another model or layer")
    return values.numpy()


def registered_name(name: str) -> str:
    """The name of a predictor among registered models.

    Raises:
        InputError: not a name, or too long.

    >>> registered_name("v4-subject1")
    'predictor.v4-subject1'
    """
    return check_name(f"predictor.{check_name(name, 'predictor')}", "predictor")


def predictor_folder(project: Project, name: str) -> Path:
    """outputs/predictors/NAME, which may not be there yet.

    Raises:
        InputError: not a name.
    """
    return project.root / "outputs" / "predictors" / registered_name(name).removeprefix("predictor.")


def predictor_folders(project: Project) -> list[Path]:
    """All predictors of a project, by name."""
    return sorted(path.parent for path in (project.root / "outputs" / "predictors").glob(f"*/{PREDICTOR}"))


def need_predictor(project: Project, name: str) -> Path:
    """The folder of a predictor that is there.

    Raises:
        InputError: there is none of that name; offers the nearest.
    """
    folder = predictor_folder(project, name)
    if not (folder / PREDICTOR).is_file():
        known = [one.name for one in predictor_folders(project)]
        raise InputError(f"{unknown_name('predictor', name, known)}: `advalign neural predictor` fits one")
    return folder


def save_predictor(
    folder: Path, checkpoint: Path, fit: LinearMap, fitted_to: Iterable[str], told: dict[str, Any]
) -> PredictorCard:
    """Write a predictor as a whole: either all of its files are there, or none.

    Args:
        folder: of the predictor; another predictor there is replaced.
        checkpoint: folder of the network's checkpoint, which is copied.
        fit: the map.
        fitted_to: SHA-256 of the images that it was fitted to.
        told: the fields of `PredictorCard` other than the digests of the files.
    """
    with replacing_folder(folder) as new:
        for name in (CARD, WEIGHTS):
            shutil.copyfile(checkpoint / name, new / name)
        parts = {"mean": fit.mean, "spread": fit.spread, "weights": fit.weights, "intercept": fit.intercept}
        save_file({name: np.ascontiguousarray(part, np.float32) for name, part in parts.items()}, new / MAP)
        (new / IMAGES).write_text("".join(f"{one}\n" for one in sorted(fitted_to)), encoding="utf-8")
        digests = {key: sha256(new / file) for key, file in _DIGESTS.items()}
        card = parse(PredictorCard, {**told, **digests}, str(folder / PREDICTOR))
        seals.write_json(new / PREDICTOR, card.model_dump(mode="json"))
    return card


_DIGESTS = {"card_sha256": CARD, "weights_sha256": WEIGHTS, "map_sha256": MAP, "images_sha256": IMAGES}


def read_predictor_card(folder: Path) -> PredictorCard:
    """Read a predictor's card, and check that the other files are those that it names.

    Raises:
        DataError: a file is missing, damaged or another one.
    """
    path = folder / PREDICTOR
    try:
        card = parse(PredictorCard, seals.read_json(path, MEND), str(path))
        for key, file in _DIGESTS.items():
            if sha256(folder / file) != getattr(card, key):
                raise DataError(f"{folder / file}: its SHA-256 is not the one in {PREDICTOR}: {MEND}")
    except FileNotFoundError as error:
        raise DataError(f"{folder} is no predictor: {Path(error.filename).name} is missing: {MEND}") from None
    return card


def load_predictor(folder: Path) -> Predictor:
    """Rebuild a predictor; nothing is unpickled.

    Raises:
        DataError: as `read_predictor_card`, or the parts do not fit together.
    """
    card = read_predictor_card(folder)
    classifier, _ = load_checkpoint(folder)
    try:
        parts = {name: part.astype(np.float64) for name, part in load_file(folder / MAP).items()}
        fit = LinearMap(**parts)
    except (SafetensorError, TypeError) as error:
        raise DataError(f"{folder / MAP} is damaged ({quoted(error)}): {MEND}") from None
    return Predictor(classifier, card, fit, frozenset((folder / IMAGES).read_text(encoding="utf-8").split()))
