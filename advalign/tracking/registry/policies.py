"""`registry/gates.yaml`: the demands of a promotion to an alias, as typed values."""

from pathlib import Path
from typing import TypeVar

from pydantic import Field, model_validator

from advalign.errors import InputError, unknown_name
from advalign.names import check_alias
from advalign.strict_files import read_yaml
from advalign.strict_settings import Strict, parse
from advalign.vocabulary import describe

BASELINE, HOLDER = "baseline", "holder"
Asked = TypeVar("Asked")
PREVIOUS = "previous"


class Bound(Strict):
    """Range that a metric must be in; either end may be open."""

    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _bounds_something(self) -> "Bound":
        if self.at_least is None and self.at_most is None:
            raise ValueError("a bound needs at_least or at_most")
        return self


class Demand(Strict):
    """Demand on a metric relative to another model's.

    Attributes:
        better_by: the mean paired difference is at least this, in the metric's units, and above 0 at the policy's p.
        not_below: the metric is above this share of the other's, at the policy's p (non-inferiority).
        drop_at_most: how much worse the metric may get, in its units: fall, or rise where lower is better; no test.
    """

    better_by: float | None = Field(None, ge=0)
    not_below: float | None = Field(None, gt=0, le=1)
    drop_at_most: float | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _demands_something(self) -> "Demand":
        if self == Demand.model_construct():
            raise ValueError("a demand needs better_by, not_below or drop_at_most")
        return self


class Demands(Strict):
    """Demands on a version's evaluation under one protocol.

    Attributes:
        bounds: metric -> bound; `read_policy` accepts short names of metrics too, and returns their own names.
        against: "baseline", "holder" or a registered version (NAME@ALIAS, NAME/VERSION) -> metric -> demand.
    """

    bounds: dict[str, Bound] = Field(default_factory=dict)
    against: dict[str, dict[str, Demand]] = Field(default_factory=dict)


class Policy(Demands):
    """Demands on a version that is to get an alias; see registry/gates.yaml. Switches are on by default.

    Attributes:
        also: further protocol -> demands on the version's evaluation under it.
    """

    protocol: str
    minimum_norm: bool = True
    current_data: bool = True
    no_flags: bool = True
    pareto_front: bool = True
    p: float = Field(0.001, gt=0, lt=1)
    also: dict[str, Demands] = Field(default_factory=dict)


Asks = TypeVar("Asks", bound=Demands)


class Policies(Strict):
    """All of gates.yaml."""

    aliases: dict[str, Policy]


def previous_alias(alias: str) -> str:
    """The alias of the version that held another alias before.

    >>> previous_alias("champion"), previous_alias("reference")
    ('previous', 'reference-previous')
    """
    return PREVIOUS if alias == "champion" else f"{alias}-{PREVIOUS}"


def read_policy(path: Path, alias: str) -> Policy:
    """Read the policy of an alias.

    Args:
        path: gates.yaml.
        alias: "champion", or another alias in the file.

    Raises:
        InputError: no such file, broken YAML, an unknown key, value or metric, or an alias without gates.
    """
    check_alias(alias)
    try:
        values = read_yaml(path)
    except OSError:
        raise InputError(f"{path} does not exist: it declares the demands of promotions; restore it from git") from None
    if not isinstance(values, dict) or not values:
        raise InputError(f"{path}: expected a mapping of aliases to what they demand")
    policies = parse(Policies, {"aliases": values}, path.name).aliases
    for name in policies:
        check_alias(name)
        if name == "candidate" or name.endswith(PREVIOUS):
            raise InputError(f"{path.name}: alias {name!r} is set by registering and promoting, and has no gates")
    named = {name: _policy(policy, f"{path.name}: {name}") for name, policy in policies.items()}
    if alias not in named:
        raise unknown_name(f"alias in {path.name}", alias, named)
    return named[alias]


def _policy(policy: Policy, source: str) -> Policy:
    """The policy with metrics by their own names, under all its protocols."""
    if policy.protocol in policy.also:
        raise InputError(f"{source}: also: {policy.protocol} is the policy's own protocol: move its demands up")
    also = {name: _named(demands, f"{source}: also {name}") for name, demands in policy.also.items()}
    return _named(policy, source).model_copy(update={"also": also})


def _named(policy: Asks, source: str) -> Asks:
    """Demands with metrics by their own names; unknown metrics and impossible demands are refused."""
    against = {key: _by_metric(demands, f"{source}: against {key}") for key, demands in policy.against.items()}
    for key, demands in against.items():
        for metric, demand in demands.items():
            if describe(metric).column is None and (demand.better_by is not None or demand.not_below is not None):
                raise InputError(
                    f"{source}: against {key}: {metric} has no value per stimulus: demand only drop_at_most"
                )
            if demand.not_below is not None and describe(metric).better == "lower":
                raise InputError(
                    f"{source}: against {key}: not_below: {metric} is better when it is lower: demand drop_at_most (it "
                    "rises by at most that) or better_by"
                )
    return policy.model_copy(update={"bounds": _by_metric(policy.bounds, f"{source}: bounds"), "against": against})


def _by_metric(asked: dict[str, Asked], source: str) -> dict[str, Asked]:
    """Demands on metrics, by the metrics' own names."""
    named: dict[str, Asked] = {}
    for key, what in asked.items():
        try:
            name = describe(key).name
        except InputError as error:
            mend = "a metric of your own is known once its class `describes` it"
            raise InputError(f"{source}: {error}; {mend}") from None
        if name in named:
            raise InputError(f"{source}: {name} is given twice, by its own and by its short name: keep one of them")
        named[name] = what
    return named
