"""`params.yaml` as frozen, typed settings: the only source of run values. An unknown key is an error, not a default."""

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from advalign.errors import InputError
from advalign.names import check_distinct
from advalign.strict_files import read_yaml
from advalign.strict_settings import PublishedName, Strict, parse

PARAMS = "params.yaml"


class StimuliSettings(Strict):
    """Which stimuli are frozen, and the attack space (docs/methods.md, section Attack space)."""

    split: Literal["train", "val", "test", "imagenet"] = Field(
        "test", description="of ClickMe; or imagenet: the validation images, which have no human maps"
    )
    size: int = Field(224, ge=16, description="side of the attack space in pixels")
    crop: float = Field(0.875, gt=0, le=1, description="share of the resized image that the centre crop keeps")
    categories_per_superclass: int = Field(20, ge=1)
    images_per_category: int = Field(4, ge=1)


class HumanMapSettings(Strict):
    """How trials of participants become human maps, ceilings and floors (docs/human-maps.md)."""

    catch: float = Field(0.95, ge=0, le=1, description="least share of catch trials that a participant passed")
    drop_mobile: bool = Field(True, description="drop trials from a mobile device")
    min_clicks: int = Field(10, ge=0, description="trials with so few clicks, or fewer, are dropped")
    max_clicks: int | None = Field(75, ge=1, description="first clicks of a trial that are kept; null: all")
    min_subjects: int = Field(5, ge=2, description="images with fewer participants are dropped")
    outlier_z: float = Field(-3.0, lt=0, description="robust z of a participant's agreement that is suspicious")
    drop_outliers: bool = Field(False, description="drop suspicious participants, who are listed in any case")

    resize: int = Field(256, ge=16, description="short side in pixels of the image that clicks are counted on")
    crop: float = Field(0.875, gt=0, le=1, description="share of the resized image that the centre crop keeps")
    side: int = Field(64, ge=8, description="side of the square maps that agreement is computed on, in pixels")
    kernel: Literal["gaussian", "disc"] = Field("gaussian", description="disc: a flat disc, applied twice")
    window: int = Field(21, ge=1, description="side of the kernel in pixels of the resized image, odd")
    sigma: float | None = Field(None, gt=0, description="of the Gaussian, in the same pixels; null: sqrt(window)")
    clicks_up_to: int | None = Field(None, ge=1, description="of every trial, in order of time; null: all")

    splits: int = Field(100, ge=100, description="seeded random halves of the participants of every image")
    bootstrap: int = Field(200, ge=100, description="resamples of the participants, for the intervals of ceilings")

    @model_validator(mode="after")
    def _possible(self) -> "HumanMapSettings":
        if self.window % 2 == 0:
            raise ValueError(f"window {self.window} is even and would shift the map by half a pixel: give an odd one")
        if self.window > self.resize:
            raise ValueError(f"window {self.window} is wider than the image, which resize makes {self.resize} pixels")
        if self.max_clicks is not None and self.max_clicks <= self.min_clicks:
            raise ValueError(f"max_clicks {self.max_clicks} must be above min_clicks {self.min_clicks}")
        return self


