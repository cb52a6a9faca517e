"""Protocols of one's own in params.yaml, what an image set must offer, and the listing."""

import pytest

from advalign.errors import InputError
from advalign.evaluation.protocols import Protocol, listed, names, protocol
from advalign.settings import ProtocolSettings


def declared(**told):
    return {"mine": ProtocolSettings(**told)}


def test_a_declared_protocol_has_its_own_name_settings_and_digest():
    found = protocol("mine", declared(attack="fmn", settings={"steps": 7}))
    assert (found.name, found.spec.probe, found.spec.image_set) == ("mine", "minimum-norm", "stimuli")
    assert found.attack.settings.steps == 7
    assert found.sha256 == protocol("fmn-7").sha256  # the same question has the same digest, whatever it is called
    assert Protocol(found.spec).attack.settings == found.attack.settings  # as it travels with a task


def test_a_metric_whose_extras_the_set_lacks_is_left_out():
    whole = protocol("fmn-5").spec.metrics
    assert {"perturbation-tolerance", "adversarial-human-alignment", "alignment-controls"} <= {*whole}
    assert "multilabel-accuracy" not in whole
    without_maps = protocol("mine", declared(attack="fmn", image_set="validation")).spec.metrics
    assert "perturbation-tolerance" in without_maps
    assert not {"adversarial-human-alignment", "alignment-controls"} & {*without_maps}


def test_wanted_metrics_are_each_probes_own():
    wanted = ["multilabel-accuracy", "perturbation-tolerance"]
    assert protocol("fmn-fast", metrics=wanted).spec.metrics == ("perturbation-tolerance",)
    assert protocol("predictions", metrics=wanted).spec.metrics == ("multilabel-accuracy",)
    assert protocol("corruptions", metrics=wanted).spec.metrics == ("corruption-error",)


@pytest.mark.parametrize(
    ("name", "told", "says"),
    [
        ("mine", {"probe": "minimum-norm"}, "needs an attack: add `attack: NAME`"),
        ("mine", {"attack": "pgd", "probe": "minimum-norm"}, "does not run attacks of the kind of 'pgd'"),
        ("mine", {"attack": "fmm"}, "unknown attack 'fmm'; did you mean 'fmn'"),
        ("mine", {"probe": "prediction"}, "unknown probe 'prediction'; did you mean 'predictions'"),
        ("mine", {"attack": "fmn", "image_set": "stimul"}, "unknown image set 'stimul'; did you mean 'stimuli'"),
        (
            "mine",
            {"attack": "fmn", "settings": {"step": 3}},
            "'mine': unknown key 'step'; did you mean 'steps",
        ),
        ("mine", {"probe": "predictions", "image_set": "stimuli"}, "labelled with decisions: name another image set"),
        ("mine", {"attack": "fmn", "settings": {"steps": 0}}, "protocol 'mine': steps: .*got 0"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(name, told, says):
    with pytest.raises(InputError, match=says) as caught:
        protocol(name, declared(**told))
    assert "\n" not in str(caught.value)


def test_a_declared_name_cannot_hide_an_attack():
    with pytest.raises(InputError, match="there is a protocol of this name: rename yours"):
        protocol("fmn-fast", {"fmn-fast": ProtocolSettings(attack="fmn")})


def test_a_protocol_that_attacks_nothing_has_no_attack():
    with pytest.raises(InputError, match="'predictions' attacks nothing"):
        _ = protocol("predictions").attack
    assert not protocol("predictions").minimum_norm
    assert protocol("fmn-fast").minimum_norm
    assert not any(protocol(name).minimum_norm for name in ("fgsm", "pgd", "autoattack"))
    assert not protocol("feng2025-released").minimum_norm


def test_the_listing_has_a_line_for_each():
    rows = {row["protocol"]: row for row in listed(declared(attack="fmn", settings={"steps": 9}))}
    budgets = {"fmn-100", "linsley2023-published", "linsley2023-sphere"}
    budgets |= {"fmn-fast-fast", "fmn-fast-thorough", *(f"linf-curve-{one}" for one in ("fast", "thorough", "audited"))}
    assert {*names(), "mine", *budgets} == {*rows}
    assert [rows[name]["passes"] for name in ("mine", "fmn", "fmn-fast", "fmn-fast-thorough")] == [9, 1000, 108, 192]
    assert [rows[name]["passes"] for name in ("fgsm", "pgd", "autoattack")] == [1, 21, 7811]
    assert rows["predictions"]["image set"] == "validation"
    assert "human_map" in rows["fmn-fast"]["needs"]
    assert all(row["measures"] and "\n" not in row["measures"] for row in rows.values())
