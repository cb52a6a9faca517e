"""Descriptors of the project's metrics: their names in summaries, zoo.csv, tables, figures, gates, cards and MLflow.

A new metric or probe describes its own numbers (`describes` of its class).
"""

import re
from collections.abc import Container, Iterable
from dataclasses import replace
from functools import cache

from advalign import catalog
from advalign.errors import InputError, unknown_name
from advalign.rows import (
    AUC,
    EMD,
    NORM,
    NORMS,
    NSS,
    OF_CEILING,
    RHO,
    RHO_BY_IMAGE,
    RHO_OVER_FLOOR,
    SCALES,
    Descriptor,
    with_norm,
)

SEM = "_sem"
SPREAD = {SEM: "SEM", "_ci_low": "95 % from", "_ci_high": "95 % to"}
"""Ending of a name -> heading, for the numbers that accompany a mean (`averages.mean_with_interval`)."""


def with_spread(descriptor: Descriptor, endings: Iterable[str] = SPREAD) -> tuple[Descriptor, ...]:
    """A number's standard error and the ends of its interval, or the named ones of these, and then the number itself.

    The number is last, so that a family's name does not take their endings for a part of its value.
    """
    return (
        *(
            replace(
                descriptor,
                name=f"{descriptor.name}{ending}",
                short=f"{descriptor.short}{ending}",
                label=SPREAD[ending],
                better=None,
                column=None,
                title="",
            )
            for ending in endings
        ),
        descriptor,
    )


UNITS = {"l2": "l2 norm", "linf": "linf norm, 1/255"}
"""Norm -> unit of the numbers in it (`rows.SCALES`)."""

SEARCHED: tuple[Descriptor, ...] = (
    Descriptor("n_valid", "n_valid", "n", "stimuli"),
    *with_spread(
        Descriptor(
            "perturbation_tolerance", "pt", "PT", UNITS["l2"], "higher", NORM,
            f"perturbation tolerance (PT, mean {UNITS['l2']})",
        )
    ),
    Descriptor("perturbation_tolerance_lower_bound", "pt_lower_bound", "PT at least", UNITS["l2"], "higher"),
    *with_spread(
        Descriptor(
            "adversarial_human_alignment", "aa", "AA", OF_CEILING, "higher", RHO, "adversarial human alignment (AA)"
        )
    ),
    *with_spread(Descriptor("adversarial_human_alignment_raw", "aa_raw", "AA raw", "Spearman's rho", "higher")),
    *with_spread(
        Descriptor("adversarial_human_alignment_magnitude", "aa_magnitude", "AA magnitude", OF_CEILING, "higher")
    ),
    *with_spread(
        Descriptor(
            "adversarial_human_alignment_mean_map_raw", "aa_mean_map_raw", "AA mean map", "Spearman's rho", "higher"
        )
    ),
    *with_spread(
        Descriptor(
            "adversarial_human_alignment_by_image", "aa_by_image", "AA by image", "share of the image's ceiling",
            "higher", RHO_BY_IMAGE,
        )
    ),
    *with_spread(
        Descriptor(
            "adversarial_human_alignment_over_floor", "aa_over_floor", "AA over floor", "share of ceiling minus floor",
            "higher", RHO_OVER_FLOOR,
        )
    ),
    Descriptor("n_below_floor", "n_below_floor", "ceiling below floor", "stimuli"),
    Descriptor("n_without_ceiling", "n_without_ceiling", "no ceiling", "stimuli"),
    *with_spread(Descriptor("auc_alignment", "aa_auc", "AUC", "share", "higher", AUC)),
    *with_spread(Descriptor("nss_alignment", "aa_nss", "NSS", "standard deviations", "higher", NSS)),
    *with_spread(Descriptor("emd_alignment", "aa_emd", "EMD", "share of the side", "lower", EMD)),
    Descriptor("aligned_minus_shuffled", "aligned_minus_shuffled", "aligned − shuffled", "Spearman's rho", "higher"),
    Descriptor("alignment_shuffled", "alignment_shuffled", "shuffled", "Spearman's rho"),
    Descriptor("alignment_given_centre", "alignment_given_centre", "given centre", "Spearman's rho", "higher"),
    Descriptor("energy_on_human_top10", "energy_on_human_top10", "energy on top 10 %", "share", "higher"),
    Descriptor("n_without_rank_correlation", "n_without_rho", "no rho", "stimuli"),
    Descriptor("clean_decision_accuracy", "decision_accuracy", "decision", "share", "higher"),
    Descriptor("attack_success_rate", "attack_success_rate", "success", "share", "higher"),
    Descriptor("starts_agree", "starts_agree", "starts agree", "share", "higher"),
    Descriptor("queries_per_stimulus", "queries_per_stimulus", "passes", "forward passes"),
    Descriptor("n_audited", "n_audited", "audited", "stimuli"),
    Descriptor("n_audit_fell", "n_audit_fell", "lowered by the audit", "stimuli"),
    Descriptor("robust_accuracy_eps{}", "robust_accuracy_eps{}", "right at {}", "share", "higher"),
    Descriptor("adversarial_human_alignment.{}", "within/aa/{}", "AA, {}", OF_CEILING, "higher"),
)  # fmt: skip
"""Numbers of a search for minimum norms in l2; in another norm their names say it (`in_norm`)."""

