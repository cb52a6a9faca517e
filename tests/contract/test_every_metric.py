"""What holds for every metric in the catalog: a new file in advalign/metrics is tested here by itself."""

import inspect
import math
import re
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from advalign.metrics.base import AttackedShard, Evaluation, Metric
from advalign.rows import corrupted_prediction
from advalign.tensors.corruptions.constants import CONDITIONS
from advalign.tensors.ranks import average_ranks
from tests import extending

torch.set_num_threads(1)

NAMES = extending.names("metric")
COUNT = 14
every_metric = pytest.mark.parametrize("name", NAMES)


def shard(count=COUNT, constant=()):
    """Random perturbations (zero for the numbers in `constant`) and random maps."""
    generator = torch.Generator().manual_seed(0)
    perturbations = 0.1 * torch.randn(count, 3, 8, 8, generator=generator)
    perturbations[list(constant)] = 0.0
    maps = torch.rand(count, 8, 8, generator=generator)
    ranks = average_ranks(maps.flatten(1))
    known = {
        "human_ceiling": torch.full((count,), 0.5).double(),
        "human_ceiling_corrected": torch.full((count,), 0.6).double(),
        "human_floor": torch.full((count,), 0.1).double(),
        "human_span": torch.full((count,), 0.4).double(),
    }
    extras = {"human_map": maps, "human_ranks": ranks, "other_ranks": ranks.roll(1, 0), **known}
    return AttackedShard(perturbations, extras)


def rows(metrics, status):
    """Rows as the runner stores them: the contract's columns, and what these metrics measure."""
    count = len(status)
    ok = np.array([entry == "ok" for entry in status], dtype=bool)
    norms = np.linspace(0.2, 1.4, count)
    table = pd.DataFrame(
        {
            "model": "m",
            "protocol": "fmn-100",
            "stimulus": [f"s{number}" for number in range(count)],
            "category": "n01440764",
            "superclass": [["bird", "wheeled vehicle"][number % 2] for number in range(count)],
            "label": 1,
            "clean_prediction": [0 if entry == "misclassified_clean" else 1 for entry in status],
            "status": status,
            "norm_l2": np.where(ok, norms, np.nan),
            "largest_tried": norms + 1,
            "second_start": 1.0,
            "queries": 102,
            "human_ceiling": 0.5,
            "human_ceiling_corrected": 0.6,
            "human_floor": 0.1,
        }
    )
    for name in metrics:
        for column, values in extending.load("metric", name)().measure(shard(count)).items():
            table[column] = np.where(ok, values.double().numpy(), np.nan)
    return table


def images(count=6):
    return pd.DataFrame(
        {
            "model": "m",
            "image": [f"{number}.JPEG" for number in range(count)],
            "label": range(count),
            "prediction": [0, 1, 2, 0, 1, 2][:count],
            "probability_top": [0.9, 0.5, 1.0, 0.3, 0.7, 0.2][:count],
            "log_loss": [0.1, 0.7, 0.0, 3.0, 2.0, 4.0][:count],
            "brier": [0.02, 0.5, 0.0, 1.2, 1.4, 1.1][:count],
            "correct": [[0], [1, 2], [], [3], [4], [2, 5]][:count],
            "unclear": [[], [], [2], [], [1], []][:count],
            "problematic": [False, False, False, True, False, False][:count],
        }
    )


def corrupted(count):
    """Images with predictions under every corruption."""
    table = images(6).iloc[:count]
    wrong = {
        corrupted_prediction(*condition): (place % 3) * table["label"] for place, condition in enumerate(CONDITIONS)
    }
    return pd.concat([table.assign(clean_prediction=table["label"]), pd.DataFrame(wrong, table.index)], axis=1)


def measured(name, status, metrics=NAMES, pictures=6):
    """Rows of the probe that a metric is about."""
    if extending.load("metric", name).probe == "corruptions":
        return corrupted(pictures)
    attacked = [one for one in metrics if extending.load("metric", one).probe.startswith("minimum-norm")]
    return rows(attacked, status) if name in attacked else images(6).iloc[:pictures]


def summarise(name, table):
    return extending.load("metric", name)().summarise(Evaluation(table, human_ceiling=0.65, resamples=200, seed=0))


ORDINARY = ["ok"] * 9 + ["attack_failed"] * 2 + ["misclassified_clean"] * 3
CASES = {
    "ordinary": ORDINARY,
    "one valid": ["ok"] + ["attack_failed"] * 3,
    "all failed": ["attack_failed"] * COUNT,
    "all misclassified": ["misclassified_clean"] * COUNT,
    "empty": [],
}


@every_metric
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("pictures", [6, 0])
def test_a_summary_is_made_of_floats_whatever_became_of_the_attacks(name, case, pictures):
    table = measured(name, CASES[case], pictures=pictures)
    before = table.copy()
    found = summarise(name, table)
    assert found
    assert all(isinstance(value, float) for value in found.values()), found
    assert not any(math.isinf(value) for value in found.values())
    pd.testing.assert_frame_equal(table, before)
    if case == "ordinary" and pictures:
        assert not any(math.isnan(value) for value in found.values()), found


@every_metric
def test_it_can_be_the_only_metric_of_a_run(name):
    """params.yaml may list any of them: what a metric needs, it measures itself or finds in the runner's columns."""
    assert summarise(name, measured(name, ORDINARY, [name])) == summarise(name, measured(name, ORDINARY))


@every_metric
def test_names_do_not_depend_on_what_was_found_and_can_be_logged(name):
    keys = {case: summarise(name, measured(name, status)) for case, status in CASES.items()}
    plain = {case: {key for key in found if "." not in key.split("eps")[0]} for case, found in keys.items()}
    assert len(set(map(frozenset, plain.values()))) == 1, plain
    assert all(re.fullmatch(r"[\w\-. /:]+", key) for found in keys.values() for key in found)


@every_metric
def test_two_summaries_are_the_same(name):
    first, second = (summarise(name, measured(name, ORDINARY)) for _ in range(2))
    assert first == second


@every_metric
def test_columns_have_one_number_per_stimulus_and_survive_constant_maps(name):
    metric = extending.load("metric", name)()
    whole, spoiled, part = metric.measure(shard()), metric.measure(shard(constant=[2])), metric.measure(shard(1))
    for column, values in whole.items():
        assert values.shape == (COUNT,)
        assert values.isfinite().all()
        assert part[column].shape == (1,)
        others = torch.arange(COUNT) != 2
        torch.testing.assert_close(spoiled[column][others], values[others])
        assert not spoiled[column][2].isfinite(), f"{column} of a perturbation that is zero has no value"


def test_no_two_metrics_use_one_name_for_two_things():
    found = [extending.load("metric", name)() for name in NAMES]
    summaries = [key for name in NAMES for key in summarise(name, measured(name, ORDINARY))]
    assert len(summaries) == len(set(summaries))
    columns = {}
    for metric in found:
        for column, values in metric.measure(shard()).items():
            assert torch.equal(columns.setdefault(column, values), values), column
    assert {"rho_released", "rho_magnitude"} <= set(columns)  # the contract's columns


@every_metric
def test_it_is_described(name):
    metric_class = extending.load("metric", name)
    assert issubclass(metric_class, Metric)
    for described in (sys.modules[metric_class.__module__], metric_class, metric_class.summarise):
        assert described.__doc__
        assert inspect.getdoc(described)
