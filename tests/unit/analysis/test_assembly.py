"""What a model counts as and is compared with: its card's word, the zoo's, and of old summaries the recipe's."""

import pytest

from advalign.analysis.assembly import added_columns, with_added, with_other_norms, zoo_table
from advalign.analysis.standing import baseline_of, group_of
from advalign.analysis.twins import find_twins
from advalign.errors import InputError
from advalign.models.declared import Zoo

ZOO = Zoo(
    architectures={"test_resnet": "cnn", "test_vit": "vit"},
    models={"listed.harmonized": {"group": "harmonized"}, "listed": {"group": "ssl", "big_data": True}},
)


def summary(model="net", recipe="baseline", architecture="test_resnet", **fields):
    return {"model": model, "recipe": recipe, "architecture": architecture, "declared": None} | fields


@pytest.mark.parametrize(
    ("said", "group"),
    [
        ({"recipe": "noisy", "group": "noisy"}, "noisy"),
        ({"recipe": "noisy", "group": "robust"}, "robust"),
        ({"group": "cnn"}, "cnn"),
        ({"group": "vit"}, "cnn"),  # of an architecture the zoo's word holds, which may be newer
        ({"group": "vit", "architecture": "undeclared"}, "vit"),
        ({"group": None}, "cnn"),
        ({"group": None, "architecture": "test_vit"}, "vit"),
        ({"model": "listed", "recipe": "pretrained", "group": "cnn"}, "ssl"),
        ({"recipe": "pretrained", "group": "hybrid", "declared": {"group": "hybrid"}}, "hybrid"),
        ({"recipe": "of-a-lab", "group": "of-a-lab", "declared": {"group": "cnn"}}, "of-a-lab"),
        # names tell nothing
        ({"model": "test_resnet_l2_eps1", "group": "cnn"}, "cnn"),
        ({"model": "test_resnet.harmonized", "recipe": "noisy", "group": "noisy"}, "noisy"),
        # summaries of before
        ({}, "cnn"),
        ({"recipe": "harmonized"}, "harmonized"),
        ({"recipe": "robust"}, "robust"),
        ({"recipe": "combined", "group": None}, "robust"),
        ({"recipe": "pretrained", "declared": {"group": "ssl"}}, "ssl"),
    ],
)
def test_group(said, group):
    assert group_of(summary(**said), ZOO) == group


@pytest.mark.parametrize("said", [{}, {"group": None}])
def test_an_architecture_that_nobody_declared_has_no_group(said):
    with pytest.raises(InputError, match="'undeclared' of net is not declared: add it to"):
        group_of(summary(architecture="undeclared", **said), ZOO)


def test_a_network_of_ones_own_that_nobody_declared_is_in_a_group_of_its_own():
    for architecture in ("python:mynet:small", "torchvision:vgg11"):
        assert group_of(summary(architecture=architecture), ZOO) == "own"


@pytest.mark.parametrize(
    ("said", "baseline"),
    [
        ({"recipe": "noisy", "baseline": "other.harmonized"}, "other.harmonized"),
        ({"recipe": "noisy", "baseline": None}, None),
        ({"recipe": "harmonized", "baseline": "test_resnet.baseline"}, "test_resnet.baseline"),
        ({"baseline": None}, None),
        ({"recipe": "pretrained", "model": "test_resnet.harmonized"}, None),
        # of before
        ({"recipe": "combined"}, "test_resnet.baseline"),
        ({"recipe": "robust", "baseline": None, "architecture": "test_vit"}, "test_vit.baseline"),
        ({"recipe": "baseline"}, None),
    ],
)
def test_baseline(said, baseline):
    assert baseline_of(summary(**said)) == baseline


def test_the_zoo_s_table_says_group_and_baseline_and_twins_follow():
    rest = {"protocol": "fmn-fast", "metrics": {}, "protocol_metrics": [], "flags": []}
    said = [
        summary("test_resnet.baseline", group="cnn", baseline=None),
        summary("any", "noisy", group="noisy", baseline="test_resnet.baseline"),
        summary("listed", "pretrained", group="ssl", baseline=None, declared={"group": "ssl"}),
    ]
    table = zoo_table([one | rest for one in said], ZOO)
    assert table["group"].tolist() == ["cnn", "noisy", "ssl"]
    assert table["big_data"].tolist() == [0, 0, 1]
    assert table.columns[-1] == "baseline"
    assert find_twins(table) == [("test_resnet.baseline", "any")]


