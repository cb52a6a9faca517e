"""Checkpoints on disk: model.safetensors (weights) and card.json (everything else needed to use the weights)."""

from pathlib import Path
from typing import Any

from pydantic import Field, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from advalign import seals
from advalign.errors import DataError, quoted
from advalign.files import replacing, sha256
from advalign.models.classifier import Classifier, Preprocessing
from advalign.models.origins import origin_of
from advalign.models.states import check_finite
from advalign.models.zoo import create_network
from advalign.strict_csv import parse_number, read_csv
from advalign.strict_files import read_json
from advalign.strict_settings import ArchitectureName, PublishedName, Strict, parse

WEIGHTS, CARD, HISTORY = "model.safetensors", "card.json", "history.csv"


class ClassCard(Strict):
    """One class of a model; cards hold the mapping from classes to decisions."""

    wnid: str
    name: str
    decision: int = Field(ge=0, description="index into `decisions`: the group that the class belongs to")


class Card(Strict):
    """Description of a checkpoint.

    The file is sealed; one that was written by an earlier version has no seal, and is read.

    Attributes:
        name: the published name ("test_resnet.harmonized").
        architecture: a timm name, torchvision:NAME or python:package.module:function; `arguments` are its keyword
            arguments.
        code_sha256: of the code that builds a python: architecture; None where a library builds it.
        preprocessing: input size, mean, std, interpolation, crop.
        classes: one per logit; `decisions` names the groups of classes.
        recipe, settings, seed: of the training.
        group: of the model in comparisons: cnn, vit, hybrid, ssl, harmonized, robust, or a recipe's own group. None in
            older cards, and where registry/zoo.yaml did not declare the architecture: then the recipe's group is used
            (`recipes.base.Recipe.group`), and for a standard recipe the group in registry/zoo.yaml now.
        baseline: published name of the twin that the model is compared with. None in older cards: then the recipe names
            it. None in newer cards: there is no twin.
        inputs_sha256: digest of the training's settings, data and code.
        data_md5: DVC's digest of the data it was trained on, None when the data is not tracked.
        weights_sha256: of model.safetensors, so that changed weights are found.
        history_sha256: of history.csv; None where the weights were not trained here, and in older cards.
        metrics: of the last epoch ("val_accuracy", ...).
    """

    name: PublishedName
    architecture: ArchitectureName
    arguments: dict[str, Any]
    code_sha256: str | None = None
    preprocessing: Preprocessing
    classes: tuple[ClassCard, ...] = Field(min_length=1)
    decisions: tuple[str, ...]
    recipe: PublishedName
    group: PublishedName | None = None
    baseline: PublishedName | None = None
    settings: dict[str, Any]
    seed: int
    inputs_sha256: str
    data_md5: str | None
    weights_sha256: str
    history_sha256: str | None = None
    metrics: dict[str, float]
    license: str = "MIT"

    @model_validator(mode="after")
    def _decisions_of_classes(self) -> "Card":
        last, known = max(self.group_of_class), len(self.decisions)
        if last >= known:
            raise ValueError(f"a class belongs to decision {last}, there are {known}: fix the card")
        return self

    @property
    def group_of_class(self) -> list[int]:
        """Index of the decision of every class."""
        return [entry.decision for entry in self.classes]


def save_checkpoint(folder: Path, classifier: Classifier, card: dict[str, Any]) -> Card:
    """Write the weights, then the card with their digest: a folder with a card is complete.

    Args:
        folder: of the checkpoint; made if needed.
        classifier: the trained classifier.
        card: the fields of `Card` other than weights_sha256, code_sha256 and preprocessing.

    Raises:
        DataError: a weight is not finite; nothing is written.
    """
    check_finite(classifier.network, f"the weights of {card['name']}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CARD).unlink(missing_ok=True)
    state = {name: value.detach().cpu().contiguous().clone() for name, value in classifier.network.state_dict().items()}
    with replacing(folder / WEIGHTS) as temporary:
        save_file(state, temporary)
    complete = Card(
        **card,
        preprocessing=classifier.preprocessing,
        weights_sha256=sha256(folder / WEIGHTS),
        code_sha256=origin_of(card["architecture"]).code_sha256(),
    )
    write_card(folder, complete)
    return complete


def write_card(folder: Path, card: Card) -> None:
    """Write a checkpoint's card in one move."""
    seals.write_json(folder / CARD, card.model_dump(mode="json"))


def read_card(folder: Path) -> Card:
    """Read a checkpoint's card.

    Raises:
        DataError: no card, not JSON, a repeated key, or not as it was written.
        InputError: an unknown key, or a value of another type.
    """
    path = folder / CARD
    try:
        values = read_json(path, DataError)
        if isinstance(values, dict) and values.pop(seals.KEY, None) is not None:
            mend = f'train, fetch or import it again; where you edited it yourself, remove its line "{seals.KEY}"'
            seals.need_whole(path, mend)
    except OSError:
        raise DataError(f"{folder} is not a checkpoint: it has no {CARD}") from None
    return parse(Card, values, str(path))


def read_history(folder: Path, card: Card) -> list[dict[str, float]]:
    """Read the history of a checkpoint's training: numbers by name, one mapping per epoch, without empty cells.

    Returns:
        Nothing where the weights were not trained here.

    Raises:
        DataError: it is missing, is not the one that the card names, or is no table of numbers.
    """
    path = folder / HISTORY
    if card.history_sha256 is not None and not (path.is_file() and sha256(path) == card.history_sha256):
        raise DataError(
            f"{path} is missing or was changed: its SHA-256 is not the one in {CARD}: train the model again"
        )
    try:
        (_, header), *rows = read_csv(path, DataError) or [(1, [])]
        if "step" not in header:
            raise ValueError("it has no column step")
        return [
            {name: parse_number(cell) for name, cell in zip(header, cells, strict=True) if cell} for _, cells in rows
        ]
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise DataError(f"{path}: not a learning curve ({error}): train again, or take the file away") from None


def need_weights(folder: Path, card: Card) -> Path:
    """The file of a checkpoint's weights.

    Raises:
        DataError: it is missing, or is not the one that the card names.
    """
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise DataError(f"{folder}: {WEIGHTS} is missing")
    if sha256(weights) != card.weights_sha256:
        raise DataError(f"{weights}: its SHA-256 is not the one in {CARD}: the weights were changed or damaged")
    return weights


def load_checkpoint(folder: Path) -> tuple[Classifier, Card]:
    """Rebuild a classifier in evaluation mode from its checkpoint; nothing is unpickled.

    Raises:
        DataError: incomplete, changed since it was written, or weights of another architecture.
    """
    card = read_card(folder)
    weights = need_weights(folder, card)
    network = create_network(card.architecture, len(card.classes), card.preprocessing.input_size, card.arguments)
    if origin_of(card.architecture).code_sha256() != card.code_sha256:
        raise DataError(
            f"{folder}: the code of {card.architecture} was changed since the checkpoint was written: put the old code "
            "back, or train or fetch the model again"
        )
    try:
        network.load_state_dict(load_file(weights))
    except (RuntimeError, SafetensorError) as error:
        raise DataError(
            f"{weights} does not fit architecture {card.architecture!r}: {quoted(error)}: train or fetch it again"
        ) from None
    return Classifier(network, card.preprocessing).eval(), card
