"""Protocols: a name for a probe, its attack and their settings; results of different protocols are never mixed.

A name is looked up in this order: protocols declared in params.yaml (`evaluate.protocols`); attacks (`fmn-fast`) and
NAME-BUDGET (`fmn-100`), run by the probe of the attack's kind; probes without an attack (`predictions`).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from advalign import catalog
from advalign.attacks.base import Attack
from advalign.closures import closure
from advalign.data.sets.base import ImageSet
from advalign.errors import InputError, unknown_name
from advalign.metrics.base import Metric
from advalign.probes.base import Probe
from advalign.settings import ProtocolSettings
from advalign.strict_settings import digest, parse


@dataclass(frozen=True)
class Spec:
    """A protocol in plain values, so that a task can carry it to another process.

    Attributes:
        name: of the protocol.
        probe, attack, image_set: names of entries; attack "" for a probe without one.
        settings: JSON of the attack's settings, or of the probe's where there is no attack.
        metrics: names of the metrics computed on its rows.
    """

    name: str
    probe: str
    attack: str
    image_set: str
    settings: str
    metrics: tuple[str, ...] = ()


class Protocol:
    """A protocol that is ready to run.

    Args:
        spec: the protocol in plain values.
    """

    def __init__(self, spec: Spec) -> None:
        self.spec, self.name = spec, spec.name
        self._probe_class: type[Probe] = catalog.load("probe", spec.probe)
        self._attack_class: type[Attack] | None = catalog.load("attack", spec.attack) if spec.attack else None
        self._metric_classes: list[type[Metric]] = [catalog.load("metric", name) for name in spec.metrics]
        entry = self._attack_class or self._probe_class
        self._settings = parse(entry.Settings, json.loads(spec.settings), f"protocol {spec.name!r}")

    @cached_property
    def probe(self) -> Probe:
        """The probe with its metrics and its attack."""
        metrics = [metric() for metric in self._metric_classes]
        if self._attack_class is None:
            return self._probe_class(self._settings, metrics)
        return self._probe_class(None, metrics, self._attack_class(self._settings))

    @property
    def attack(self) -> Attack:
        """The attack.

        Raises:
            InputError: the protocol has no attack.
        """
        if self.probe.attack is None:
            raise InputError(f"protocol {self.name!r} attacks nothing: name an attack's protocol, such as fmn-fast")
        return self.probe.attack

    @property
    def minimum_norm(self) -> bool:
        """Whether the protocol searches for minimum norms."""
        return self.probe.attack is not None and self.probe.attack.minimum_norm

    @cached_property
    def sha256(self) -> str:
        """Digest of the probe or attack, with its settings."""
        if self._attack_class is not None:
            return digest({"attack": self._attack_class.__name__, **self._settings.model_dump()})
        return digest({"probe": self._probe_class.__name__, **self._settings.model_dump()})

    @cached_property
    def summary(self) -> str:
        """What the protocol measures, in a line."""
        described = (self._attack_class or self._probe_class).__doc__ or ""
        return described.strip().partition("\n")[0].rstrip(".")  # empty where Python runs without docstrings

    @cached_property
    def measuring(self) -> list[type[Metric]]:
        """The metrics that put columns into rows; the others only summarise, and rows do not depend on them."""
        return [metric for metric in self._metric_classes if metric.measure is not Metric.measure]

    @cached_property
    def rows_code(self) -> str:
        """Digest of the code that computes rows: all that the task and the protocol's entries reach."""
        set_class = catalog.load("image set", self.spec.image_set)
        return _code("tasks:run_task", self._probe_class, self._attack_class, set_class, *self.measuring)

    @cached_property
    def summary_code(self) -> str:
        """Digest of the code that turns rows into numbers."""
        return _code("summaries:metrics_of", self._probe_class, *self._metric_classes)


def _code(beginning: str, *entries: type | None) -> str:
    roots = [f"{entry.__module__}:{entry.__name__}" for entry in entries if entry is not None]
    return closure(f"advalign.evaluation.{beginning}", *roots).digest


def protocol(
    name: str, declared: Mapping[str, ProtocolSettings] | None = None, metrics: Sequence[str] | None = None
) -> Protocol:
    """Resolve a protocol by its name.

    Args:
        name: see the module's docstring.
        declared: of params.yaml.
        metrics: names of the wanted metrics; None: all in the catalog. Probes with none of them among theirs have all.

    >>> protocol("fmn-100").attack.settings.steps
    100
    >>> protocol("fmn-fast-thorough").attack.settings.budget
    'thorough'
    >>> protocol("predictions").probe.image_set
    'validation'

    Raises:
        InputError: unknown name, a budget that the attack does not take, or invalid settings.
    """
    if declared and name in declared:
        if name in names():
            raise InputError(f"params.yaml: evaluate.protocols.{name}: there is a protocol of this name: rename yours")
        spec = _declared(name, declared[name])
    elif name in catalog.names("probe") and catalog.load("probe", name).attacks is None:
        spec = Spec(name, name, "", "", "{}")
    else:
        spec = _of_attack(name, declared)
    probe: type[Probe] = catalog.load("probe", spec.probe)
    image_set = spec.image_set or probe.image_set
    offered: type[ImageSet] = catalog.load("image set", image_set)
    _check_offered(name, spec.probe, probe, image_set, offered)
    return Protocol(
        Spec(spec.name, spec.probe, spec.attack, image_set, spec.settings, _metrics(spec.probe, offered, metrics))
    )