def test_another_norm_stands_beside_the_table_s_own():
    def measured(model, **metrics):
        return summary(model, protocol="p", flags=[], metrics=metrics, protocol_metrics=list(metrics))

    l2 = [measured("a", perturbation_tolerance=0.5), measured("b", perturbation_tolerance=0.7)]
    names = ("perturbation_tolerance_linf", "perturbation_tolerance_linf_sem", "adversarial_human_alignment_linf")
    linf = [measured("b", **dict(zip(names, (4.0, 0.1, 0.3), strict=True)), multilabel_accuracy=0.8)]
    own, other = zoo_table(l2, ZOO), zoo_table(linf, ZOO)
    assert (own["norm"].tolist(), other["norm"].tolist()) == (["l2", "l2"], ["linf"])
    assert other[["pt", "pt_sem", "aa", "multilabel_accuracy"]].iloc[0].tolist() == [4.0, 0.1, 0.3, 0.8]
    both = with_other_norms(own, [own, other, other.assign(pt=9.0)]).set_index("model")
    assert [name for name in both if name not in own] == ["pt_linf", "pt_linf_sem", "aa_linf", "aa_linf_sem"]
    assert both["pt"].tolist() == [0.5, 0.7]
    assert both.loc["b", ["pt_linf", "pt_linf_sem", "aa_linf"]].tolist() == [4.0, 0.1, 0.3]
    assert both.loc["a", ["pt_linf", "aa_linf"]].isna().all()
    assert with_other_norms(other, [own])["pt_l2"].tolist() == [0.7]


def test_what_stands_beside_aa_has_columns_where_it_is_measured_and_nowhere_else():
    rest = {"protocol": "fmn-fast", "protocol_metrics": ["perturbation_tolerance"], "flags": [], "group": "cnn"}
    measured = {
        "adversarial_human_alignment_by_image": 0.4, "adversarial_human_alignment_by_image_sem": 0.1,
        "n_below_floor": 3.0, "emd_alignment": 0.2,
    }  # fmt: skip
    without = zoo_table([summary(**rest, metrics={"perturbation_tolerance": 1.0})], ZOO)
    assert without.columns[-1] == "baseline"
    table = zoo_table([summary(**rest, metrics={"perturbation_tolerance": 1.0, **measured})], ZOO)
    beside = ["aa_by_image", "aa_by_image_sem", "n_below_floor", "aa_emd"]
    assert table.columns.tolist() == [*without.columns, *beside]
    assert table[beside].to_numpy().tolist() == [[0.4, 0.1, 3.0, 0.2]]


def test_in_another_norm_it_stands_beside_as_aa_does():
    def table(norm, name):
        ending = "" if norm == "l2" else "_linf"
        metrics = {
            f"perturbation_tolerance{ending}": 1.0,
            f"adversarial_human_alignment_over_floor{ending}": 0.3,
            f"adversarial_human_alignment_over_floor{ending}_sem": 0.1,
        }
        said = {"protocol": name, "protocol_metrics": [*metrics], "metrics": metrics, "flags": [], "group": "cnn"}
        return zoo_table([summary(**said)], ZOO)

    found = with_other_norms(table("l2", "fmn-fast"), [table("linf", "linf-curve")])
    assert found["aa_over_floor_linf"].tolist() == [0.3]
    assert found["aa_over_floor_linf_sem"].tolist() == [0.1]
    assert "aa_by_image_linf" not in found


def measured(protocol, **metrics):
    """A zoo table of two models, of which a protocol measured one."""
    fields = {"protocol": protocol, "flags": [], "group": "cnn", "baseline": None}
    return zoo_table([summary(**fields, metrics=metrics, protocol_metrics=list(metrics))], ZOO)


def test_geometry_and_fit_stand_beside_the_headline():
    headline = measured("fmn-fast", n_valid=5, perturbation_tolerance=1.5)
    geometry = measured("geometry", manifold_capacity=0.1, manifold_radius=1.2, centre_correlation=0.3, n_manifolds=7)
    fits = [
        measured(name, **{"explained_over_ceiling.measured.V4": value, "explained_variance.measured.V4": 0.2})
        for name, value in (("fit-layer2", 0.4), ("fit-layer3", 0.5))
    ]
    assert added_columns(headline) == []
    found = with_added(headline, {"geometry": geometry, "fit-layer2": fits[0], "fit-layer3": fits[1]})
    assert found.loc[0, [*found.columns[len(headline.columns) :]]].to_dict() == {
        "manifold_capacity": 0.1, "manifold_radius": 1.2, "explained.measured.V4": 0.4,
        "fit-layer3.explained.measured.V4": 0.5,
    }  # fmt: skip
    assert found.loc[0, "pt"] == 1.5
