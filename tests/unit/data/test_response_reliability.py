"""Reliability against sums written out by hand, and against brains whose noise is known."""

import numpy as np
import pandas as pd
import pytest

from advalign.data import reliability as module
from advalign.data.reliability import reliability, unreliable
from advalign.data.response_writer import About, writing_responses
from advalign.data.responses import ResponseStore
from tests.responses import signal


def store_of(path, image, betas, session=0, split="train", roi="V1", subject=""):
    images = pd.DataFrame({"id": [f"i{number}" for number in range(int(image.max()) + 1)]})
    units = pd.DataFrame({"roi": [roi] * betas.shape[1] if isinstance(roi, str) else roi, "subject": subject})
    with writing_responses(path, About("simulated", "none"), images, units) as writer:
        writer.add_trials(image, betas, split, session)
    return ResponseStore.open(path)


def by_hand(image, values, session):
    """Ceiling and corrected split-half of one unit, sum by sum."""
    z = np.empty(len(values))
    for one in np.unique(session):
        part = values[session == one]
        z[session == one] = (part - part.mean()) / part.std()
    groups = [z[image == one] for one in np.unique(image)]
    noise = sum(((group - group.mean()) ** 2).sum() for group in groups) / sum(len(group) - 1 for group in groups)
    ncsnr2 = max(1 - noise, 0) / noise
    r1, r2, r3 = (sum(len(group) == number for group in groups) for number in (1, 2, 3))
    ceiling = ncsnr2 / (ncsnr2 + (r3 / 3 + r2 / 2 + r1) / (r1 + r2 + r3))
    several = [group for group in groups if len(group) > 1]
    r = np.corrcoef([group[::2].mean() for group in several], [group[1::2].mean() for group in several])[0, 1]
    return ceiling, 2 * r / (1 + r)


@pytest.fixture
def unequal():
    """Images with one, two and three trials, in two sessions of another level and gain."""
    random = np.random.default_rng(4)
    image = random.permutation(np.repeat(np.arange(60), random.integers(1, 4, 60)))
    session = np.arange(len(image)) // (len(image) // 2 + 1)
    truth = signal(60, 5)
    values = (truth[image] + 0.6 * random.normal(size=(len(image), 5))) * (1 + 2 * session[:, None]) + 9 * session[
        :, None
    ]
    return image, values, session


def test_ceilings_and_split_half_are_those_of_the_formulas(tmp_path, unequal):
    image, values, session = unequal
    (area,), ceilings = reliability(store_of(tmp_path / "x.h5", image, values, session), bootstrap=200)
    wanted = np.array([by_hand(image, values[:, unit], session) for unit in range(5)])
    np.testing.assert_allclose(ceilings, wanted[:, 0], rtol=1e-5)
    assert area.ceiling == pytest.approx(np.median(wanted[:, 0]), rel=1e-5)
    r = wanted[:, 1] / (2 - wanted[:, 1])  # the correlations before the correction
    assert area.split_half == pytest.approx(2 * r.mean() / (1 + r.mean()), rel=1e-5)
    assert area.split_half_low < area.split_half < area.split_half_high and area.above_zero is True
    assert area.ceiling_low < area.ceiling < area.ceiling_high
    assert (area.units, area.images, area.trials) == (5, 47, 2)


def test_blocks_of_units_change_nothing(tmp_path, unequal, monkeypatch):
    store = store_of(tmp_path / "x.h5", *unequal)
    whole = reliability(store, bootstrap=100)
    monkeypatch.setattr(module, "AT_ONCE", 1)
    parts = reliability(store, bootstrap=100)
    for one, other in zip(whole[0], parts[0], strict=True):
        assert one.as_json() == pytest.approx(other.as_json(), rel=1e-12)
    np.testing.assert_allclose(whole[1], parts[1], rtol=1e-6)


