"""AA beside itself and the further measures, by values that are known; and each against its own small computation."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from scipy.optimize import linprog

from advalign import catalog
from advalign.evaluation.protocols import protocol
from advalign.metrics.base import AttackedShard, Evaluation
from advalign.tensors.ranks import average_ranks
from advalign.vocabulary import describe

torch.set_num_threads(1)

CEILING = np.array([0.5, 0.4, 0.6, 0.3, 0.5, 0.1])
CORRECTED = np.array([0.7, 0.5, 0.8, 0.4, 0.6, 0.15])
FLOOR = np.array([0.1, 0.2, 0.0, 0.1, 0.3, 0.2])  # that of the last image is above its corrected ceiling
SPAN = float((CEILING - FLOOR).mean())


def metric(name):
    return catalog.load("metric", name)()


def extras(maps, ceiling=CEILING, corrected=CORRECTED, floor=FLOOR, span=SPAN):
    return {
        "human_map": maps,
        "human_ranks": average_ranks(maps.flatten(1)),
        "human_ceiling": torch.tensor(ceiling),
        "human_ceiling_corrected": torch.tensor(corrected),
        "human_floor": torch.tensor(floor),
        "human_span": torch.full((len(maps),), span).double(),
    }


def random_shard(count=6, seed=0, side=16):
    generator = torch.Generator().manual_seed(seed)
    maps = torch.rand(count, side, side, generator=generator)
    return AttackedShard(torch.randn(count, 3, side, side, generator=generator), extras(maps))


def rows(rho, ceiling=CEILING, corrected=CORRECTED, floor=FLOOR, span=SPAN):
    """Rows as the probe writes them of a model with these rank correlations."""
    by_image = np.where(corrected > np.maximum(floor, 0), rho / corrected, math.nan)
    known = {"human_ceiling": ceiling, "human_ceiling_corrected": corrected, "human_floor": floor}
    return pd.DataFrame(
        {"status": "ok", "rho_released": rho, "rho_by_image": by_image, "rho_over_floor": (rho - floor) / span, **known}
    )


def summary(name, table):
    return metric(name).summarise(Evaluation(table, human_ceiling=0.65, resamples=500, seed=0))


def test_a_model_at_each_image_s_ceiling_has_1_by_image():
    found = summary("alignment-by-image", rows(CORRECTED))
    assert found["adversarial_human_alignment_by_image"] == pytest.approx(1, abs=1e-12)
    assert found["n_below_floor"] == 1
    assert found["n_without_ceiling"] == 0


def test_a_model_at_the_floors_has_0_over_the_floor_and_one_at_the_ceilings_1():
    name = "adversarial_human_alignment_over_floor"
    assert summary("alignment-by-image", rows(FLOOR))[name] == pytest.approx(0, abs=1e-12)
    assert summary("alignment-by-image", rows(CEILING))[name] == pytest.approx(1, abs=1e-12)
    some = rows(FLOOR)
    some.loc[1:3, "status"] = "misclassified_clean"  # whichever images are valid
    assert summary("alignment-by-image", some)[name] == pytest.approx(0, abs=1e-12)


def test_means_and_their_errors_are_over_the_images_that_are_not_left_out_and_those_are_counted():
    rho = np.array([0.35, 0.1, math.nan, -0.2, 0.3, 0.05])
    table = rows(rho, corrected=np.array([0.7, math.nan, 0.8, 0.4, 0.6, 0.15]))
    found = summary("alignment-by-image", table)
    expected = np.array([0.5, -0.5, 0.5])  # the second has no ceiling, the third no rho, the last is below its floor
    assert found["adversarial_human_alignment_by_image"] == pytest.approx(expected.mean())
    assert found["adversarial_human_alignment_by_image_sem"] == pytest.approx(stats.sem(expected))
    low, high = (found[f"adversarial_human_alignment_by_image_ci_{end}"] for end in ("low", "high"))
    assert low < expected.mean() < high
    assert (found["n_below_floor"], found["n_without_ceiling"]) == (1, 1)


def test_what_is_measured_is_rho_by_ceiling_floor_and_span():
    shard = random_shard()
    found = {column: values.numpy() for column, values in metric("alignment-by-image").measure(shard).items()}
    maps = shard.perturbations.amax(1).abs().flatten(1).numpy()
    rho = [stats.spearmanr(*pair).statistic for pair in zip(maps, shard.extras["human_map"].flatten(1), strict=True)]
    np.testing.assert_allclose(found["rho_released"], rho, atol=1e-12)
    np.testing.assert_allclose(found["rho_by_image"], [*(rho / CORRECTED)[:5], math.nan], atol=1e-12)
    np.testing.assert_allclose(found["rho_over_floor"], (rho - FLOOR) / SPAN, atol=1e-12)


@pytest.mark.parametrize("span", [0.0, -0.1, math.nan])
def test_people_who_agree_no_more_than_chance_judge_no_model_over_the_floor(span):
    shard = random_shard()
    found = metric("alignment-by-image").measure(AttackedShard(shard.perturbations, shard.extras | extras(
        shard.extras["human_map"], span=span)))  # fmt: skip
    assert found["rho_over_floor"].isnan().all()


def test_a_ceiling_that_is_not_above_0_divides_nothing():
    shard = random_shard()
    known = extras(shard.extras["human_map"], corrected=np.full(6, -0.1), floor=np.full(6, -0.2))
    assert metric("alignment-by-image").measure(AttackedShard(shard.perturbations, known))["rho_by_image"].isnan().all()


def test_without_people_there_is_no_column_and_no_number():
    shard = random_shard()
    maps = shard.extras["human_map"]
    bare = AttackedShard(shard.perturbations, {"human_map": maps, "human_ranks": average_ranks(maps.flatten(1))})
    assert metric("alignment-by-image").measure(bare) == {}
    table = pd.DataFrame({"status": ["ok"], "rho_released": [0.3]})
    assert summary("alignment-by-image", table) == {}


def test_auc_and_nss_are_those_of_the_most_human_tenth_of_the_pixels():
    shard = random_shard()
    scores = shard.perturbations.amax(1).abs().flatten(1).double().numpy()
    found_auc = metric("auc-alignment").measure(shard)["auc_released"].numpy()
    found_nss = metric("nss-alignment").measure(shard)["nss_released"].numpy()
    for number, human in enumerate(shard.extras["human_map"].flatten(1).numpy()):
        clicked = np.zeros(256, bool)
        clicked[np.argsort(-human, kind="stable")[:26]] = True
        first, second = scores[number][clicked], scores[number][~clicked]
        wins = (first[:, None] > second).mean() + 0.5 * (first[:, None] == second).mean()
        assert found_auc[number] == pytest.approx(wins, abs=1e-12)
        assert found_nss[number] == pytest.approx(((scores[number] - scores[number].mean()) / scores[number].std())
                                                  [clicked].mean(), abs=1e-6)  # fmt: skip


def test_emd_is_the_optimum_of_the_transport_between_both_maps_on_8_by_8_cells():
    shard = random_shard(count=2)
    cells = [
        tensor.double().numpy().reshape(2, 8, 2, 8, 2).mean((2, 4)).reshape(2, 64)
        for tensor in (shard.perturbations.amax(1).abs(), shard.extras["human_map"])
    ]
    masses = [one / one.sum(1, keepdims=True) for one in cells]
    places = (np.stack(np.divmod(np.arange(64), 8), 1) + 0.5) / 8
    cost = np.linalg.norm(places[:, None] - places, axis=-1).ravel()
    rows_of, columns_of = np.kron(np.eye(64), np.ones(64)), np.tile(np.eye(64), 64)
    found = metric("emd-alignment").measure(shard)["emd_released"].numpy()
    for number in range(2):
        sides = np.concatenate([masses[0][number], masses[1][number]])
        best = linprog(cost, A_eq=np.vstack([rows_of, columns_of])[:-1], b_eq=sides[:-1])
        assert found[number] == pytest.approx(best.fun, abs=1e-8)


def test_a_perturbation_that_is_the_human_map_is_perfect_and_one_on_the_other_side_is_not():
    maps = torch.zeros(2, 16, 16)
    maps[:, :4, :5] = torch.arange(1, 21).reshape(4, 5).float()  # 20 of the 26 pixels that count
    perturbations = torch.stack([maps[0], maps[1].flip(1)])[:, None].expand(-1, 3, -1, -1)
    shard = AttackedShard(perturbations, {"human_map": maps})
    (auc,), (nss,), (emd,) = (metric(f"{name}-alignment").measure(shard).values() for name in ("auc", "nss", "emd"))
    assert auc[0] > 0.85 > 0.5 > auc[1]
    assert nss[0] > 2 > 0 > nss[1]
    assert emd[0] == pytest.approx(0, abs=1e-12)
    assert emd[1] > 0.5


@pytest.mark.parametrize("name", ["auc", "nss", "emd"])
def test_constant_human_maps_have_no_value(name):
    shard = random_shard()
    blank = AttackedShard(shard.perturbations, {"human_map": torch.zeros(6, 16, 16)})
    (values,) = metric(f"{name}-alignment").measure(blank).values()
    assert values.isnan().all()
    table = pd.DataFrame({"status": "ok", f"{name}_released": values.numpy()})
    assert math.isnan(summary(f"{name}-alignment", table)[f"{name}_alignment"])


def test_their_summaries_are_means_over_valid_stimuli():
    table = pd.DataFrame({"status": ["ok", "ok", "ok", "attack_failed"], "emd_released": [0.1, 0.3, math.nan, 0.9]})
    found = summary("emd-alignment", table)
    assert found["emd_alignment"] == pytest.approx(0.2)
    assert found["emd_alignment_sem"] == pytest.approx(0.1)


@pytest.mark.parametrize("name", ["alignment-by-image", "auc-alignment", "nss-alignment", "emd-alignment"])
def test_rows_of_before_have_no_such_number(name):
    """They lie in tracking stores, and a promotion computes their numbers again with the metrics of today."""
    assert summary(name, pd.DataFrame({"status": ["ok"], "rho_released": [0.3], "norm_l2": [1.0]})) == {}


@pytest.mark.parametrize("name", ["adversarial_human_alignment_by_image", "aa_over_floor", "auc_alignment", "aa_emd"])
def test_in_linf_their_names_say_it(name):
    described = describe(name)
    asked = protocol("linf-curve", metrics=("alignment-by-image", "auc-alignment", "emd-alignment"))
    table = rows(FLOOR).assign(auc_released=0.6, emd_released=0.2, norm_linf=0.1)
    found = asked.probe.summarise(Evaluation(table, 0.65, 200, 0))
    assert f"{described.name}_linf" in found
    assert describe(f"{described.name}_linf").short == f"{described.short}_linf"
    assert describe(f"{described.short}_linf_sem").name == f"{described.name}_linf_sem"
    assert describe(f"{described.name}_linf").column == described.column
