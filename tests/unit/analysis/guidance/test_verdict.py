"""One case for each sentence that a verdict can have."""

import numpy as np
import pandas as pd
import pytest

from advalign.analysis.guidance.comparisons import compared, means, trends
from advalign.analysis.guidance.measured import Results, tolerances
from advalign.analysis.guidance.verdict import Judgement, judge
from advalign.errors import InputError
from tests.unit.analysis.guidance.guidance_made_up import GOOD, study

ALL = {"resamples": 400, "seed": 0}


def judged(results: Results) -> Judgement:
    return judge(results, "l2", resamples=400, seed=0)


def sentence(results: Results, area: str) -> str:
    return next(one.sentence for one in judged(results).areas if one.about == area)


def test_an_area_helps_where_it_beats_all_three() -> None:
    found = next(one for one in judged(study(GOOD)).areas if one.about == "IT")
    assert found.answer == "helps"
    assert found.sentence.startswith(
        "IT (simulated responses) helps: its models are more robust than a class code (+0.49"
    )
    assert ", its shuffle (+0.697, 95 % +0.690 to +0.704, Holm p < 0.001) and" in found.sentence
    assert "and unguided training as accurate (+0.7" in found.sentence


def test_not_distinguishable_from_a_class_code() -> None:
    told = sentence(study({**GOOD, "code": 1.7}, noise=0.05), "IT")
    assert told.startswith("IT (simulated responses) is not distinguishable from a class code (")
    assert "It is more robust than its shuffle (+0." in told


def test_not_distinguishable_from_its_shuffle() -> None:
    told = sentence(study({**GOOD, "IT shuffled": 1.7}, noise=0.05), "IT")
    assert "is not distinguishable from its shuffle (" in told
    assert "helps" not in told


def test_not_distinguishable_from_accuracy_alone() -> None:
    """A shorter unguided training has the area's accuracy, and its tolerance."""
    results = study({**GOOD, "none 2 epochs": 1.7}, noise=0.05, accuracy={"IT": 0.8, "none 2 epochs": 0.8})
    assert "is not distinguishable from accuracy alone (" in sentence(results, "IT")


def test_not_distinguishable_from_several() -> None:
    told = sentence(study({**GOOD, "code": 1.7, "IT shuffled": 1.7}, noise=0.05), "IT")
    assert "not distinguishable from a class code (" in told
    assert ") and its shuffle (" in told


def test_less_robust_than_a_control() -> None:
    found = judged(study({**GOOD, "V1": 1.1})).areas[0]
    assert found.answer == "less robust"
    assert found.sentence.startswith("V1 (simulated responses) is less robust than a class code (-0.1")


def test_without_a_control_it_cannot_be_judged() -> None:
    told = sentence(study({key: level for key, level in GOOD.items() if key != "code"}), "IT")
    assert told.startswith(
        "IT (simulated responses) cannot be judged: no class code is in the study. It is more robust than its shuffle ("
    )


def test_one_failure_decides_whatever_is_missing() -> None:
    levels = {key: level for key, level in GOOD.items() if key != "IT shuffled"} | {"code": 1.7}
    told = sentence(study(levels, noise=0.05), "IT")
    assert "is not distinguishable from a class code" in told
    assert told.endswith("Not compared: no shuffle is in the study.")


def test_no_training_of_the_same_accuracy() -> None:
    told = sentence(study(GOOD, accuracy={"IT": 0.7}), "IT")
    assert "cannot be judged: no unguided training is as accurate (the nearest differs by 0.200)" in told


def test_an_area_without_models() -> None:
    levels = {key: level for key, level in GOOD.items() if not key.startswith("V4")}
    assert sentence(study(levels), "V4") == (
        "V4 (simulated responses) cannot be judged: no model guided by it is in the study."
    )


def test_one_seed_tests_nothing() -> None:
    assert "cannot be judged: one block: nothing can be tested" in sentence(study(GOOD, seeds=1), "IT")


def test_an_unreliable_area_is_no_finding() -> None:
    reliability = pd.DataFrame({"roi": ["V1", "IT"], "split_half": [0.6, -0.04], "above_zero": [True, False]})
    results = study(GOOD, reliability=reliability)
    assert sentence(results, "IT") == (
        "IT (simulated responses) is no finding: the reliability of the area is not above zero (split-half -0.04)."
    )
    assert "helps" in sentence(results, "V1")


