"""One vocabulary: whatever is summarised, tabled or logged has one descriptor, and each is of something."""

import ast
import re

import numpy as np
import pandas as pd
import pytest
from mlflow.utils.validation import _validate_metric_name

from advalign import catalog
from advalign.analysis.assembly import zoo_table
from advalign.attacks import base
from advalign.errors import InputError
from advalign.metrics.base import Evaluation
from advalign.models.declared import Zoo
from advalign.rows import Status
from advalign.vocabulary import (
    BESIDE_AA,
    HEADLINES,
    METRICS,
    PAIRED,
    PLANE,
    SPREAD,
    ZOO,
    describe,
    in_norm,
    norm_measured,
    short_name,
)
from tests.conftest import REPOSITORY

SUMMARISED = [one for one in METRICS if "{}" not in one.name]
FITS = 24  # characters; MLflow's compare view cuts names off after 26


def _evaluation(rows):
    return Evaluation(rows, human_ceiling=0.8, resamples=100, seed=0)


@pytest.fixture(scope="module")
def summary():
    """What the house's metrics summarise of a few rows."""
    measured = np.linspace(0.1, 0.6, 6)
    stimuli = pd.DataFrame(
        {
            "superclass": ["dog", "bird"] * 3, "status": "ok", "norm_l2": measured, "largest_tried": measured,
            "queries": 92, "second_start": 1.0, "audit": 0.0,
            **dict.fromkeys(("rho_released", "rho_magnitude", "rho_mean", "rho_shuffled", "rho_partial"), measured),
            "energy_top10": measured, "human_ceiling_corrected": 0.6, "human_floor": 0.1,
            **dict.fromkeys(
                ("rho_by_image", "rho_over_floor", "auc_released", "nss_released", "emd_released"), measured
            ),
        }
    )  # fmt: skip
    images = pd.DataFrame(
        {
            "label": [0, 1], "prediction": [0, 1], "probability_top": 0.9, "log_loss": 0.2, "brier": 0.1,
            "correct": [[0], [1]], "unclear": [[], []], "problematic": False,
        }
    )  # fmt: skip
    found = catalog.load("probe", "bounded")().summarise(_evaluation(stimuli))
    for metric in (catalog.load("metric", name) for name in catalog.names("metric")):
        if metric.describes:
            continue  # its numbers are described there
        found |= metric().summarise(_evaluation(images if metric.probe == "predictions" else stimuli))
    return found


def test_every_number_of_a_summary_has_a_descriptor_and_every_descriptor_a_number(summary):
    described = {name: describe(name) for name in summary}
    assert {one.name for one in SUMMARISED} <= set(summary)
    assert [name for name, one in described.items() if one.name != name] == []
    families = {name for name in summary if name not in {one.name for one in SUMMARISED}}
    assert families == {
        *(f"robust_accuracy_eps{radius}" for radius in ("0.25", "0.5", "1", "2")),
        *(f"adversarial_human_alignment.{name}" for name in ("bird", "dog")),
    }


def test_names_and_short_names_are_each_of_one_metric(summary):
    shorts = [short_name(name) for name in summary]
    assert len(set(shorts)) == len(shorts)
    meant = {}
    for one in METRICS:
        for key in {one.name, one.short}:
            assert meant.setdefault(key, one) is one, key
    assert all(describe(one.short) == one == describe(one.name) for one in SUMMARISED)


def test_short_names_fit_mlflows_compare_view_and_those_of_superclasses_sort_last(summary):
    shorts = sorted(short_name(name) for name in summary)
    for short in shorts:
        _validate_metric_name(short)
        assert len(short) <= FITS, short
    assert shorts[-2:] == ["within/aa/bird", "within/aa/dog"]
    assert {"pt", "pt_sem", "pt_ci_low", "pt_ci_high", "aa", "aa_raw", "aligned_minus_shuffled", "n_valid"} < set(
        shorts
    )


def test_every_column_of_the_zoo_table_that_is_measured_has_a_descriptor(summary):
    evaluated = {
        "model": "resnet18.robust", "architecture": "resnet18", "recipe": "robust", "protocol": "fmn", "flags": [],
        "metrics": summary, "protocol_metrics": list(summary),
    }  # fmt: skip
    table = zoo_table([evaluated], Zoo())
    told = ["model", "group", "recipe", "protocol", "norm", "flags", "big_data", "baseline"]
    measured = [column for column in table if column not in told]
    assert tuple(measured) == ZOO + BESIDE_AA
    for column in measured:
        assert describe(column).short == column
        assert table[column][0] == summary[describe(column).name]


