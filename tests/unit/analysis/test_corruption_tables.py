"""Errors under corruption beside a named model's: by value, in the table and in the heat map."""

import math

import numpy as np
import pytest

from advalign.analysis.corruptions import (
    COLUMNS,
    Corrupted,
    corruption_heat_map,
    corruption_table,
    relative_error,
)
from advalign.analysis.drawing import draw
from advalign.analysis.interactive import interact
from advalign.analysis.plots import Cells
from advalign.errors import InputError
from advalign.metrics.corruption_error import ALL, HEADLINE, NAME, benchmark_members
from advalign.settings import load_settings
from advalign.tensors.corruptions.constants import NAMES
from tests.conftest import REPOSITORY

SETTINGS = load_settings(REPOSITORY / "experiments" / "robustsight")


def made_up(model, share, baseline="", seed=0, protocol="corruptions"):
    errors = (np.random.default_rng(seed).random((60, 19, 5)) < share).astype(float)
    shares = errors.mean(0)
    numbers = {
        NAME: shares[HEADLINE].mean(),
        ALL: shares.mean(),
        "corruption_error.none": 0.1,
        **{f"{NAME}.{family}": shares[members].mean() for family, members in benchmark_members().items()},
    }
    return Corrupted(protocol, model, baseline, numbers, errors)


STANDARD, ROBUST = made_up("standard", 0.5), made_up("robust", 0.3, "standard", seed=1)


def test_the_change_against_the_own_baseline():
    table = corruption_table([STANDARD, ROBUST], SETTINGS).set_index("model")
    assert ["protocol", *table.columns[1:]] == [one for one in COLUMNS if one != "model"]
    assert math.isnan(table.loc["standard", "change"])
    row = table.loc["robust"]
    difference = ROBUST.errors[:, HEADLINE].mean() - STANDARD.errors[:, HEADLINE].mean()
    assert row["against"] == "standard"
    assert row["change"] == pytest.approx(difference)
    assert row["change_low"] < difference < row["change_high"] < 0
    assert row["p"] < 1e-10
    assert row["clean_error"] == pytest.approx(0.1)


def test_a_named_model_takes_the_place_of_baselines():
    table = corruption_table([STANDARD, ROBUST], SETTINGS, against="robust").set_index("model")
    assert table.loc["standard", "against"] == "robust"
    assert table.loc["standard", "change"] > 0
    assert math.isnan(table.loc["robust", "change"])
    with pytest.raises(InputError, match="unknown model 'robusst'"):
        corruption_table([STANDARD, ROBUST], SETTINGS, against="robusst")


def test_models_are_compared_under_one_protocol_only():
    elsewhere = made_up("standard", 0.5, protocol="cifar-c")
    assert corruption_table([elsewhere, ROBUST], SETTINGS)["change"].isna().all()


def test_relative_error_is_the_mean_of_quotients_of_sums():
    reference = np.full((19, 5), 0.2)
    found = reference.copy()
    assert relative_error(found, reference) == pytest.approx(1)
    found[NAMES.index("fog")] = [0, 0, 0, 0, 4]  # 4 over 1
    assert relative_error(found, reference) == pytest.approx((14 + 4) / 15)
    found[NAMES.index("saturate")] = 1
    assert relative_error(found, reference) == pytest.approx((14 + 4) / 15), "the extra four do not count"
    reference[NAMES.index("snow")] = 0
    assert math.isnan(relative_error(found, reference))


def test_the_heat_map_has_the_differences_in_both_renderers():
    plot = corruption_heat_map([STANDARD, ROBUST])
    assert len(plot.panels) == 1
    cells = plot.panels[0].marks[0]
    assert isinstance(cells, Cells)
    differences = ROBUST.errors.mean(0) - STANDARD.errors.mean(0)
    assert np.array_equal(cells.values, differences)
    assert cells.texts[0][0] == f"{100 * differences[0, 0]:+.0f}"
    axes = draw(plot).axes[0]
    drawn = {(round(text.get_position()[0]), round(text.get_position()[1])): text.get_text() for text in axes.texts}
    assert drawn == {(severity + 1, row): cells.texts[row][severity] for row in range(19) for severity in range(5)}
    assert [label.get_text() for label in axes.get_yticklabels()][:2] == ["gaussian noise", "shot noise"]
    assert axes.yaxis_inverted()
    low, high = axes.collections[0].get_clim()
    assert -low == high == pytest.approx(np.abs(differences).max())
    trace = interact(plot).data[0]
    assert np.array_equal(trace.z, differences)
    assert list(trace.x) == [1, 2, 3, 4, 5]


def test_without_a_model_to_compare_with_it_says_so():
    assert "together with the model to compare it with" in corruption_heat_map([STANDARD]).detail
    assert not corruption_heat_map([]).panels