METRICS: tuple[Descriptor, ...] = (
    *SEARCHED,
    Descriptor("multilabel_accuracy", "multilabel_accuracy", "multi-label", "share", "higher", None,
               "multi-label accuracy (%)"),
    Descriptor("multilabel_accuracy_per_class", "multilabel_per_class", "multi-label per class", "share", "higher"),
    Descriptor("top1_accuracy", "top1_accuracy", "top-1", "share", "higher"),
    Descriptor("expected_calibration_error", "ece", "ECE", "share", "lower"),
    Descriptor("negative_log_likelihood", "nll", "NLL", "nats", "lower"),
    Descriptor("brier_score", "brier", "Brier", "squared distance", "lower"),
    Descriptor("n_images_left_out", "n_images_left_out", "images left out", "images"),
    Descriptor("robust_accuracy", "robust_accuracy", "robust", "share", "higher"),
    Descriptor("robust_accuracy_ci_low", "robust_accuracy_ci_low", SPREAD["_ci_low"], "share"),
    Descriptor("robust_accuracy_ci_high", "robust_accuracy_ci_high", SPREAD["_ci_high"], "share"),
)  # fmt: skip
"""All numbers of the project's metrics and probes. Those of a superclass (`within/`) sort last in MLflow."""

ZOO = (
    "n_valid", "pt", "pt_sem", "aa", "aa_sem", "aa_raw", "aligned_minus_shuffled", "multilabel_accuracy",
    "top1_accuracy", "attack_success_rate", "starts_agree",
)  # fmt: skip
"""Short names of the metrics in zoo.csv, in its order."""

BESIDE_AA = (
    "aa_by_image", "aa_by_image_sem", "n_below_floor", "n_without_ceiling", "aa_over_floor", "aa_over_floor_sem",
    "aa_auc", "aa_auc_sem", "aa_nss", "aa_nss_sem", "aa_emd", "aa_emd_sem",
)  # fmt: skip
"""Short names of the metrics that zoo.csv has where they are measured: AA in other forms, and other measures."""

SALIENCY = (
    "saliency_rho", "saliency_rho_sem", "saliency_rho_ci_low", "saliency_rho_ci_high", "rho_vs_shuffled",
    "rho_vs_centre",
)  # fmt: skip
"""Short names of the metrics that a protocol of saliency in `evaluate.also` adds to zoo.csv."""

GEOMETRY = ("manifold_capacity", "manifold_radius", "manifold_dimension", "linear_separability")
FIT = ("explained.{}", "rsa.{}", "cka.{}")
"""The same of a protocol of geometry, and of neural fit by area."""

HEADLINES = ("pt", "aa", "multilabel_accuracy")
"""Short names of the metrics in the zoo's statistics."""

PLANE = ("pt", "aa")
"""Short names of the metrics that models are compared by: the axes of the Pareto front."""

PAIRED = tuple(one.short for one in METRICS if one.column)
"""Short names of the metrics that are tested stimulus by stimulus: those of the plane, and where measured others."""


