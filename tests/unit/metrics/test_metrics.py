"""Every metric by numbers worked out by hand; intervals against scipy; the derangement of the shuffled control."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from advalign import catalog
from advalign.averages import bootstrap_interval
from advalign.data.sets.stimuli import derangement
from advalign.metrics.base import AttackedShard, Evaluation
from advalign.metrics.robust_accuracy import robust_accuracy
from advalign.tensors.ranks import average_ranks
from advalign.vocabulary import describe

torch.set_num_threads(1)

NAN = math.nan
CEILING = 0.8


def metric(name):
    return catalog.load("metric", name)()


def stimuli():
    """Four valid rows (one with a constant map), one failed, one misclassified."""
    return pd.DataFrame(
        {
            "superclass": ["dog", "dog", "bird", "food", "dog", "bird"],
            "status": ["ok", "ok", "ok", "ok", "attack_failed", "misclassified_clean"],
            "norm_l2": [0.2, 0.5, 1.0, 2.3, NAN, NAN],
            "largest_tried": [0.4, 0.7, 1.1, 2.4, 6.0, 0.0],
            "queries": [102, 102, 102, 104, 112, 1],
            "second_start": [1.0, 1.02, math.inf, 1.2, NAN, NAN],
            "rho_released": [0.4, 0.2, -0.1, NAN, NAN, NAN],
            "rho_magnitude": [0.6, 0.2, 0.1, NAN, NAN, NAN],
            "rho_shuffled": [0.1, 0.1, 0.1, NAN, NAN, NAN],
            "rho_partial": [0.2, 0.1, 0.3, NAN, NAN, NAN],
            "energy_top10": [0.5, 0.2, 0.2, NAN, NAN, NAN],
        }
    )


def summary(name, rows=None, **values):
    return metric(name).summarise(
        Evaluation(
            rows=stimuli() if rows is None else rows,
            human_ceiling=CEILING,
            resamples=values.get("resamples", 500),
            seed=values.get("seed", 0),
        )
    )


def test_perturbation_tolerance_by_hand():
    found = summary("perturbation-tolerance")
    assert found["perturbation_tolerance"] == pytest.approx(4.0 / 4)
    deviation = math.sqrt((0.8**2 + 0.5**2 + 0.0 + 1.3**2) / 3)
    assert found["perturbation_tolerance_sem"] == pytest.approx(deviation / 2)
    assert found["perturbation_tolerance_lower_bound"] == pytest.approx((4.0 + 6.0) / 5)
    assert found["n_valid"] == 4
    assert found["attack_success_rate"] == pytest.approx(4 / 5)
    assert found["clean_decision_accuracy"] == pytest.approx(5 / 6)
    assert found["starts_agree"] == pytest.approx(2 / 4)
    assert found["queries_per_stimulus"] == pytest.approx((102 * 3 + 104 + 112) / 5)
    assert found["perturbation_tolerance_ci_low"] < 1.0 < found["perturbation_tolerance_ci_high"]


def test_an_audit_is_counted_where_there_was_one():
    assert "n_audited" not in summary("perturbation-tolerance")
    found = summary("perturbation-tolerance", stimuli().assign(audit=[NAN, 1.0, 0.0, 0.0, 1.0, NAN]))
    assert (found["n_audited"], found["n_audit_fell"]) == (4, 2)


def test_starts_agree_is_nothing_where_the_attack_has_no_starts():
    assert math.isnan(summary("perturbation-tolerance", stimuli().assign(second_start=NAN))["starts_agree"])


def test_perturbation_tolerance_where_every_attack_failed():
    rows = stimuli().assign(status="attack_failed", norm_l2=NAN, second_start=NAN)
    found = summary("perturbation-tolerance", rows)
    assert math.isnan(found["perturbation_tolerance"])
    assert math.isnan(found["perturbation_tolerance_ci_low"])
    assert found["perturbation_tolerance_lower_bound"] == pytest.approx((0.4 + 0.7 + 1.1 + 2.4 + 6.0) / 6)
    assert found["attack_success_rate"] == 0.0
    assert found["n_valid"] == 0


def test_robust_accuracy_by_hand():
    radii = np.array([0.0, 0.19, 0.2, 0.5, 1.0, 2.2, 2.3, 100.0])
    # 6 stimuli: one wrong from the start, one never flipped, four flipped at .2, .5, 1 and 2.3
    expected = np.array([5, 5, 4, 3, 2, 2, 1, 1]) / 6
    np.testing.assert_allclose(robust_accuracy(stimuli(), radii), expected)
    found = summary("robust-accuracy")
    assert found == pytest.approx(
        {"robust_accuracy_eps0.25": 4 / 6, "robust_accuracy_eps0.5": 3 / 6, "robust_accuracy_eps1": 2 / 6,
         "robust_accuracy_eps2": 2 / 6}
    )  # fmt: skip
    assert (np.diff(robust_accuracy(stimuli(), np.linspace(0, 3, 50))) <= 0).all()


def linf():
    """The same stimuli with linf norms of 0.5, 1, 4 and 20 grey levels; the failed attack tried one of 32."""
    norms = [0.5 / 255, 1 / 255, 4 / 255, 20 / 255, NAN, NAN]
    return stimuli().drop(columns="norm_l2").assign(norm_linf=norms, largest_tried=[0.1, 0.1, 0.1, 0.1, 32 / 255, 0.0])


def test_linf_norms_are_given_in_grey_levels_and_radii_too():
    found = summary("perturbation-tolerance", linf())
    assert found["perturbation_tolerance"] == pytest.approx((0.5 + 1 + 4 + 20) / 4)
    assert found["perturbation_tolerance_lower_bound"] == pytest.approx((0.5 + 1 + 4 + 20 + 32) / 5)
    # of 6 stimuli one is wrong from the start and one never flipped
    shares = {0.5: 4, 1: 3, 2: 3, 4: 2, 8: 2, 16: 2}
    rows = linf().assign(norm_linf=linf()["norm_linf"] * (1 - 1e-9))  # flipped at the radius, whatever is rounded
    assert summary("robust-accuracy", rows) == pytest.approx(
        {f"robust_accuracy_eps{radius:g}": share / 6 for radius, share in shares.items()}
    )


def test_the_probe_says_the_norm_in_every_name_and_leaves_l2_as_it_was():
    rows = {"l2": stimuli(), "linf": linf()}
    metrics = [metric(name) for name in ("perturbation-tolerance", "robust-accuracy", "adversarial-human-alignment")]
    found = {}
    for norm, attack in (("l2", "fmn-fast"), ("linf", "linf-curve")):
        probe = catalog.load("probe", "minimum-norm")(None, metrics, catalog.load("attack", attack)())
        found[norm] = probe.summarise(Evaluation(rows[norm], CEILING, 500, 0))
    assert "perturbation_tolerance" in found["l2"]
    assert not [name for name in found["l2"] if "linf" in name]
    assert not found["l2"].keys() & found["linf"].keys()  # one may be the other's companion
    assert found["linf"]["perturbation_tolerance_linf"] == pytest.approx(25.5 / 4)
    assert found["linf"]["robust_accuracy_linf8"] == pytest.approx(2 / 6)
    assert found["linf"]["adversarial_human_alignment_linf.dog"] == pytest.approx(0.3 / CEILING)
    assert (
        found["linf"]["adversarial_human_alignment_raw_linf_sem"] == found["l2"]["adversarial_human_alignment_raw_sem"]
    )
    assert all(describe(name).name == name for name in found["linf"])


def test_alignment_by_hand():
    found = summary("adversarial-human-alignment")
    assert found["adversarial_human_alignment_raw"] == pytest.approx(0.5 / 3)
    assert found["adversarial_human_alignment"] == pytest.approx(0.5 / 3 / CEILING)
    deviation = np.std([0.4, 0.2, -0.1], ddof=1)
    assert found["adversarial_human_alignment_raw_sem"] == pytest.approx(deviation / math.sqrt(3))
    assert found["adversarial_human_alignment_sem"] == pytest.approx(deviation / math.sqrt(3) / CEILING)
    for bound in ("ci_low", "ci_high"):
        assert found[f"adversarial_human_alignment_{bound}"] == pytest.approx(
            found[f"adversarial_human_alignment_raw_{bound}"] / CEILING
        )
    assert found["adversarial_human_alignment_magnitude"] == pytest.approx(0.3 / CEILING)
    assert found["n_without_rank_correlation"] == 1
    assert found["adversarial_human_alignment.dog"] == pytest.approx(0.3 / CEILING)
    assert found["adversarial_human_alignment.bird"] == pytest.approx(-0.1 / CEILING)
    assert math.isnan(found["adversarial_human_alignment.food"])


def attacked(delta, maps):
    """A shard whose other maps are the stimuli's own, each handed to the next."""
    ranks = average_ranks(maps.flatten(1))
    return AttackedShard(delta, {"human_map": maps, "human_ranks": ranks, "other_ranks": ranks.roll(1, 0)})