def trend_of(results: Results, role: str = "area") -> str:
    return next(one.sentence for one in judged(results).trends if one.about == role)


def test_tolerance_rises_over_the_areas() -> None:
    assert trend_of(study(GOOD)) == (
        "Tolerance rises over V1 < V4 < IT (simulated responses; Page's L = 70, exact p = 0.00013, 5 blocks of seed "
        "and subject)."
    )


def test_tolerance_falls_over_the_areas() -> None:
    told = trend_of(study({**GOOD, "V1": 1.7, "IT": 1.3}))
    assert told.startswith("Tolerance falls over V1 < V4 < IT (simulated responses;")
    assert "exact p of the falling order = 0.00013" in told


def test_no_trend() -> None:
    told = trend_of(study({**GOOD, "V1": 1.5, "IT": 1.5, "V4": 1.7}))
    assert told.startswith("Tolerance shows no trend over V1 < V4 < IT")


def test_two_areas_have_no_trend_to_test() -> None:
    told = trend_of(study({**GOOD}, areas=("V1", "IT")))
    assert told == "The order V1 < IT (simulated responses) is not tested: 2 areas, a trend needs 3."


def test_a_trend_of_the_shuffles_is_told() -> None:
    told = trend_of(study({**GOOD, "V1 shuffled": 1.0, "V4 shuffled": 1.1, "IT shuffled": 1.2}), "shuffled")
    assert told.startswith("Tolerance rises over V1 < V4 < IT (simulated responses shuffled over images;")
    assert told.endswith("So the order is not that of the responses to the images.")
    assert "shows no trend" in trend_of(study(GOOD, noise=0.03), "shuffled")


@pytest.mark.parametrize(
    ("levels", "ending"),
    [
        ((1.3, 1.4, 1.5), "So the order is not that of how clean or wide the areas' responses are."),
        ((1.4, 1.6, 1.4), "So how clean or wide the areas' responses are can explain the order."),
    ],
)
def test_the_trend_of_degraded_areas(levels: tuple[float, ...], ending: str) -> None:
    degraded = {f"{area} degraded": level for area, level in zip(("V1", "V4", "IT"), levels, strict=True)}
    assert trend_of(study(GOOD | degraded), "degraded").endswith(ending)


def test_subjects_are_blocks_too() -> None:
    results = study(GOOD, seeds=3, subjects=("A", "B"))
    assert len(results.blocks) == 6
    assert judged(results).tests["area"].p == pytest.approx(6.0**-6)
    assert next(one for one in compared(results, "l2", 100, 0) if one.area == "IT").found.blocks == 6


def shuffles(results: Results) -> str:
    return next(one.sentence for one in judged(results).further if one.about == "accuracy")


def test_shuffles_against_equal_accuracy() -> None:
    assert shuffles(study(GOOD, noise=0.03)).startswith(
        "Shuffled targets (simulated responses) are not more robust than unguided training as accurate: V1 ("
    )
    told = shuffles(study({**GOOD, "IT shuffled": 1.4}))
    assert told.startswith(
        "Shuffled targets (simulated responses) are more robust than unguided training as accurate: IT ("
    )
    far = study(GOOD, accuracy={f"{area} shuffled": 0.5 for area in ("V1", "V4", "IT")})
    assert "cannot be compared: no unguided training is as accurate" in shuffles(far)


def geometry(results: Results, values: dict[str, float]) -> str:
    models = results.models.assign(capacity=results.models["arm"].map(values))
    told = Results(models, results.norms, results.areas, "measured")
    return next(one.sentence for one in judged(told).further if one.about == "capacity")


def test_geometry_and_tolerance() -> None:
    levels = {**GOOD, **{f"other {place}": 1 + place / 10 for place in range(12)}}
    random = np.random.default_rng(0)
    accuracy = {arm: 0.9 + random.uniform(-0.02, 0.02) for arm in levels}
    results = study(levels, accuracy=accuracy)
    up = dict(levels)
    assert geometry(results, up).startswith(
        "At equal accuracy tolerance rises with manifold capacity over 20 models (partial rho +"
    )
    down = {arm: -level for arm, level in levels.items()}
    assert "falls with manifold capacity" in geometry(results, down)
    none = {arm: random.normal() for arm in levels}
    assert "tolerance shows no relation with manifold capacity" in geometry(results, none)
    flat = dict.fromkeys(levels, 1.0)
    assert geometry(results, flat) == (
        "Manifold capacity and tolerance are not related here: a series does not vary beyond the accuracy."
    )


