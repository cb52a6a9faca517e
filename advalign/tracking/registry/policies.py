"""`registry/gates.yaml`: what a promotion to an alias demands, as typed values."""

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import AfterValidator, Field, model_validator

from advalign.errors import InputError, unknown_name
from advalign.names import check_alias
from advalign.settings import NOT_YAML, Strict, parse

BASELINE, HOLDER = "baseline", "holder"
PAIRED = {"perturbation_tolerance": "norm_l2", "adversarial_human_alignment": "rho_released"}
"""Metric -> column of the per-stimulus rows: what can be tested image by image."""
PREVIOUS = "previous"


class Bound(Strict):
    """Where a metric must lie; either end may be open."""

    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _bounds_something(self) -> "Bound":
        if self.at_least is None and self.at_most is None:
            raise ValueError("a bound needs at_least or at_most")
        return self


class Demand(Strict):
    """What one metric must show beside another model's.

    Attributes:
        better_by: the mean paired difference is at least this, in the metric's units, and above 0 at the policy's p.
        not_below: share of the other's value that is not fallen short of, at the policy's p (non-inferiority).
        drop_at_most: the most that the metric may fall, in its units; not a test.
    """

    better_by: float | None = Field(None, ge=0)
    not_below: float | None = Field(None, gt=0, le=1)
    drop_at_most: float | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _demands_something(self) -> "Demand":
        if self == Demand.model_construct():
            raise ValueError("a demand needs better_by, not_below or drop_at_most")
        return self


def _testable(demands: dict[str, Demand]) -> dict[str, Demand]:
    for metric, demand in demands.items():
        if metric not in PAIRED and (demand.better_by is not None or demand.not_below is not None):
            raise ValueError(f"{metric} has no value per stimulus: only drop_at_most can be asked of it")
    return demands


class Policy(Strict):
    """What a version must show to get an alias; see registry/gates.yaml. A switch that is left out is on.

    Attributes:
        against: "baseline", "holder" or a registered version (NAME@ALIAS, NAME/VERSION) -> metric -> demand.
    """

    protocol: str
    minimum_norm: bool = True
    current_data: bool = True
    no_flags: bool = True
    pareto_front: bool = True
    p: float = Field(0.001, gt=0, lt=1)
    bounds: dict[str, Bound] = Field(default_factory=dict)
    against: dict[str, Annotated[dict[str, Demand], AfterValidator(_testable)]] = Field(default_factory=dict)


class Policies(Strict):
    """All of gates.yaml."""

    aliases: dict[str, Policy]


def previous_alias(alias: str) -> str:
    """The alias that keeps who held another one before.

    >>> previous_alias("champion"), previous_alias("reference")
    ('previous', 'reference-previous')
    """
    return PREVIOUS if alias == "champion" else f"{alias}-{PREVIOUS}"


def read_policy(path: Path, alias: str) -> Policy:
    """Read what an alias demands.

    Args:
        path: gates.yaml.
        alias: "champion", or another one that the file declares.

    Raises:
        InputError: no such file, broken YAML, an unknown key or value, or an alias without gates.
    """
    check_alias(alias)
    try:
        values = yaml.safe_load(path.read_text())
    except OSError:
        raise InputError(
            f"{path} does not exist: it declares what a promotion demands; take it back from git"
        ) from None
    except NOT_YAML as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict) or not values:
        raise InputError(f"{path}: expected a mapping of aliases to what they demand")
    policies = parse(Policies, {"aliases": values}, path.name).aliases
    for name in policies:
        check_alias(name)
        if name == "candidate" or name.endswith(PREVIOUS):
            raise InputError(f"{path.name}: alias {name!r} is set by registering and promoting, and has no gates")
    if alias not in policies:
        raise unknown_name(f"alias in {path.name}", alias, policies)
    return policies[alias]