def perturbations():
    """Three 1x2-pixel perturbations: the released map is |max|, the magnitude map max|.|."""
    delta = torch.zeros(3, 3, 2, 2)
    delta[0, 0] = torch.tensor([[0.4, 0.3], [0.2, 0.1]])
    delta[1] = torch.tensor([[-0.4, -0.3], [-0.2, -0.1]])  # in all channels: |max| = magnitude
    delta[2, 0] = torch.tensor([[-0.4, -0.3], [-0.2, -0.1]])  # other channels 0: the maximum is 0, a constant map
    return delta


def test_alignment_per_stimulus_by_hand():
    heatmaps = torch.tensor([[[1.0, 0.7], [0.2, 0.1]], [[0.1, 0.2], [0.7, 1.0]], [[1.0, 0.7], [0.2, 0.1]]])
    shard = attacked(perturbations(), heatmaps)
    found = metric("adversarial-human-alignment").measure(shard)
    assert found["rho_released"][:2].tolist() == pytest.approx([1.0, -1.0])
    assert found["rho_released"][2].isnan()
    assert found["rho_magnitude"].tolist() == pytest.approx([1.0, -1.0, 1.0])


def test_alignment_per_stimulus_is_scipys_spearman_with_ties():
    generator = torch.Generator().manual_seed(0)
    delta = torch.randn(5, 3, 6, 6, generator=generator).round(decimals=1)
    maps = torch.rand(5, 6, 6, generator=generator).round(decimals=1)
    found = metric("adversarial-human-alignment").measure(attacked(delta, maps))
    controls = metric("alignment-controls").measure(attacked(delta, maps))
    for number in range(5):
        released, human = delta[number].amax(0).abs().flatten(), maps[number].flatten()
        expected = stats.spearmanr(released, human).statistic
        assert found["rho_released"][number].item() == pytest.approx(expected, abs=1e-12)
        magnitude = delta[number].abs().amax(0).flatten()
        expected = stats.spearmanr(magnitude, human).statistic
        assert found["rho_magnitude"][number].item() == pytest.approx(expected, abs=1e-12)
        expected = stats.spearmanr(released, maps[number - 1].flatten()).statistic
        assert controls["rho_shuffled"][number].item() == pytest.approx(expected, abs=1e-12)
        rows, columns = np.mgrid[:6, :6] - 2.5
        given = np.hypot(rows, columns).round(9).ravel()
        ranks = [stats.rankdata(values) for values in (released.numpy(), human.numpy(), given)]
        residuals = [ranks[n] - np.polyval(np.polyfit(ranks[2], ranks[n], 1), ranks[2]) for n in (0, 1)]
        assert controls["rho_partial"][number].item() == pytest.approx(np.corrcoef(*residuals)[0, 1], abs=1e-9)