class TrainSettings(Strict):
    """What all recipes share, so that twins differ in their recipe alone."""

    images: Literal["clickme", "imagenet", "cifar"] = Field(
        "clickme",
        description="clickme: its shards; imagenet: the training folder, and ClickMe's shards mixed in; cifar: "
        "data/cifar/train, whose object masks take the place of human maps",
    )
    size: int = Field(224, ge=8, description="side of the network's input in pixels")
    crop: float = Field(1.0, gt=0, le=1, description="share of the resized image that evaluation's centre crop keeps")
    epochs: int = Field(8, ge=1)
    batch_size: int = Field(64, ge=1, description="images per step, of all processes together")
    accumulate: int = Field(1, ge=1, description="parts that a process's share of a batch is computed in")

    optimiser: str = Field("adamw", description="as timm names it: adamw, sgd, lamb, ...")
    learning_rate: float = Field(4e-3, gt=0, description="the highest")
    weight_decay: float = Field(0.02, ge=0, description="norm and bias parameters are excluded")
    schedule: Literal["onecycle", "cosine", "step"] = "onecycle"
    warmup: float = Field(0.15, ge=0, lt=1, description="share of the steps in which the rate rises")
    decay_epochs: int = Field(30, ge=1, description="of the schedule step: a tenth of the rate after each so many")
    clip_norm: float | None = Field(2.0, gt=0, description="largest l2 norm of the gradient; null: as it is")
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    ema: float | None = Field(None, gt=0, lt=1, description="decay of the moving average that is kept; null: none")

    augmentation: Literal["shift", "pad", "crop"] = Field("shift", description="moves image and map")
    flip: bool = Field(True, description="mirror half of the images")
    shift: int = Field(
        4,
        ge=0,
        description="largest shift in pixels; of shift: one per batch, edges repeated; of pad: one per image, filled "
        "with black",
    )
    smallest_crop: float = Field(0.08, gt=0, le=1, description="of crop: least share of the image's area")
    color_jitter: float = Field(0.0, ge=0, le=1, description="of crop: brightness, contrast and saturation")
    three_augment: bool = Field(False, description="of crop: grey, solarised or blurred (timm's 3a)")
    mixup: float = Field(0.0, ge=0, description="alpha; maps are mixed with their images")
    cutmix: float = Field(0.0, ge=0, description="alpha; maps are cut with their images")
    blur_maps: bool = Field(False, description="prepare raw ClickMe maps as Fel et al. 2022 do")

    precision: Literal["float32", "bfloat16"] = Field("float32", description="bfloat16: see docs/training.md")
    channels_last: bool = Field(False, description="memory layout of recipes without a double backward")
    compile: bool = Field(False, description="torch.compile, for recipes without a double backward")
    sync_batch_norm: bool = Field(False, description="batch statistics over all processes")
    threads: int = Field(2, ge=1, description="CPU threads: part of what makes a run repeat to the byte")

    workers: int = Field(
        0, ge=0, description="processes that decode, of each training process; 0: none, and what is decoded is kept"
    )
    save_minutes: float = Field(10.0, gt=0, description="between saved states, in addition to those after every epoch")
    pictures: int = Field(2, ge=0, description="epochs between pictures of saliency and human maps; 0: none")

    def identity(self) -> dict[str, Any]:
        """The values that the trained weights depend on."""
        return self.model_dump(exclude={"workers", "save_minutes", "pictures"})


class ProtocolSettings(Strict):
    """A protocol of one's own: a probe or an attack with settings, on an image set."""

    probe: str | None = Field(None, description="default: the one that runs the attack")
    attack: str | None = Field(None, description="for a probe that attacks")
    image_set: str | None = Field(None, description="default: the probe's")
    settings: dict[str, Any] = Field(default_factory=dict, description="of the attack, or else of the probe")

    @model_validator(mode="after")
    def _asks_something(self) -> "ProtocolSettings":
        if self.probe is None and self.attack is None:
            raise ValueError("a protocol needs a probe or an attack")
        return self


class EvaluateSettings(Strict):
    """How models are attacked and scored."""

    protocol: str = Field("fmn-fast", description="the headline: what statistics and figures are about")
    also: tuple[str, ...] = Field((), description="further protocols, set beside the headline and never mixed with it")
    companions: tuple[str, ...] = Field(
        ("predictions",), description="protocols that are run with every other; their numbers are in its summary"
    )
    protocols: dict[PublishedName, ProtocolSettings] = Field(default_factory=dict, description="of one's own, by name")
    shard_size: int = Field(48, ge=1, description="items per task: fixed members, so that every engine agrees")
    task_tflop: float | None = Field(
        4.0,
        gt=0,
        description="most arithmetic of a task in TFLOP: a costly model's tasks have fewer items; null: no such limit",
    )
    threads: int = Field(1, ge=1, description="CPU threads per worker")
    batch_size: int | None = Field(None, ge=1, description="most images in one pass; halved where memory runs out")
    search_precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="of the passes that fmn-fast searches with; it verifies in float32"
    )
    zoo: tuple[str, ...] = Field((), description="names or patterns of registry/zoo.yaml: for the pipeline too")
    gallery: int = Field(12, ge=0, description="stimuli whose perturbation maps are kept as pictures")
    metrics: tuple[str, ...] = Field((), description="of the probes that they are of; other probes have all of theirs")


class CompareSettings(Strict):
    """How the zoo is judged."""

    bootstrap: int = Field(10_000, ge=100, description="resamples of every interval")


class Training(Strict):
    """One trained model: an architecture, a recipe, and what differs from the recipe's settings."""

    model: str = Field(description="a timm name, torchvision:NAME or python:package.module:function")
    recipe: str
    arguments: dict[str, Any] = Field(default_factory=dict, description="of the architecture, as its origin takes them")
    overrides: dict[str, Any] = Field(default_factory=dict, description="of the recipe's settings")
    train: dict[str, Any] = Field(default_factory=dict, description="of the settings that all recipes share")


