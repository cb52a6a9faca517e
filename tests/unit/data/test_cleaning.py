"""Cleaning of trials: what each step drops, by values."""

import json

import numpy as np
import pandas as pd
import pytest

from advalign.data.cleaning import STEPS, Cleaned, CleaningTable, clean_image, robust_z, suspicious
from advalign.settings import HumanMapSettings

WIDTH, HEIGHT = 40, 20


def settings(**values: object) -> HumanMapSettings:
    return HumanMapSettings.model_validate({"min_clicks": 2, "max_clicks": 6, "min_subjects": 2} | values)


def trial(participant: str, row: int, clicks: list[tuple[float, float]] | int = 4, **values: object) -> dict:
    pairs = [(5.0 + number, 6.0) for number in range(clicks)] if isinstance(clicks, int) else clicks
    x, y = (np.array([pair[axis] for pair in pairs], np.float32) for axis in (0, 1))
    known = {"image": "a.png", "participant": participant, "x": x, "y": y, "catch": 1.0, "mobile": False, "row": row}
    return known | values


def clean(*trials: dict, names: frozenset[str] = frozenset(), **values: object) -> Cleaned:
    table = pd.DataFrame(trials).astype({"catch": np.float32})
    return clean_image(table, WIDTH, HEIGHT, settings(**values), names)


def dropped(cleaned: Cleaned) -> dict[str, tuple[str, ...]]:
    return {step.step: step.participants for step in cleaned.steps if step.participants}


def test_nothing_is_dropped_of_good_trials():
    cleaned = clean(trial("ann", 1), trial("bob", 2))
    assert dropped(cleaned) == {}
    assert [step.step for step in cleaned.steps] == [step for step in STEPS if step != "suspicious"]
    assert cleaned.image == "a.png"
    assert list(cleaned.trials["participant"]) == ["ann", "bob"]
    assert cleaned.trials["x"][0].tolist() == [5, 6, 7, 8]


def test_every_step_drops_its_own():
    cleaned = clean(
        trial("careless", 1, catch=0.94),
        trial("phone", 2, mobile=True),
        trial("ann", 4),
        trial("bob", 5),
        trial("ann", 6, 5),
        trial(
            "far", 7, [(-0.6, 3), (39.5, 3), (3, 19.5), (np.nan, 3), (3, np.inf), (-0.5, -0.5), (39.4, 19.4), (1, 1)]
        ),
        trial("short", 8, 2),
        trial("empty", 9, 0),
    )
    assert dropped(cleaned) == {
        "catch": ("careless",),
        "mobile": ("phone",),
        "repeated": ("ann",),
        "outside": ("far",),
        "few clicks": ("short", "empty"),
    }
    assert [(step.before, step.after) for step in cleaned.steps] == [(8, 7), (7, 6), (6, 5), (5, 5), (5, 3), (3, 3)]
    assert [step.clicks for step in cleaned.steps] == [0, 0, 0, 5, 0, 0]
    far = cleaned.trials.set_index("participant").loc["far"]
    assert far["x"].tolist() == np.float32([-0.5, 39.4, 1]).tolist()
    assert far["y"].tolist() == np.float32([-0.5, 19.4, 1]).tolist()


def test_the_least_catch_score_itself_passes_and_an_unknown_one_too():
    assert dropped(clean(trial("a", 1, catch=0.95), trial("b", 2, catch=np.nan), trial("c", 3, mobile=None))) == {}


def test_mobile_trials_stay_on_request():
    assert dropped(clean(trial("a", 1, mobile=True), trial("b", 2), drop_mobile=False)) == {}


def test_the_first_trial_by_row_is_kept_of_those_that_passed_the_steps_before():
    cleaned = clean(trial("a", 9, 5), trial("a", 3, 4), trial("a", 1, 6, catch=0.1), trial("b", 2))
    assert list(zip(cleaned.trials["participant"], cleaned.trials["row"], strict=True)) == [("b", 2), ("a", 3)]