def test_what_is_tested_and_drawn_is_described_with_column_and_title():
    assert {short: describe(short).column for short in PAIRED} == {
        "pt": "norm_l2", "aa": "rho_released", "aa_by_image": "rho_by_image", "aa_over_floor": "rho_over_floor",
        "aa_auc": "auc_released", "aa_nss": "nss_released", "aa_emd": "emd_released",
    }  # fmt: skip
    assert PAIRED[:2] == PLANE
    assert all(describe(short).title and describe(short).better == "higher" for short in HEADLINES)
    assert all(one.label and one.unit for one in METRICS)


def test_a_number_in_linf_has_a_name_a_column_and_a_unit_of_its_own():
    assert describe("pt").column == "norm_l2"
    tolerance = describe("perturbation_tolerance_linf")
    assert tolerance == describe("pt_linf") == in_norm("pt", "linf")
    assert (tolerance.column, tolerance.scale, tolerance.unit) == ("norm_linf", 255.0, "linf norm, 1/255")
    assert tolerance.title == "perturbation tolerance (PT, mean linf norm, 1/255)"
    assert (describe("robust_accuracy_linf8").short, describe("robust_accuracy_linf8").unit) == (
        "robust_accuracy_linf8", "share",
    )  # fmt: skip
    assert describe("adversarial_human_alignment_linf.dog").short == "within/aa_linf/dog"
    assert describe("aa_linf").column == "rho_released"
    assert in_norm("multilabel_accuracy", "linf") == describe("multilabel_accuracy")
    with pytest.raises(InputError, match="unknown metric"):
        describe("multilabel_accuracy_linf")  # no search measures it
    assert norm_measured(["n_valid", "perturbation_tolerance_linf"]) == "linf"
    assert norm_measured(["n_valid", "robust_accuracy"]) is None


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("perturbation_tolerances", "'perturbation_tolerance'"),
        ("top_1_accuracy", "'top1_accuracy'"),
        ("aa_row", "'aa_raw'"),
        ("robust_accuracy_eps", r"'robust_accuracy_eps\.\.\.'"),
        ("adversarial_human_alignment.", "'adversarial_human_alignment'"),
        ("pt{}", "'pt'"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(name, near):
    with pytest.raises(InputError, match=f"unknown metric {re.escape(repr(name))}; did you mean .*{near}"):
        describe(name)


def test_the_statuses_are_those_of_the_contract_and_one_class():
    assert list(Status) == ["ok", "misclassified_clean", "attack_failed"]
    assert base.Status is Status


@pytest.mark.parametrize("kind", ["metric", "probe"])
def test_what_the_catalog_describes_is_called_like_nothing_of_the_house(kind):
    for name in catalog.names(kind):
        for one in getattr(catalog.load(kind, name), "describes", ()):
            assert not {one.name, one.short} & {key for house in METRICS for key in (house.name, house.short)}


def test_no_file_of_the_package_repeats_the_long_names():
    """They stand where they are summarised, and in the vocabulary."""
    long_names = {"perturbation_tolerance", "adversarial_human_alignment", "clean_decision_accuracy"}
    package = REPOSITORY / "advalign"
    found = set()
    for file in package.rglob("*.py"):
        texts = (node.value for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Constant))
        found |= {file.relative_to(package).as_posix() for text in texts if text in long_names}
    assert {path for path in found if not path.startswith(("metrics/", "probes/"))} == {"vocabulary.py"}


def test_the_documented_names_are_all_of_them():
    page = (REPOSITORY / "docs" / "compare.md").read_text()
    found = re.findall(r"^\| `(.+?)`( \*)? \| `(.+?)` \| (.+) \|$", page, re.MULTILINE)
    told = {name: (short, unit) for name, _, short, unit in found}
    means = tuple(name for name, star, *_ in found if star)
    for name, short in ((name, told[name][0]) for name in means):
        told |= {f"{name}{ending}": (f"{short}{ending}", told[name][1]) for ending in SPREAD}
    families = {"robust_accuracy_epsRADIUS": "RADIUS", "adversarial_human_alignment.SUPERCLASS": "SUPERCLASS"}
    for name, value in families.items():
        told[name.replace(value, "{}")] = (told[name][0].replace(value, "{}"), told.pop(name)[1])
    assert told == {one.name: (one.short, one.unit) for one in METRICS}
