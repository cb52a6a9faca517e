"""The arms of a study of guided models: what is trained, from which targets, over which seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from advalign.analysis.guidance.measured import (
    AREA,
    CLASS_CODE,
    DEGRADED,
    NONE,
    NONE_CE,
    OTHER,
    RANDOM,
    SHORTER,
    SHUFFLED,
    WITHIN,
)
from advalign.names import as_word, check_name
from advalign.settings import GuidanceSettings, Training

PER_AREA = {SHUFFLED: "shuffled", WITHIN: "within", DEGRADED: "degraded"}


@dataclass(frozen=True)
class Arm:
    """A training that is repeated over seeds.

    Attributes:
        name: unique in the project: models of equal arms are shared by studies.
        role, area, subject: as in `analysis.guidance.measured.Results`.
        training: architecture, recipe and what differs.
        seeds: how many; 0, 1, ...
    """

    name: str
    role: str
    area: str
    subject: str
    training: Training
    seeds: int

    def model(self, seed: int) -> str:
        """The published name of the model of a seed."""
        return check_name(f"{self.name}.seed{seed}")


def degraded_name(study: str, asked: GuidanceSettings) -> str:
    """Name of the responses whose areas have one ceiling and dimension: they depend on which areas are compared."""
    return f"{asked.responses}.degraded.{study}"


def random_name(asked: GuidanceSettings) -> str:
    """Name of the responses of an untrained network."""
    return f"random.{as_word(asked.model)}"


def arms(study: str, asked: GuidanceSettings, reliable: Sequence[str], train: Any, can_match: bool) -> list[Arm]:
    """All arms of a study: unguided, class code, every area, and their controls.

    Args:
        study: its name.
        asked: its settings.
        reliable: the areas that guide; others are left out.
        train: `train` of params.yaml.
        can_match: whether the guided recipes weigh the cross-entropy less than unguided training does.
    """
    few = asked.control_seeds or asked.seeds
    found = [Arm("none", NONE, "", "", _unguided(asked), asked.seeds)]
    for changes in asked.shorter:
        name = ".".join(["none", *(as_word(f"{key}{value}") for key, value in sorted(changes.items()))])
        found.append(Arm(name, SHORTER, "", "", _unguided(asked, **changes), asked.seeds))
    if NONE_CE in asked.controls and can_match:
        found.append(_same_weight(asked, train, few))
    if CLASS_CODE in asked.controls and reliable:
        code = _guided(asked, reliable[0], asked.subjects[0] if asked.subjects else "", control=CLASS_CODE)
        found.append(Arm(f"{asked.responses}.class-code.{as_word(reliable[0])}", CLASS_CODE, "", "", code, asked.seeds))
    for area in reliable:
        for subject in asked.subjects or ("",):
            found += _of_area(study, asked, area, subject, few)
    if RANDOM in asked.controls:
        training = _guided(asked, "random", "", responses=random_name(asked))
        found.append(Arm(f"{random_name(asked)}.guided", RANDOM, "", "", training, few))
    others = [Arm(f"other.{name}", OTHER, "", "", one, few) for name, one in asked.others.items()]
    return [*found, *others]


def _of_area(study: str, asked: GuidanceSettings, area: str, subject: str, few: int) -> list[Arm]:
    """The area's own arm and its controls."""
    stem = ".".join([asked.responses, *(as_word(part) for part in (area, subject) if part)])
    found = [Arm(stem, AREA, area, subject, _guided(asked, area, subject), asked.seeds)]
    for role, ending in PER_AREA.items():
        if role not in asked.controls:
            continue
        changes = {"responses": degraded_name(study, asked)} if role == DEGRADED else {"control": role}
        name = f"{stem}.{ending}.{study}" if role == DEGRADED else f"{stem}.{ending}"
        seeds = asked.seeds if role == SHUFFLED else few
        found.append(Arm(name, role, area, subject, _guided(asked, area, subject, **changes), seeds))
    return found


def _unguided(asked: GuidanceSettings, **changes: Any) -> Training:
    return Training(model=asked.model, recipe="baseline", train={**asked.train, **changes})


def _guided(asked: GuidanceSettings, area: str, subject: str, **changes: Any) -> Training:
    own = {"responses": asked.responses, "roi": area, "subject": subject or None, **asked.overrides, **changes}
    return Training(model=asked.model, recipe=asked.recipe, overrides=own, train=asked.train)


def _same_weight(asked: GuidanceSettings, train: Any, seeds: int) -> Arm:
    """Unguided, with a learning rate as much smaller as the guided cross-entropy weighs less (`normalise_ce: false`).

    Under SGD a weight of the loss is a factor of the learning rate, apart from weight decay.
    """
    values = {**train.model_dump(), **asked.train}
    weight = (
        1 - float(asked.overrides.get("alpha", 0.9))
        if asked.recipe == "guided"
        else float(asked.overrides.get("a0", 0.1))
    )
    one = _unguided(asked, learning_rate=values["learning_rate"] * weight)
    return Arm("none.ce", NONE_CE, "", "", one, seeds)