def describe(name: str) -> Descriptor:
    """The descriptor of a metric, by its name or short name; a family's is returned with the value filled in.

    >>> describe("pt").name, describe("perturbation_tolerance_sem").short
    ('perturbation_tolerance', 'pt_sem')
    >>> describe("adversarial_human_alignment.dog").short
    'within/aa/dog'

    Raises:
        InputError: nothing is called so (offers the nearest names).
    """
    for one in HOUSE:
        if found := _told(one, name):
            return found
    others = _of_the_catalog(tuple(catalog.names("metric")), tuple(catalog.names("probe")))
    for one in others:
        if found := _told(one, name):
            return found
    known = {key.replace("{}", "...") for one in (*HOUSE, *others) for key in (one.name, one.short)}
    raise unknown_name("metric", name, known)


def in_norm(name: str, norm: str) -> Descriptor:
    """The descriptor of a metric as a search in a norm has it; of one that no search measures, its only one.

    Args:
        name: of the metric in l2, or its short name.
        norm: "l2" or "linf".

    >>> in_norm("pt", "linf").name, in_norm("pt", "linf").short, in_norm("top1_accuracy", "linf").name
    ('perturbation_tolerance_linf', 'pt_linf', 'top1_accuracy')
    """
    found = describe(name)
    return _in_norm(found, norm) if found in SEARCHED else found


def norm_measured(names: Container[str]) -> str | None:
    """The norm of a perturbation tolerance among names of metrics; None where none is among them."""
    return next((norm for norm in NORMS if in_norm("pt", norm).name in names), None)


def short_name(name: str) -> str:
    """A metric's short name; its own name where nothing describes it.

    >>> short_name("perturbation_tolerance_ci_low"), short_name("of_my_own")
    ('pt_ci_low', 'of_my_own')
    """
    try:
        return describe(name).short
    except InputError:
        return name


def adds_a_column(short: str) -> bool:
    """Whether a protocol in `evaluate.also` adds a metric, by its short name, to zoo.csv.

    >>> adds_a_column("rsa.measured.V4"), adds_a_column("manifold_radius"), adds_a_column("pt")
    (True, True, False)
    """
    return short in {*SALIENCY, *GEOMETRY} or any(short.startswith(family.removesuffix("{}")) for family in FIT)


def _in_norm(one: Descriptor, norm: str) -> Descriptor:
    """A descriptor of a search's number in l2, in another norm."""
    if norm == "l2":
        return one
    return replace(
        one,
        name=with_norm(one.name, norm),
        short=with_norm(one.short, norm),
        label=f"{one.label} {norm}",
        unit=UNITS[norm] if one.unit == UNITS["l2"] else one.unit,
        column=NORMS[norm] if one.column == NORM else one.column,
        title=one.title.replace(UNITS["l2"], UNITS[norm]),
        scale=SCALES[norm] if one.column == NORM else one.scale,
    )


HOUSE = (*METRICS, *(_in_norm(one, norm) for norm in NORMS if norm != "l2" for one in SEARCHED))
"""Descriptors of the project's numbers in all norms."""


@cache
def _of_the_catalog(metrics: tuple[str, ...], probes: tuple[str, ...]) -> tuple[Descriptor, ...]:
    """Descriptors that metrics and probes, by their names, bring themselves, in all norms; imports all of them."""
    found: list[Descriptor] = []
    for metric in (catalog.load("metric", name) for name in metrics):
        norms = NORMS if metric.probe == "minimum-norm" else ("l2",)
        found += (_in_norm(one, norm) for norm in norms for one in metric.describes)
    for name in probes:
        found += catalog.load("probe", name).describes
    return tuple(found)


def _told(one: Descriptor, name: str) -> Descriptor | None:
    """The descriptor where it matches a name, a family's with the value filled in; else None."""
    for key in (one.name, one.short):
        if name == key and "{}" not in key:
            return one
        before, family, after = key.partition("{}")
        if family and (found := re.fullmatch(f"{re.escape(before)}(.+){re.escape(after)}", name)):
            filled = {field: getattr(one, field).replace("{}", found[1]) for field in ("name", "short", "label")}
            return replace(one, **filled)
    return None