def test_the_training_of_matched_accuracy_is_the_nearest_in_each_block() -> None:
    results = study(
        {**GOOD, "none 1 epoch": 1.0, "none 2 epochs": 1.0},
        accuracy={"IT": 0.8, "none 1 epoch": 0.7, "none 2 epochs": 0.82},
    )
    arms, gaps = results.matched("IT")
    assert arms == ["none 2 epochs"] * 5
    assert gaps == pytest.approx(np.full(5, 0.02))
    assert results.matched("V1")[0] == ["none"] * 5


def test_holm_counts_areas_and_controls() -> None:
    found = [one for one in compared(study(GOOD), "l2", 200, 0) if one.against in ("class code", "shuffle", "accuracy")]
    assert len(found) == 9
    smallest = min(found, key=lambda one: one.found.p)
    assert smallest.p_holm == pytest.approx(9 * smallest.found.p)


def test_tolerance_is_over_common_images_and_a_weak_arm_does_not_decide() -> None:
    results = study({"none": 1.0, "V1": 1.0, "poor": 1.0}, areas=("V1",), accuracy={"poor": 0.2}, noise=0)
    norms = results.norms[~((results.norms["arm"] == "V1") & (results.norms["image"] < "i010"))]
    norms = norms[~((norms["arm"] == "poor") & (norms["image"] >= "i015"))]
    table, weak = tolerances(Results(results.models, norms, ("V1",), "simulated"), "l2")
    assert weak == ["poor"]
    assert table.groupby("arm")["images"].first().to_dict() == {"V1": 30, "none": 30, "poor": 5}
    images = norms[(norms["arm"] == "none") & (norms["seed"] == 0) & (norms["image"] >= "i010")]
    assert table[table["arm"] == "none"]["tolerance"].iloc[0] == pytest.approx(images["l2"].mean())


def test_the_trend_is_over_images_that_the_areas_models_get_right() -> None:
    """On images that unguided models get right, all areas are alike."""
    results = study({**GOOD, "V4": 1.3, "IT": 1.3}, noise=0)
    norms = results.norms.copy()
    hard = norms["image"] >= "i010"
    norms.loc[hard & (norms["arm"] == "V4"), "l2"] += 1
    norms.loc[hard & (norms["arm"] == "IT"), "l2"] += 2
    norms = norms[~(hard & (norms["arm"] == "none"))]
    found = trends(Results(results.models, norms, results.areas, "simulated"), "l2")
    assert found["area"].p == pytest.approx(1 / 6**5)  # the only arrangement of five blocks that has as large an L
    assert tolerances(Results(results.models, norms, results.areas, "simulated"), "l2")[0]["images"].max() == 10


def test_means_are_over_seeds() -> None:
    results = study(GOOD, noise=0.1)
    row = means(results, "l2").set_index("arm").loc["IT"]
    table = tolerances(results, "l2")[0]
    own = table[table["arm"] == "IT"]["tolerance"]
    assert row["tolerance"] == pytest.approx(own.mean())
    assert row["tolerance_sem"] == pytest.approx(own.std() / np.sqrt(5))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"provenance": "guessed"}, "unknown provenance 'guessed'"),
        ({"role": "unheard"}, "unknown role 'unheard'"),
        ({"twice": True}, "two models of arm 'none' have the seed 0"),
        ({"lacking": True}, "lacks accuracy"),
    ],
)
def test_a_table_that_cannot_be_used(change: dict[str, object], message: str) -> None:
    results = study(GOOD)
    models = results.models
    if "role" in change:
        models = models.assign(role=change["role"])
    if "twice" in change:
        models = pd.concat([models, models])
    if "lacking" in change:
        models = models.drop(columns="accuracy")
    with pytest.raises(InputError, match=message):
        Results(models, results.norms, results.areas, str(change.get("provenance", "simulated")))


def test_where_no_image_is_right_nothing_is_judged() -> None:
    made = study(GOOD)
    results = Results(made.models, made.norms.iloc[:0], made.areas, "simulated")
    assert sentence(results, "IT").startswith("IT (simulated responses) cannot be judged: no image is right in both")
