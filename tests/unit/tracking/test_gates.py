"""Verdicts by values: what a policy demands, with evidence whose numbers are known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

from advalign import catalog
from advalign.errors import InputError
from advalign.evaluation.protocols import protocol
from advalign.inputs import Tracked
from advalign.metrics.base import Metric
from advalign.rows import Descriptor
from advalign.settings import ProtocolSettings
from advalign.tracking.registry.gates import Case, Evidence, Present, judge
from advalign.tracking.registry.policies import Bound, Demand, Demands, Policy, previous_alias, read_policy
from tests.conftest import REPOSITORY

N = 40
SPREAD = np.linspace(-0.2, 0.2, N)
NOISE = np.random.default_rng(0).normal(0, 0.05, N)
NOISE -= NOISE.mean()
EMPTY = pd.DataFrame(columns=["model", "group", "pt", "aa"]).astype({"pt": float, "aa": float})
OPEN = {"minimum_norm": False, "current_data": False, "no_flags": False, "pareto_front": False}


def evidence(pt=1.0, rho=0.4, noise=0.0, **changes):
    rows = pd.DataFrame(
        {
            "stimulus": [f"s{index}" for index in range(N)],
            "status": "ok",
            "norm_l2": pt * (1 + SPREAD) + noise * NOISE,
            "rho_released": rho + SPREAD + noise * NOISE,
        }
    )
    values = {
        "label": "m version 1",
        "data": ("d1", "d1"),
        "stimuli": "s",
        "setting": {
            "data_sha256": changes.pop("read", "r"),
            **{key: changes.get(key, "usual") for key in ("stimuli", "protocol", "human_ceiling")},
        },
        "protocol": protocol("fmn-fast").sha256,
        "flags": (),
        "metrics": {
            "perturbation_tolerance": pt, "adversarial_human_alignment": rho / 0.8, "multilabel_accuracy": 0.8,
            "n_valid": float(N),
        },
        "rows": rows,
        "human_ceiling": 0.8,
    }  # fmt: skip
    return Evidence(**{**values, **changes})


def present(md5="d1", *changed, read="r"):
    return Present(Tracked(md5, tuple(Path(name) for name in changed)), read)


def ask(policy, candidate, other=None, zoo=EMPTY, now=None):
    return judge(Policy(protocol="fmn-fast", **policy), Case(candidate, {"baseline": other}, now or present()), zoo)


def against(**demands):
    return {**OPEN, "against": {"baseline": {name: Demand(**demand) for name, demand in demands.items()}}}


def test_what_is_left_out_of_a_policy_is_asked():
    names = [verdict.gate for verdict in judge(Policy(protocol="fmn-fast"), Case(evidence(), {}, present()), EMPTY)]
    assert names == ["protocol", "data", "sanity flags", "Pareto front"]


@pytest.mark.parametrize(
    ("name", "holds"), [("fmn-fast", True), ("fmn-fast-thorough", True), ("fmn", True), ("feng2025-released", False)]
)
def test_only_minimum_norm_protocols_count(name, holds):
    policy = Policy(protocol=name, current_data=False, no_flags=False, pareto_front=False)
    mine = evidence(protocol=protocol(name).sha256)
    assert [verdict.holds for verdict in judge(policy, Case(mine, {}, present()), EMPTY)] == [holds]


def test_not_evaluated_fails_and_nothing_else_is_asked():
    verdicts = judge(Policy(protocol="fmn-fast"), Case(None, {}, present()), EMPTY)
    assert [(verdict.gate, verdict.holds) for verdict in verdicts] == [("protocol", True), ("evaluation", False)]
    earlier = judge(Policy(protocol="fmn-fast"), Case(evidence(protocol="earlier settings"), {}, present()), EMPTY)
    assert [(verdict.gate, verdict.holds) for verdict in earlier] == [("protocol", True), ("evaluation", False)]


@pytest.mark.parametrize(
    ("data", "current", "holds"),
    [
        (("d1", "d1"), "d1", True),
        (("d0", "d1"), "d1", False),
        (("d1", "d0"), "d1", False),
        (("d1", None), "d1", False),
        ((None, None), None, False),  # untracked data is nobody's current data
    ],
)
def test_data_must_be_the_current_one_in_training_and_evaluation(data, current, holds):
    verdict = ask({**OPEN, "current_data": True}, evidence(data=data), now=present(current))[0]
    assert verdict.holds == holds


@pytest.mark.parametrize(
    ("now", "got"),
    [
        (present("d1", "data/ceiling.yaml"), "data/ceiling.yaml is not what data.dvc says"),
        (present("d1", read="edited"), "the evaluation read other files than data/ holds now"),
    ],
)
def test_data_must_be_the_files_that_were_read_whatever_data_dvc_says(now, got):
    verdict = ask({**OPEN, "current_data": True}, evidence(), now=now)[0]
    assert (verdict.got, verdict.holds) == (got, False)


def test_sanity_flags_are_named():
    verdict = ask({**OPEN, "no_flags": True}, evidence(flags=("zero-gradients",)))[0]
    assert (verdict.got, verdict.holds) == ("zero-gradients", False)


@pytest.mark.parametrize(
    ("bound", "value", "holds"),
    [
        ({"at_least": 0.5}, 0.5, True),
        ({"at_least": 0.5}, 0.499, False),
        ({"at_most": 0.5}, 0.5, True),
        ({"at_most": 0.5}, 0.501, False),
        ({"at_least": 0.1, "at_most": 0.5}, 0.6, False),
        ({"at_least": -1.0}, None, False),
    ],
)
def test_bounds(bound, value, holds):
    verdict = ask({**OPEN, "bounds": {"x": Bound(**bound)}}, evidence(metrics={"x": value}))[0]
    assert verdict.holds == holds


def test_better_wants_both_size_and_significance():
    better = against(adversarial_human_alignment={"better_by": 0.05})
    base = evidence(rho=0.4)
    # 0.05 of alignment is 0.04 of rho at a ceiling of 0.8
    assert ask(better, evidence(rho=0.45, noise=0.1), base)[0].holds
    assert not ask(better, evidence(rho=0.43, noise=0.1), base)[0].holds  # significant, but too small
    assert not ask(better, evidence(rho=0.46, noise=4.0), base)[0].holds  # large enough, but not significant
    assert not ask(better, evidence(rho=0.2, noise=0.1), base)[0].holds  # significant, the wrong way


def test_better_reports_the_paired_t_test():
    mine, base = evidence(rho=0.45, noise=0.5), evidence(rho=0.4)
    verdict = ask(against(adversarial_human_alignment={"better_by": 0.05}), mine, base)[0]
    expected = stats.ttest_rel(mine.rows["rho_released"], base.rows["rho_released"]).pvalue
    assert verdict.got == f"{0.45 / 0.8:.3f} over {0.4 / 0.8:.3f}: {0.05 / 0.8:+.3f}, p = {expected:.1g}, n = {N}"


@pytest.mark.parametrize(
    ("pt", "noise", "holds"),
    [(1.2, 0.2, True), (0.9, 0.2, True), (0.86, 0.0, True), (0.86, 4.0, False), (0.8, 0.2, False)],
)
def test_not_below_is_a_one_sided_paired_test_against_the_share(pt, noise, holds):
    mine, base = evidence(pt=pt, noise=noise), evidence(pt=1.0, noise=0.1 * noise)
    verdict = ask(against(perturbation_tolerance={"not_below": 0.85}), mine, base)[0]
    test = stats.ttest_rel(mine.rows["norm_l2"], 0.85 * base.rows["norm_l2"], alternative="greater")
    assert verdict.holds == holds == bool(test.pvalue < 0.001)


def test_images_that_nothing_attacked_are_compared_too():
    """Saliency: rows by image, without a status; empty where there is no mask."""
    scores = np.where(np.arange(N) == 3, np.nan, 0.2 + SPREAD)
    mine, base = (
        evidence(rows=pd.DataFrame({"image": range(N), "iou_minus_shuffled": scores + gain}))
        for gain in (0.1 + NOISE, 0.0)
    )
    verdict = ask(against(iou_minus_shuffled={"better_by": 0.05}), mine, base)[0]
    assert verdict.holds
    kept = np.arange(N) != 3
    test = stats.ttest_rel((scores + 0.1 + NOISE)[kept], scores[kept])
    assert f"p = {test.pvalue:.1g}, n = {N - 1}" in verdict.got
    assert not ask(against(iou_minus_shuffled={"better_by": 0.2}), mine, base)[0].holds


def test_only_stimuli_that_both_got_right_are_compared():
    base = evidence(rho=0.4)
    mine = evidence(rho=0.5, noise=0.1)
    mine.rows.loc[:9, "status"] = "misclassified_clean"
    base.rows.loc[30:, "status"] = "attack_failed"
    mine.rows.loc[10:11, "rho_released"] = np.nan
    verdict = ask(against(adversarial_human_alignment={"better_by": 0.05}), mine, base)[0]
    assert verdict.got.endswith("n = 18")


def test_nothing_in_common_fails_in_words():
    base = evidence()
    base.rows["status"] = "misclassified_clean"
    for demand in ({"better_by": 0.0}, {"not_below": 0.5}):
        verdict = ask(against(perturbation_tolerance=demand), evidence(), base)[0]
        assert not verdict.holds
        assert "0" in verdict.got


@pytest.mark.parametrize(("accuracy", "holds"), [(0.8, True), (0.78, True), (0.779, False), (None, False)])
def test_drop(accuracy, holds):
    mine = evidence(metrics={"multilabel_accuracy": accuracy})
    assert ask(against(multilabel_accuracy={"drop_at_most": 0.02}), mine, evidence())[0].holds == holds


@pytest.mark.parametrize(("error", "holds"), [(0.1, True), (0.22, True), (0.221, False)])
def test_where_less_is_better_a_drop_is_a_rise(error, holds):
    mine, other = (evidence(metrics={"corruption_error.noise": value}) for value in (error, 0.2))
    verdict = ask(against(**{"corruption_error.noise": {"drop_at_most": 0.02}}), mine, other)[0]
    assert (verdict.wanted, verdict.holds) == ("rises by at most 0.02", holds)


def test_a_policy_names_protocols_that_params_declare():
    declared = {"votes": ProtocolSettings(probe="smoothing", image_set="cifar", settings={"n": 200})}
    votes = evidence(protocol=protocol("votes", declared).sha256, metrics={"certified_accuracy_eps0.25": 0.5})
    asked = {"bounds": {"certified_accuracy_eps0.25": Bound(at_least=0.4)}}
    policy = Policy(protocol="fmn-fast", also={"votes": Demands(**asked)}, **OPEN)
    (verdict,) = judge(policy, Case(evidence(), {}, None), EMPTY, {"votes": Case(votes, {}, None)}, declared)
    assert (verdict.gate, verdict.holds) == ("certified_accuracy_eps0.25 under votes", True)
    other = {"votes": declared["votes"].model_copy(update={"settings": {"n": 300}})}
    (verdict,) = judge(policy, Case(evidence(), {}, None), EMPTY, {"votes": Case(votes, {}, None)}, other)
    assert (verdict.got, verdict.holds) == ("evaluated under earlier settings of it", False)
    about_it = Policy(protocol="votes", **{**OPEN, "minimum_norm": True}, **asked)
    first, second = judge(about_it, Case(votes, {}, None), EMPTY, None, declared)
    assert (first.got, first.holds, second.holds) == ("votes, which attacks nothing", False, True)


def test_another_that_is_missing_fails_but_nobody_before_does_not():
    demands = against(multilabel_accuracy={"drop_at_most": 0.02})
    missing = ask(demands, evidence(), "m.baseline is not evaluated")
    assert [(verdict.got, verdict.holds) for verdict in missing] == [("m.baseline is not evaluated", False)]
    assert ask(demands, evidence(), None)[0].holds
    assert not ask(demands, evidence(), evidence(stimuli="others"))[0].holds
    assert not ask(demands, evidence(), evidence(protocol="earlier settings"))[0].holds


def test_pareto_front_of_standard_models():
    front = {**OPEN, "pareto_front": True}
    zoo = pd.DataFrame(
        {
            "model": ["a", "b", "r"],
            "group": ["cnn", "vit", "robust"],
            "pt": [2.0, 0.5, 9.0],  # the robust model is not of the front
            "aa": [0.2, 0.6, 0.9],
        }
    )
    assert ask(front, evidence(pt=1.0, rho=0.4), zoo=zoo)[0].holds  # between the two: AA 0.5
    assert not ask(front, evidence(pt=1.0, rho=0.1), zoo=zoo)[0].holds  # AA 0.125: a reaches it in both
    assert "reached by a" in ask(front, evidence(pt=1.0, rho=0.1), zoo=zoo)[0].got
    assert not ask(front, evidence(pt=2.0, rho=0.16), zoo=zoo)[0].holds  # equal to a is not better than a
    assert not ask(front, evidence(), zoo=EMPTY)[0].holds
    assert not ask(front, evidence(metrics={"perturbation_tolerance": None}), zoo=zoo)[0].holds


def write(tmp_path, values):
    path = tmp_path / "gates.yaml"
    path.write_text(values if isinstance(values, str) else yaml.safe_dump(values))
    return path


def asking(metric, **demand):
    return {"champion": {"protocol": "fmn", "against": {"baseline": {metric: demand}}}}


def bounded(*metrics):
    return {"champion": {"protocol": "fmn", "bounds": {metric: {"at_least": 0.5} for metric in metrics}}}


def test_a_metric_may_be_written_short_and_is_judged_by_its_own_name(tmp_path):
    values = bounded("aa_ci_low", "robust_accuracy_eps0.25", "adversarial_human_alignment.dog", "n_valid")
    values["champion"]["against"] = {"holder": {"pt": {"not_below": 0.9}, "aa": {"better_by": 0.1}}}
    policy = read_policy(write(tmp_path, values), "champion")
    assert set(policy.bounds) == {
        "adversarial_human_alignment_ci_low", "robust_accuracy_eps0.25", "adversarial_human_alignment.dog", "n_valid",
    }  # fmt: skip
    assert policy.against["holder"] == {
        "perturbation_tolerance": Demand(not_below=0.9), "adversarial_human_alignment": Demand(better_by=0.1),
    }  # fmt: skip


class Described(Metric):
    describes = (Descriptor("reaction_time", "rt", "RT", "s", "lower", "seconds"),)


@pytest.fixture
def reaction_time(monkeypatch):
    """A metric of the catalog that describes what it brings, and of which less is better."""
    names, load = catalog.names, catalog.load
    monkeypatch.setattr(catalog, "names", lambda kind: ["reaction-time"] if kind == "metric" else names(kind))
    monkeypatch.setattr(catalog, "load", lambda kind, name: Described if kind == "metric" else load(kind, name))


def test_a_metric_that_describes_itself_is_known(tmp_path, reaction_time):
    values = {"champion": {"protocol": "fmn", "against": {"baseline": {"rt": {"better_by": 0.1}}}}}
    assert "reaction_time" in read_policy(write(tmp_path, values), "champion").against["baseline"]
    with pytest.raises(InputError, match="unknown metric 'reaction_tme'; did you mean 'reaction_time'"):
        read_policy(write(tmp_path, bounded("reaction_tme")), "champion")


def test_where_less_is_better_the_mean_must_be_lower(reaction_time):
    mine, other = evidence(), evidence()
    mine.rows["seconds"], other.rows["seconds"] = 1.0 + NOISE, 1.3 - NOISE
    verdict = ask(against(reaction_time={"better_by": 0.2}), mine, other)[0]
    assert (verdict.wanted, verdict.holds) == ("lower by 0.2, p < 0.001", True)
    assert not ask(against(reaction_time={"better_by": 0.2}), other, mine)[0].holds
    assert not ask(against(reaction_time={"better_by": 0.4}), mine, other)[0].holds


def test_rows_from_before_a_metric_was_measured_fail_its_gate_in_words(reaction_time):
    verdict = ask(against(reaction_time={"better_by": 0.2}), evidence(), evidence())[0]
    assert not verdict.holds
    assert "0 values" in verdict.got


def test_the_projects_own_gates_are_those_that_the_readme_tells():
    policy = read_policy(REPOSITORY / "registry" / "gates.yaml", "champion")
    assert (policy.protocol, policy.p) == ("fmn-fast", 0.001)
    assert policy.minimum_norm and policy.current_data and policy.no_flags and policy.pareto_front
    baseline = policy.against["baseline"]
    assert baseline["perturbation_tolerance"].not_below == 0.85
    assert baseline["multilabel_accuracy"].drop_at_most == 0.02
    assert baseline["adversarial_human_alignment"].better_by == 0.05


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("{", "not valid YAML"),
        ("[]", "expected a mapping"),
        ({"champion": {}}, "protocol: field required"),
        ({"champion": {"protocol": "fmn", "no_flag": True}}, "did you mean 'no_flags'"),
        ({"champion": {"protocol": "fmn", "bounds": {"n_valid": {}}}}, "at_least or at_most"),
        ({"champion": {"protocol": "fmn", "against": {"baseline": {"x": {}}}}}, "better_by, not_below or drop_at_most"),
        (asking("top1_accuracy", better_by=1), "against baseline: top1_accuracy has no value per stimulus"),
        (
            asking("shortcut_drop", not_below=0.9),
            "shortcut_drop is better when it is lower: demand drop_at_m",
        ),
        (asking("aa_raw", not_below=0.9), "against baseline: adversarial_human_alignment_raw has no value per"),
        (asking("perturbation_tolerence", better_by=1), "unknown metric 'perturbation_tolerence'; did you mean 'pert"),
        (
            asking("x", drop_at_most=1),
            "gates.yaml: champion: against baseline: unknown metric 'x' .known: .*; a metric of your",
        ),
        (bounded("n_vald"), "gates.yaml: champion: bounds: unknown metric 'n_vald'; did you mean 'n_valid'"),
        (bounded("robust_acuracy_eps0.25"), r"did you mean 'robust_accuracy_eps\.\.\.'"),
        (bounded("pt", "perturbation_tolerance"), "bounds: perturbation_tolerance is given twice, by its own and by"),
        (
            "champion:\n  protocol: fmn\n  bounds:\n    n_valid: {at_least: 100}\n    n_valid: {at_least: 1}\n",
            "'n_valid' is given twice, in line 4 and again in line 5",
        ),
        ({"champion": {"protocol": "fmn", "p": 1.5}}, "less than 1"),
        ({"champion": {"protocol": "fmn"}, "previous": {"protocol": "fmn"}}, "'previous' is set by"),
        ({"champion": {"protocol": "fmn"}, "candidate": {"protocol": "fmn"}}, "'candidate' is set by"),
        ({"reference": {"protocol": "fmn"}}, "unknown alias in gates.yaml 'champion'"),
    ],
)
def test_broken_policies_are_refused(tmp_path, values, message):
    with pytest.raises(InputError, match=message):
        read_policy(write(tmp_path, values), "champion")


def test_a_missing_file_says_what_it_is(tmp_path):
    with pytest.raises(InputError, match="declares the demands of promotions"):
        read_policy(tmp_path / "gates.yaml", "champion")


def test_every_alias_has_a_previous_one_of_its_own():
    assert len({previous_alias(alias) for alias in ("champion", "reference", "safe")}) == 3


def test_equal_models_have_no_p_value_and_fail_in_words():
    verdict = ask(against(perturbation_tolerance={"better_by": 0.0}), evidence(), evidence())[0]
    assert not verdict.holds
    assert "differences are equal" in verdict.got


# --- gates of another norm -----------------------------------------------------------------------------------------


def in_linf(pt=4.0, **changes):
    """Evidence under linf-curve: PT in grey levels, rows with pixels in [0, 1]."""
    found = evidence(pt=pt, **changes)
    rows = found.rows.rename(columns={"norm_l2": "norm_linf"}).assign(norm_linf=found.rows["norm_l2"] / 255)
    metrics = {"perturbation_tolerance_linf": pt, "adversarial_human_alignment_linf": 0.5, "robust_accuracy_linf8": 0.3}
    return replace(found, rows=rows, metrics=metrics, protocol=protocol("linf-curve").sha256)


def test_a_policy_may_be_about_linf_alone():
    demands = {"perturbation_tolerance_linf": Demand(better_by=0.5)}
    policy = Policy(protocol="linf-curve", against={"baseline": demands}, pareto_front=True, current_data=False)
    zoo = pd.DataFrame({"model": ["m"], "group": ["cnn"], "pt": [3.0], "aa": [0.6]})
    first, _, better, front = judge(policy, Case(in_linf(4.0, noise=1.0), {"baseline": in_linf(3.0)}, None), zoo)
    assert first.holds
    assert (better.holds, better.got.partition(",")[0]) == (True, "4.000 over 3.000: +1.000")
    assert (front.holds, front.got) == (True, "PT 4.000, AA 0.500: none of 1 does")


def test_a_policy_about_l2_may_ask_a_second_protocol():
    also = {
        "linf-curve": Demands(
            bounds={"robust_accuracy_linf8": Bound(at_least=0.4)},
            against={"holder": {"perturbation_tolerance_linf": Demand(not_below=0.9)}},
        )
    }
    policy = Policy(protocol="fmn-fast", also=also, **OPEN)
    cases = {"linf-curve": Case(in_linf(4.0), {"holder": in_linf(3.0, noise=1.0)}, None)}
    bound, holder = judge(policy, Case(evidence(), {}, None), EMPTY, cases)
    assert (bound.gate, bound.got, bound.holds) == ("robust_accuracy_linf8 under linf-curve", "0.3", False)
    assert holder.gate == "perturbation_tolerance_linf against holder under linf-curve"
    assert (holder.got.partition(",")[0], holder.holds) == ("4.000 of 3.000: 133%", True)


@pytest.mark.parametrize(
    ("candidate", "got"),
    [(None, "not evaluated under it"), (evidence(protocol="earlier"), "evaluated under earlier settings of it")],
)
def test_a_second_protocol_that_is_missing_fails_its_gate(candidate, got):
    policy = Policy(protocol="fmn-fast", also={"linf-curve": Demands()}, **OPEN)
    (verdict,) = judge(policy, Case(evidence(), {}, None), EMPTY, {"linf-curve": Case(candidate, {}, None)})
    assert (verdict.gate, verdict.got, verdict.holds) == ("evaluation under linf-curve", got, False)


def test_data_and_flags_of_a_second_protocol_count_too():
    policy = Policy(protocol="fmn-fast", also={"linf-curve": Demands()}, minimum_norm=False, pareto_front=False)
    stale = in_linf(data=("d1", "d0"), flags=("stochastic",))
    verdicts = judge(policy, Case(evidence(), {}, present()), EMPTY, {"linf-curve": Case(stale, {}, present())})
    assert [(one.gate, one.holds) for one in verdicts] == [
        ("data", True), ("sanity flags", True),
        ("data under linf-curve", False), ("sanity flags under linf-curve", False),
    ]  # fmt: skip


def test_a_policy_reads_the_metrics_of_a_second_protocol_by_either_name(tmp_path):
    asked = {"linf-curve": {"bounds": {"pt_linf": {"at_least": 2}, "robust_accuracy_linf8": {"at_least": 0.2}}}}
    file = tmp_path / "gates.yaml"
    file.write_text(yaml.safe_dump({"champion": {"protocol": "fmn-fast", "also": asked}}))
    bounds = read_policy(file, "champion").also["linf-curve"].bounds
    assert bounds == {"perturbation_tolerance_linf": Bound(at_least=2), "robust_accuracy_linf8": Bound(at_least=0.2)}
    file.write_text(yaml.safe_dump({"champion": {"protocol": "linf-curve", "also": asked}}))
    with pytest.raises(InputError, match="also: linf-curve is the policy's own protocol"):
        read_policy(file, "champion")


def forms(by_image, over_floor, emd):
    """Evidence with AA beside itself, the same by image up to noise."""
    found = evidence(noise=1.0)
    rows = found.rows.assign(rho_by_image=by_image + NOISE, rho_over_floor=over_floor + NOISE, emd_released=emd - NOISE)
    metrics = {
        "adversarial_human_alignment_by_image": by_image,
        "adversarial_human_alignment_over_floor": over_floor,
        "emd_alignment": emd,
        "n_below_floor": 2.0,
    }
    return replace(found, rows=rows, metrics={**found.metrics, **metrics})


def test_a_policy_can_name_alignment_by_image_over_the_floor_and_by_other_measures(tmp_path):
    values = yaml.safe_load((REPOSITORY / "registry" / "gates.yaml").read_text())
    values["champion"] |= {**OPEN, "bounds": {"aa_over_floor": {"at_least": 0.2}, "n_below_floor": {"at_most": 3}}}
    values["champion"]["against"] = {
        "baseline": {"aa_by_image": {"better_by": 0.1}, "aa_over_floor": {"not_below": 0.9},
                     "aa_emd": {"better_by": 0.05}, "aa_auc": {"drop_at_most": 0.1}}
    }  # fmt: skip
    path = tmp_path / "gates.yaml"
    path.write_text(yaml.safe_dump(values))
    policy = read_policy(path, "champion")
    other = forms(0.4, 0.3, 0.3)
    verdicts = {
        verdict.gate: verdict
        for verdict in judge(policy, Case(forms(0.55, 0.29, 0.2), {"baseline": other}, present()), EMPTY)
    }
    assert {gate: verdict.holds for gate, verdict in verdicts.items()} == {
        "adversarial_human_alignment_over_floor": True,
        "n_below_floor": True,
        "adversarial_human_alignment_by_image against baseline": True,
        "adversarial_human_alignment_over_floor against baseline": True,
        "emd_alignment against baseline": True,
        "auc_alignment against baseline": False,  # not measured
    }
    told = verdicts["adversarial_human_alignment_by_image against baseline"].got  # not divided by the ceiling again
    assert told.startswith("0.550 over 0.400: +0.150")
    worse = judge(policy, Case(forms(0.45, 0.15, 0.3), {"baseline": other}, present()), EMPTY)
    assert [verdict.holds for verdict in worse] == [False, True, False, False, False, False]


def test_without_participants_a_gate_on_alignment_by_image_fails_and_says_why():
    policy = {**OPEN, "bounds": {"adversarial_human_alignment_by_image": Bound(at_least=0.1)}}
    verdict = ask(policy, evidence())[0]
    assert (verdict.holds, verdict.got) == (False, "not measured")