def _check_offered(name: str, probe_name: str, probe: type[Probe], set_name: str, offered: type[ImageSet]) -> None:
    """Refuse an image set that lacks what a probe needs, or has decisions for labels where the probe wants classes."""
    one_of = probe.needs_one_of
    lacking = () if {*one_of} & {*offered.offers} or not one_of else (" or ".join(one_of),)
    offered.check_offers(set_name, (*probe.needs, *lacking), probe_name)
    if offered.grouped and not probe.takes_decisions:
        raise InputError(
            f"protocol {name!r}: probe {probe_name!r} compares with classes, image set {set_name!r} is labelled with "
            "decisions: name another image set"
        )


def check_norms(joined: Sequence[Protocol]) -> None:
    """Refuse a protocol with a companion in another norm: numbers in l2 and in linf do not stand side by side.

    Args:
        joined: a protocol, and its companions.

    Raises:
        InputError: two of them measure in different norms.
    """
    measured = [(one.name, one.probe.measured_norm) for one in joined if one.probe.measured_norm is not None]
    for name, norm in measured[1:]:
        if norm != measured[0][1]:
            raise InputError(
                f"protocol {measured[0][0]!r} measures in {measured[0][1]}, {name!r} beside it in {norm}, and their "
                f"numbers would be in one summary: take {name} out of evaluate.companions, and name it in evaluate.also"
            )


def names(declared: Mapping[str, ProtocolSettings] | None = None) -> list[str]:
    """Names of all protocols: declared ones, attacks, and probes without an attack."""
    probes = [name for name in catalog.names("probe") if catalog.load("probe", name).attacks is None]
    return sorted({*(declared or {}), *catalog.names("attack"), *probes})


def listed(declared: Mapping[str, ProtocolSettings] | None = None) -> list[dict[str, Any]]:
    """Every protocol as a row: protocol, measures, image set, needs, passes; an attack's budgets have rows too."""
    rows = []
    for name in names(declared):
        found = protocol(name, declared)
        budgets = found.attack.named_budgets if name in catalog.names("attack") else ()
        for one in (found, *(protocol(f"{name}-{budget}") for budget in budgets)):
            alternatives = {" or ".join(one.probe.needs_one_of)} - {""}
            of_metrics = {need for metric in one.probe.metrics for need in metric.needs}
            needs = sorted({*one.probe.needs} | alternatives | of_metrics)
            rows.append(
                {
                    "protocol": one.name,
                    "measures": one.summary,
                    "image set": one.spec.image_set,
                    "needs": ", ".join(needs) or "images, labels",
                    "passes": int(one.probe.passes) or None,
                }
            )
    return rows


def _metrics(probe: str, offered: type[ImageSet], wanted: Sequence[str] | None) -> tuple[str, ...]:
    """The metrics of a probe, and of the probe that it derives from, whose extras the image set has.

    The wanted ones of these; all where none of them is wanted by name: a choice for one probe is none for others.
    """
    asked, names = catalog.load("probe", probe), wanted or catalog.names("metric")
    chosen = [name for name in names if _is_about(name, asked)]
    found = chosen or [name for name in catalog.names("metric") if _is_about(name, asked)]
    return tuple(name for name in found if {*catalog.load("metric", name).needs} <= {*offered.offers})


def _is_about(metric: str, probe: type[Probe]) -> bool:
    return issubclass(probe, catalog.load("probe", catalog.load("metric", metric).probe))


def _declared(name: str, told: ProtocolSettings) -> Spec:
    if told.attack is None:
        assert told.probe is not None  # the settings require one of them
        if catalog.load("probe", told.probe).attacks is not None:
            raise InputError(f"protocol {name!r}: probe {told.probe!r} needs an attack: add `attack: NAME`")
        return Spec(name, told.probe, "", told.image_set or "", json.dumps(told.settings))
    attack: type[Attack] = catalog.load("attack", told.attack)
    probe = told.probe or attack.probe
    if not issubclass(attack, catalog.load("probe", probe).attacks or ()):
        raise InputError(f"protocol {name!r}: probe {probe!r} does not run attacks of the kind of {told.attack!r}")
    return Spec(name, probe, told.attack, told.image_set or "", json.dumps(told.settings))


def _of_attack(name: str, declared: Mapping[str, ProtocolSettings] | None) -> Spec:
    """An attack's own protocol, or the one under another budget."""
    known = catalog.names("attack")
    attack = name if name in known else max((one for one in known if name.startswith(f"{one}-")), key=len, default="")
    if not attack:
        raise unknown_name("protocol", name, names(declared))
    attack_class: type[Attack] = catalog.load("attack", attack)
    values: dict[str, Any] = {}
    if attack != name:
        values = attack_class.budgeted(name.removeprefix(f"{attack}-"))
        if not values:
            raise InputError(f"protocol {name!r}: {attack!r} is fixed and takes no budget")
        settings = parse(attack_class.Settings, values, f"protocol {name!r}")
        if attack_class.budget is not None:  # each protocol has one name
            value = getattr(settings, attack_class.budget)
            proper = attack if settings == attack_class.Settings() else f"{attack}-{value}"
            if name != proper:
                raise InputError(f"protocol {name!r} is called {proper!r}")
    return Spec(name, attack_class.probe, attack, "", json.dumps(values))