def test_clicks_are_trimmed_in_order_of_time():
    cleaned = clean(trial("a", 1, 9), trial("b", 2, 5), max_clicks=7, clicks_up_to=4)
    assert [x.tolist() for x in cleaned.trials["x"]] == [[5, 6, 7, 8], [5, 6, 7, 8]]
    assert {step.step: step.clicks for step in cleaned.steps if step.clicks} == {"few clicks": 6}
    assert clean(trial("a", 1, 9), trial("b", 2, 5), max_clicks=None).trials["x"][0].tolist() == list(range(5, 14))


def test_an_image_with_few_participants_keeps_no_trial():
    cleaned = clean(trial("a", 1), trial("b", 2), min_subjects=3)
    assert len(cleaned.trials) == 0
    assert dropped(cleaned) == {"few participants": ("a", "b")}


def test_suspicious_participants_are_dropped_on_request_only():
    trials = [trial(name, row) for row, name in enumerate("abc")]
    assert dropped(clean(*trials, names=frozenset("b"))) == {}
    cleaned = clean(*trials, names=frozenset("b"), drop_outliers=True)
    assert dropped(cleaned) == {"suspicious": ("b",)}
    assert list(cleaned.trials["participant"]) == ["a", "c"]


def test_the_table_adds_up_and_lists_the_20_with_most_trials():
    table, other = CleaningTable(), CleaningTable()
    images = []
    for number in range(25):
        bad = [trial(f"p{one:02}", one, catch=0.0) for one in range(number + 1)]
        images.append(clean(*bad, trial("x", 90), trial("y", 91, [(99, 1), (1, 1), (2, 2), (3, 3)])))
    for number, cleaned in enumerate(images):
        table.add(f"{number:02}", cleaned.steps)
    for number in reversed(range(25)):
        other.add(f"{number:02}", images[number].steps)
    steps = {step["step"]: step for step in table.steps()}
    assert json.dumps(table.steps()) == json.dumps(other.steps())
    assert list(steps) == [step for step in STEPS if step != "suspicious"]
    assert steps["catch"] == {
        "step": "catch",
        "trials_before": 325 + 50,
        "trials_after": 50,
        "dropped": 325,
        "clicks_dropped": 0,
        "participants": [f"p{one:02}" for one in range(20)],
        "images": [f"{one:02}" for one in range(24, 4, -1)],
    }
    assert {key: steps["outside"][key] for key in ("dropped", "clicks_dropped", "participants")} == {
        "dropped": 25,
        "clicks_dropped": 25,
        "participants": ["y"],
    }
    assert steps["few participants"]["trials_after"] == 50


def test_robust_z_by_hand():
    names = ["a", "a", "b", "b", "c", "c", "d", "d", "e", "e", "once", "f", "f"]
    values = [0.5, 0.7, 0.5, 0.5, 0.7, 0.7, 0.8, 0.8, -0.1, 0.1, -1.0, np.nan, 0.9]
    table = robust_z(names, values)  # means .6, .5, .7, .8, 0; median .6; distances 0, .1, .1, .2, .6: MAD .1
    assert list(table["participant"]) == ["e", "b", "a", "c", "d"]
    assert list(table["trials"]) == [2] * 5
    assert table["z"].to_numpy() == pytest.approx(np.array([-6, -1, 0, 1, 2]) / 1.4826)
    found = suspicious(names, values, settings(drop_outliers=True))
    assert found == [
        {
            "participant": "e",
            "trials": 2,
            "agreement": pytest.approx(0),
            "z": pytest.approx(-6 / 1.4826),
            "dropped": True,
        }
    ]
    assert json.loads(json.dumps(found)) == found


def test_nobody_is_suspicious_where_all_agree_equally():
    assert list(robust_z(["a", "a", "b", "b", "c", "c"], [0.5, 0.5, 0.5, 0.5, 0.5, 0.5])["z"]) == [0, 0, 0]
    assert suspicious([], [], settings()) == []