class SimulationSettings(Strict):
    """Responses that are made from the images, with known content (docs/neural.md, section Simulated responses)."""

    name: PublishedName = "simulated"
    areas: dict[str, str] = Field(
        min_length=1, description="area -> a feature space, category-and-parts or checkpoint:NAME"
    )
    units: int = Field(64, ge=2, description="of every area: random projections of its features")
    ceiling: float = Field(0.9, gt=0, lt=1, description="share of the variance of an average over repeats")
    repeats: int = Field(3, ge=2)
    validation: int = Field(100, ge=2, description="the first so many validation images have responses too")


class GuidanceProtocols(Strict):
    """Protocols that the models of a study are measured with; null: not."""

    l2: str | None = "fmn-fast"
    linf: str | None = "linf-curve"
    geometry: str | None = "geometry"
    fit: str | None = "neural-fit"

    def named(self) -> dict[str, str]:
        """What is measured -> its protocol."""
        return {key: name for key, name in self.model_dump().items() if name is not None}


class GuidanceSettings(Strict):
    """A study of guided models with all their controls (docs/neural.md, section The study and its verdict)."""

    responses: PublishedName
    areas: tuple[str, ...] = Field(min_length=1, description="in their order, the lowest first")
    subjects: tuple[str, ...] = Field((), description="a model for each; none: the units of all side by side")
    model: str = Field("test_resnet", description="architecture of every arm")
    recipe: Literal["guided", "manifold-guided"] = "guided"
    overrides: dict[str, Any] = Field(default_factory=dict, description="of the recipe's settings")
    train: dict[str, Any] = Field(default_factory=dict, description="of the settings that all recipes share")
    seeds: int = Field(5, ge=1, description="of every area, its shuffle, the class code and unguided training")
    control_seeds: int | None = Field(None, ge=1, description="of the other controls; null: as many")
    shorter: tuple[dict[str, Any], ...] = Field(
        ({"epochs": 1}, {"epochs": 2}, {"epochs": 4}),
        description="changes of `train` for unguided trainings that are less accurate, to match accuracies with",
    )
    controls: tuple[
        Literal["shuffled", "shuffled-within-class", "degraded", "class-code", "random-net", "none-ce"], ...
    ] = Field(("shuffled", "shuffled-within-class", "degraded", "class-code", "random-net", "none-ce"))
    others: dict[PublishedName, "Training"] = Field(
        default_factory=dict, description="models that are robust by other means, for their geometry"
    )
    protocols: GuidanceProtocols = Field(default_factory=lambda: GuidanceProtocols.model_validate({}))
    images: int | None = Field(None, ge=2, description="the first so many items of the protocols; null: all")
    workers: int = Field(2, ge=1, description="processes that train")

    @model_validator(mode="after")
    def _distinct(self) -> "GuidanceSettings":
        if len(set(self.areas)) < len(self.areas):
            raise ValueError("areas: the same area twice")
        if not (self.protocols.l2 or self.protocols.linf):
            raise ValueError("protocols: neither l2 nor linf, so nothing would be judged")
        return self


class Settings(Strict):
    """All of params.yaml."""

    seed: int = Field(0, ge=0, lt=2**31)
    human_maps: HumanMapSettings = Field(default_factory=lambda: HumanMapSettings.model_validate({}))
    stimuli: StimuliSettings
    train: TrainSettings
    recipes: dict[str, dict[str, Any]]
    trainings: dict[PublishedName, Training]
    evaluate: EvaluateSettings
    compare: CompareSettings
    simulation: SimulationSettings | None = Field(None, description="responses that are made from the images")
    guidance: dict[PublishedName, GuidanceSettings] = Field(default_factory=dict, description="studies, by name")


def load_settings(root: Path) -> Settings:
    """Read `params.yaml` in the project's root.

    Raises:
        InputError: missing file, broken YAML, repeated or unknown key, wrong type or range.
    """
    path = root / PARAMS
    try:
        values = read_yaml(path, source=PARAMS)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: run inside a project (a folder with {PARAMS})") from None
    settings = parse(Settings, values, PARAMS)
    check_distinct(settings.trainings, f"{PARAMS}: trainings")
    return settings


class Trainings(Strict):
    """A list of trainings that says all of each: registry/trainings.yaml."""

    shared: dict[str, Any] = Field(default_factory=dict, description="blocks that the trainings refer to")
    trainings: dict[PublishedName, Training]


def read_trainings(path: Path) -> dict[str, Training]:
    """Read trainings by their published names; none where the file does not exist.

    Raises:
        InputError: broken YAML, repeated or unknown key, wrong type.
    """
    if not os.path.lexists(path):
        return {}
    return dict(parse(Trainings, read_yaml(path), str(path)).trainings)
