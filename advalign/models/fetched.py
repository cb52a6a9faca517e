"""Models of the declared zoo as checkpoints: fetched from the place that zoo.yaml names, in this project's format.

A fetched model is a folder like any trained checkpoint, so everything downstream knows one format only. Its weights
may be pruned; the card stays and identifies them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock
from torch import Tensor, nn

from advalign.errors import AdvalignError, DataError, InputError
from advalign.inputs import digests
from advalign.models.checkpoints import (
    CARD,
    WEIGHTS,
    Card,
    ClassCard,
    load_checkpoint,
    need_weights,
    read_card,
    save_checkpoint,
)
from advalign.models.classifier import Classifier, Preprocessing
from advalign.models.declared import HUB, OWN, ZooEntry
from advalign.models.origins import origin_of
from advalign.models.origins.python import OwnCode
from advalign.models.origins.timm import Timm, current_name
from advalign.models.published import (
    classifier_parameters,
    convert_all,
    fetch_pretrained,
    pretrained_classes,
)
from advalign.models.states import SUFFIXES, check_kinds, chosen, matching_state, read_states
from advalign.models.zoo import check_input, create_network
from advalign.names import SCHEME, baseline_name, parse_reference
from advalign.progress import say
from advalign.strict_settings import digest, parse

REGISTRY = SCHEME


@dataclass(frozen=True)
class FetchedModel:
    """An entry of the zoo, and the checkpoint folder that it becomes.

    Attributes:
        name, entry: of registry/zoo.yaml.
        weights: where they come from: "hub", "own" (the python: function gives them), a path relative to `root`, or
            models:/NAME@alias.
        folder: the checkpoint that it becomes.
        root: of the repository (`Project.home`).
        classes, decisions: of the data, as cards keep them.
        download: fetches a registered model (models:/...) and returns its checkpoint folder.
        remembered: digests of files that have not changed (`advalign.inputs`); None: read the files.
    """

    name: str
    entry: ZooEntry
    weights: str
    folder: Path
    root: Path
    classes: tuple[ClassCard, ...]
    decisions: tuple[str, ...]
    download: Callable[[str], Path]
    remembered: Path | None = None

    @property
    def architecture(self) -> str:
        """A timm name, torchvision:NAME or python:package.module:function."""
        return current_name(self.entry.architecture or self.name)

    def known(self) -> Card | None:
        """The card of an earlier fetch from the same place, whether or not its weights have been pruned."""
        if self.weights.startswith(REGISTRY):
            return None  # an alias may have moved
        if not (self.folder / CARD).is_file():
            return None
        try:
            card = read_card(self.folder)
        except InputError as error:
            _say_again(str(error))
            return None
        try:
            identity = self._identity()
        except AdvalignError:  # fetching says what is wrong with the entry
            return None
        if card.inputs_sha256 == identity:
            return card
        if card.settings.get("zoo") == self.entry.model_dump(mode="json") and self._file() is not None:
            _say_again(f"{self._file()} or the classes changed since {self.name} was fetched")
        return None

    def fetch(self) -> Card:
        """Make the checkpoint folder, unless it exists and is complete.

        Raises:
            AdvalignError: the weights cannot be fetched, do not fit, or are for different classes.
        """
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder.parent / f".{self.name}.lock"):  # another run may fetch the same model
            card = self.known()
            if card is None or not (self.folder / WEIGHTS).is_file():
                return self._fetch()
            try:
                need_weights(self.folder, card)
            except DataError as error:
                _say_again(str(error))
                return self._fetch()
            return card

    def _fetch(self) -> Card:
        checkpoint = self._checkpoint()
        classifier, own = (self._classifier(), None) if checkpoint is None else load_checkpoint(checkpoint)
        if own is not None:
            self._check_own(own)
        architecture = own.architecture if own else self.architecture
        twin = None if self.entry.recipe == "pretrained" else baseline_name(architecture)
        fields = {
            "name": self.name,
            "architecture": architecture,
            "arguments": own.arguments if own else self.entry.arguments,
            "classes": self.classes,
            "decisions": self.decisions,
            "recipe": self.entry.recipe,
            "group": self.entry.group,
            "baseline": own.baseline if own and own.baseline else twin,
            "settings": {"zoo": self.entry.model_dump(mode="json"), "weights": self.weights},
            "seed": 0,
            "inputs_sha256": self._identity(),
            "data_md5": None,
            "metrics": {},
            "license": self.entry.license,
        }
        return save_checkpoint(self.folder, classifier, fields)

    def _check_own(self, own: Card) -> None:
        """A checkpoint describes itself: an entry that contradicts it must not be ignored silently."""
        entry = self.entry
        if [one.wnid for one in own.classes] != [one.wnid for one in self.classes]:
            raise DataError(
                f"{self.name}: {self.weights} ({own.name}) was trained on different classes ({len(own.classes)}) than "
                f"data/classes.yaml ({len(self.classes)}): evaluate it on its own data"
            )
        said = [key for key in ("arguments", "preprocessing", "head") if getattr(entry, key)]
        if said or entry.architecture not in (None, own.architecture):
            raise InputError(
                f"zoo entry {self.name}: {(said or ['architecture'])[0]} is known from the checkpoint itself "
                f"({self.weights}): remove it from the entry"
            )

    def prune(self) -> None:
        """Remove the weights; they can be fetched again."""
        (self.folder / WEIGHTS).unlink(missing_ok=True)

    def preprocessing(self) -> Preprocessing:
        """The origin's for the architecture, with the entry's own values.

        Raises:
            InputError: unknown architecture, an unknown key or value, or no size.
        """
        origin = origin_of(self.architecture)
        if isinstance(origin, Timm) and "input_size" not in self.entry.preprocessing:
            origin.check_square()
        values = {**origin.preprocessing(), **self.entry.preprocessing}
        if "input_size" not in values:
            raise InputError(
                f"zoo entry {self.name}: preprocessing lacks input_size, which nobody else knows of "
                f"{self.architecture}: add preprocessing: {{input_size: 224}}, or the side in pixels that it takes"
            )
        return parse(Preprocessing, values, f"zoo entry {self.name}: preprocessing")

    def blank(self) -> Classifier:
        """The network with random weights, in evaluation mode."""
        preprocessing = self.preprocessing()
        asked = (self.architecture, len(self.classes), preprocessing.input_size, dict(self.entry.arguments))
        check_input(*asked)
        network = create_network(*asked)
        return Classifier(network, preprocessing).eval()

    def _identity(self) -> str:
        """Digest of the weights' place, of their content where they are in a file, and of how they are read."""
        files = [self._file(), self._path(self.entry.head) if self.entry.head else None]
        there = [file for file in files if file is not None and file.is_file()]
        found = [one.sha256 for one in digests(there, self.remembered).values()]
        classes = [[one.wnid, one.decision] for one in self.classes]
        code = origin_of(self.architecture).code_sha256()
        return digest([self.entry.model_dump(mode="json"), self.weights, found, classes, *([code] if code else [])])

    def _path(self, place: str) -> Path:
        return (self.root / Path(place).expanduser()).resolve()

    def _file(self) -> Path | None:
        """The local file of the weights, whether it exists or not; None where they are not in a file."""
        if self.weights in (HUB, OWN) or self.weights.startswith(REGISTRY):
            return None
        path = self._path(self.weights)
        if path.is_file() or path.suffix in SUFFIXES:
            return path
        candidates = [path / self.name / CARD, *(path / f"{self.name}{suffix}" for suffix in SUFFIXES)]
        return next((file for file in candidates if file.is_file()), path / f"{self.name}.safetensors")

    def _checkpoint(self) -> Path | None:
        """The folder, if the weights are a checkpoint in this project's format."""
        if self.weights.startswith(REGISTRY):
            return self.download(parse_reference(self.weights).uri)
        file = self._file()
        return file.parent if file is not None and file.name == CARD else None

    def _classifier(self) -> Classifier:
        """The network with its weights in place."""
        self._check_place()
        if self.weights == OWN:
            return self.blank()
        file = self._file()
        hub = self._hub_state() if file is None else {}  # first: it may fail, and the network may be large
        classifier = self.blank()
        heads = classifier_parameters(classifier.network) if self.entry.head else set()
        if file is None:
            state = {name: value for name, value in hub.items() if name not in heads}
        else:
            every = classifier.network.state_dict()
            state = self._local_state(file, {name: value for name, value in every.items() if name not in heads})
        if self.entry.head:
            state |= self._head(heads)
        _load(classifier.network, state, f"{file or self.name}", self.architecture)
        return classifier

    def _hub_state(self) -> dict[str, Tensor]:
        self._check_classes()
        size = self.preprocessing().input_size
        with TemporaryDirectory(prefix=".hub-", dir=self.folder.parent) as cache:
            return fetch_pretrained(self.architecture, size, self.entry.arguments, Path(cache))

    def _local_state(self, file: Path, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The wanted tensors of a file: unchanged, or as timm converts a file of the authors."""
        states = read_states(file)
        try:
            return matching_state(states, wanted, str(file))
        except DataError:
            if not isinstance(origin_of(self.architecture), Timm) or self.entry.head:
                raise
            size = self.preprocessing().input_size
            converted = convert_all(self.architecture, len(self.classes), size, self.entry.arguments, states)
            if not converted:
                raise
        return converted[chosen(converted, str(file))]

    def _check_place(self) -> None:
        """Each place has weights of some origins only."""
        origin, entry = origin_of(self.architecture), f"zoo entry {self.name}"
        if self.weights == OWN and not isinstance(origin, OwnCode):
            raise InputError(
                f"{entry}: weights: own is of python: architectures, not of {self.architecture}: name a file"
            )
        if self.weights == HUB and not isinstance(origin, Timm):
            also = " (or weights: own, where its code gives them)" if isinstance(origin, OwnCode) else ""
            raise InputError(
                f"{entry}: the hub has no weights of {self.architecture}: name a file (weights: FILE){also}"
            )
        if self.entry.head and not isinstance(origin, Timm):
            raise InputError(f"{entry}: head is of timm's architectures, not of {self.architecture}: take it out")

    def _check_classes(self) -> None:
        """A head for other classes, or a missing head, would silently become a random one."""
        theirs = pretrained_classes(self.architecture)
        if theirs != len(self.classes) and not self.entry.head:
            raise InputError(
                f"{self.name}: the hub's weights are for {theirs} classes, data/classes.yaml has {len(self.classes)}: "
                "name the classifier's weights in its entry (head: FILE), or evaluate it on its own data"
            )

    def _head(self, names: set[str]) -> dict[str, Tensor]:
        file = self._path(str(self.entry.head))
        by_end = {name.rpartition(".")[2]: name for name in names}
        found = matching_state(read_states(file), by_end, str(file))
        return {by_end[end]: value for end, value in found.items()}


@cache
def _say_again(why: str) -> None:
    """Say once why a model is fetched again."""
    say(f"{why}; the model is fetched again")


def _load(network: nn.Module, state: dict[str, Tensor], source: str, architecture: str) -> None:
    check_kinds(state, network.state_dict(), source)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        first = str(error).strip().splitlines()[1:2]  # of a list of all that does not fit
        reason = " ".join(" ".join(first).split()).rstrip(".")
        raise DataError(f"{source} does not fit architecture {architecture!r}: {reason}: fetch others") from None