def test_energy_on_the_top_tenth_by_hand():
    delta = torch.zeros(3, 3, 5, 4)  # 20 pixels: the top tenth are two
    delta[:, :, 0, 0], delta[:, :, 0, 1], delta[:, 0, 4, 3] = 1.0, 1.0, 2.0  # energies 3, 3 and 4
    maps = torch.zeros(3, 5, 4)
    maps[0, 0, 1], maps[0, 4, 3] = 0.9, 1.0
    maps[1], maps[1, 4, 3] = 1.0, 0.0
    found = metric("alignment-controls").measure(attacked(delta, maps))["energy_top10"]
    assert found[:2].tolist() == pytest.approx([7 / 10, 6 / 10])  # the second map: ties by position
    assert found[2].isnan()  # a constant map has no top


def test_controls_by_hand():
    assert summary("alignment-controls") == pytest.approx(
        {
            "aligned_minus_shuffled": (0.3 + 0.1 - 0.2) / 3,
            "alignment_shuffled": 0.1,
            "alignment_given_centre": 0.2,
            "energy_on_human_top10": 0.3,
        }
    )


def pictures():
    """Seven images of two classes: two left out (number 3 is flagged, number 4 has no correct label)."""
    return pd.DataFrame(
        {
            "label": [0, 0, 0, 1, 1, 1, 0],
            "prediction": [0, 5, 7, 1, 1, 3, 9],
            "correct": [[0], [0, 5], [0], [1], [], [1, 3], [0]],
            "unclear": [[], [], [7], [], [1], [], []],
            "problematic": [False, False, False, True, False, False, False],
        }
    )