@pytest.mark.parametrize(("repeats", "noise"), [(2, 1.0), (4, 1.0), (4, 2.0), (10, 0.5)])
def test_both_find_a_known_share_of_noise(tmp_path, repeats, noise):
    random = np.random.default_rng(repeats)
    truth = signal(400, 40)
    image = np.tile(np.arange(400), repeats)
    (area,), ceilings = reliability(
        store_of(tmp_path / "x.h5", image, truth[image] + noise * random.normal(size=(len(image), 40)))
    )
    wanted = 1 / (1 + noise**2 / repeats)
    assert area.ceiling == pytest.approx(wanted, abs=0.02) and area.split_half == pytest.approx(wanted, abs=0.02)
    assert area.ceiling_low < wanted < area.ceiling_high and area.split_half_low < wanted < area.split_half_high
    assert np.median(ceilings) == pytest.approx(area.ceiling)


def test_sessions_of_another_level_are_no_noise(tmp_path):
    """Without z-scoring within sessions, a drift as large as this would leave a ceiling of .07."""
    random = np.random.default_rng(9)
    image = np.tile(np.arange(300), 3)
    session = np.repeat(np.arange(3), 300)
    values = signal(300, 20)[image] + 0.5 * random.normal(size=(900, 20)) + 10 * session[:, None]
    (area,), _ = reliability(store_of(tmp_path / "x.h5", image, values, session))
    assert area.ceiling == pytest.approx(1 / (1 + 0.25 / 3), abs=0.02)
    (mixed,), _ = reliability(store_of(tmp_path / "y.h5", image, values))
    assert mixed.ceiling < 0.1


def test_a_wrong_order_of_trials_is_not_above_zero_and_has_no_ceiling(tmp_path):
    random = np.random.default_rng(5)
    image = np.tile(np.arange(100), 3)
    values = np.concatenate([signal(100, 30), signal(100, 30, seed=3)], axis=1)[image] + random.normal(size=(300, 60))
    values[:, 30:] = values[random.permutation(300), 30:]
    store = store_of(tmp_path / "x.h5", image, values, roi=["V1"] * 30 + ["IT"] * 30)
    areas, ceilings = reliability(store)
    assert [one.above_zero for one in areas] == [True, False] and unreliable(areas) == ["IT"]
    assert abs(areas[1].split_half) < 0.2 and areas[1].split_half_low < 0
    assert (ceilings[:30] > 0.5).all() and (ceilings[30:] == 0).all()


def test_splits_without_repeats_do_not_count(tmp_path):
    """Training images were shown once, test images four times: the ceiling is that of averages of test images."""
    random = np.random.default_rng(6)
    image = np.concatenate([np.arange(50), np.tile(np.arange(50, 90), 4)])
    values = signal(90, 10)[image] + random.normal(size=(len(image), 10))
    split = np.where(image < 50, 0, 2)
    (area,), ceilings = reliability(store_of(tmp_path / "x.h5", image, values, split=split))
    (alone,), wanted = reliability(store_of(tmp_path / "y.h5", image[50:], values[50:]))
    assert area == alone and area.images == 40 and area.trials == 4
    np.testing.assert_array_equal(ceilings, wanted)


def test_absent_repeats_of_single_units(tmp_path):
    random = np.random.default_rng(7)
    image = np.tile(np.arange(40), 4)
    values = signal(40, 3)[image] + 0.5 * random.normal(size=(160, 3))
    values[120:140, 1] = np.nan
    _, ceilings = reliability(store_of(tmp_path / "x.h5", image, values), bootstrap=100)
    there = ~np.isnan(values[:, 1])
    _, alone = reliability(store_of(tmp_path / "y.h5", image[there], values[there, 1:2]), bootstrap=100)
    assert ceilings[1] == pytest.approx(alone[0], rel=1e-6)


def test_nothing_is_known_where_nothing_is_repeated(tmp_path):
    store = store_of(tmp_path / "x.h5", np.arange(20), signal(20, 3))
    (area,), ceilings = reliability(store)
    assert (
        area.above_zero is None and np.isnan(area.split_half) and np.isnan(ceilings).all() and unreliable([area]) == []
    )