@pytest.mark.parametrize("stored_as", [list, np.array])
def test_both_multilabel_conventions_by_hand(stored_as):
    images = pictures()
    for column in ("correct", "unclear"):
        images[column] = [stored_as(labels) for labels in images[column]]
    assert summary("multilabel-accuracy", images) == pytest.approx(
        {
            "multilabel_accuracy": 3 / 5,  # images 0, 1, 5 of 0, 1, 2, 5, 6
            "multilabel_accuracy_per_class": (3 / 4 + 1) / 2,  # image 2 is unclear, so accepted; class 1 is image 5
            "top1_accuracy": 3 / 7,
            "n_images_left_out": 2,
        }
    )


def test_multilabel_accuracy_where_every_image_is_left_out():
    found = summary("multilabel-accuracy", pictures().assign(problematic=True))
    assert math.isnan(found["multilabel_accuracy"])
    assert math.isnan(found["multilabel_accuracy_per_class"])
    assert found["n_images_left_out"] == 7
    assert found["top1_accuracy"] == pytest.approx(3 / 7)


def test_intervals_are_scipys_and_cover_the_mean():
    values = np.random.default_rng(1).exponential(size=60)
    found = bootstrap_interval(values, 2000, seed=5)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=2000, method="BCa", rng=np.random.default_rng(5), batch=1000
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-12)
    assert found.low < values.mean() < found.high
    rows = pd.DataFrame({"status": "ok", "norm_l2": values, "largest_tried": values, "queries": 1, "second_start": 1.0})
    named = summary("perturbation-tolerance", rows, resamples=2000, seed=5)
    assert named["perturbation_tolerance_ci_low"] == pytest.approx(expected.low, rel=1e-12)
    assert named["perturbation_tolerance_ci_high"] == pytest.approx(expected.high, rel=1e-12)
    assert bootstrap_interval(values, 2000, seed=6) != found


def test_intervals_cover_at_their_level():
    rng = np.random.default_rng(0)
    samples = [rng.normal(3.0, 1.0, 30) for _ in range(200)]
    intervals = [bootstrap_interval(sample, 300, seed=1) for sample in samples]
    covered = np.mean([interval.low <= 3.0 <= interval.high for interval in intervals])
    assert 0.88 <= covered <= 0.99


@pytest.mark.parametrize("count", [2, 3, 5, 48, 960])
def test_a_derangement_moves_everything_once(count):
    for seed in range(20):
        order = derangement(count, seed)
        assert sorted(order.tolist()) == list(range(count))
        assert (order != torch.arange(count)).all()
        assert torch.equal(order, derangement(count, seed))
    if count > 3:
        assert not torch.equal(derangement(count, 0), derangement(count, 1))


def test_a_derangement_of_hardly_anything():
    assert derangement(0, 0).tolist() == []
    assert derangement(1, 0).shape == (1,)  # there is none; the answer must still index a set of one
