"""The declared zoo and the classes of ImageNet: what the files say is what timm, the papers and the recipes say."""

import csv
import random
from collections import Counter

import pytest
import timm
import torch
import yaml
from timm.data import ImageNetInfo

from advalign.data.classes import read_classes
from advalign.errors import InputError
from advalign.models.declared import GROUPS, Zoo, ZooEntry, read_zoo
from advalign.recipes.harmonized import Harmonized
from advalign.recipes.robust import Robust
from tests.conftest import REPOSITORY

ZOO_FILE = REPOSITORY / "registry" / "zoo.yaml"
IMAGENET_FILE = REPOSITORY / "registry" / "imagenet.yaml"
REFERENCE = REPOSITORY.parent / "shared" / "reference" / "zoo_groups.csv"

DINOV2 = [f"vit_{size}_patch14_dinov2.lvd142m" for size in ("small", "base", "large", "giant")]
STANDARD = {"cnn": 125, "vit": 78, "hybrid": 52, "ssl": 54}

# Feng et al. 2025, Table 1 and the rows of Table 2
HARMONIZED = (
    "resnet18", "resnet34", "resnet50", "resnetv2_50", "resnet101", "resnet152", "vit_tiny_patch16_224",
    "convnext_tiny", "mobilenetv3_small_050",
)  # fmt: skip
ROBUST = ("resnet18", "resnet50", "wide_resnet50_2")
L2 = (0.01, 0.03, 0.05, 0.1, 0.25, 0.5)
LINF = (0.5, 1, 2, 4, 8)  # / 255

# methods, section 1: superclass -> (animate, class indices)
SUPERCLASSES = {
    "dog": (True, {*range(151, 171)}),
    "bird": (True, {*range(7, 25), 87, 88}),
    "reptile": (True, {*range(33, 53)}),
    "carnivore": (True, {*range(269, 281), *range(286, 294)}),
    "insect": (True, {*range(300, 320)}),
    "primate": (True, {*range(365, 385)}),
    "structure": (False, {406, 410, 421, 424, 425, 437, 449, 454, 458, 460, 467, 483, 489, 497, 498, 500, 506, 509,
                          525, 536}),
    "clothing": (False, {399, 400, 411, 433, 439, 445, 451, 452, 457, 459, 474, 496, 515, 518, 529, 552, 560, 568,
                         578, 601}),
    "wheeled vehicle": (False, {407, 408, 428, 436, 444, 468, 511, 547, 555, 561, 565, 569, 573, 586, 603, 609, 612,
                                627, 656, 661}),
    "musical instrument": (False, {401, 402, 420, 432, 486, 494, 513, 541, 546, 558, 566, 577, 579, 593, 594, 641,
                                   642, 683, 684, 687}),
    "food": (False, {*range(930, 933), *range(936, 948), *range(949, 954)}),
    "furniture": (False, {423, 431, 453, 493, 495, 516, 520, 526, 532, 548, 553, 559, 564, 648, 703, 765, 831, 846,
                          857, 861}),
}  # fmt: skip


@pytest.fixture(scope="module")
def zoo():
    return read_zoo(ZOO_FILE)


def timm_name(name, entry):
    return entry.architecture or name


def standard(zoo):
    return {name: entry for name, entry in zoo.models.items() if entry.group in STANDARD}


# registry/zoo.yaml


def test_351_models_in_the_papers_groups(zoo):
    assert Counter(entry.group for entry in zoo.models.values()) == {**STANDARD, "harmonized": 9, "robust": 33}
    assert sum(STANDARD.values()) == 309
    assert set(GROUPS) == {*STANDARD, "harmonized", "robust"}


def test_no_name_stands_twice_in_the_file():
    """YAML keeps the last of two keys, so the lines are counted."""
    lines = ZOO_FILE.read_text().split("\nmodels:\n")[1].splitlines()
    names = [line.split(": {")[0].strip().rstrip(":") for line in lines if line[:2] == "  " and line[2] not in " #"]
    assert len(names) == len(set(names)) == 351


def test_every_architecture_is_one_of_timms_with_that_tag(zoo):
    published = set(timm.list_models(pretrained=True))
    for name, entry in standard(zoo).items():
        assert timm_name(name, entry) in published
        assert "." in timm_name(name, entry)
    for name, entry in zoo.models.items():
        assert timm.is_model(timm_name(name, entry)), name


def test_every_published_head_has_1000_classes_but_dinov2s_which_have_none(zoo):
    heads = {
        name: timm.get_pretrained_cfg(timm_name(name, entry), allow_unregistered=False).num_classes
        for name, entry in zoo.models.items()
    }
    assert sorted(name for name, classes in heads.items() if classes == 0) == sorted(DINOV2)
    assert {classes for name, classes in heads.items() if name not in DINOV2} == {1000}


def test_licenses_are_timms(zoo):
    for name, entry in standard(zoo).items():
        assert entry.license == timm.get_pretrained_cfg(timm_name(name, entry)).license, name


def test_parameters_are_what_the_networks_count(zoo):
    """With a head of 1000 classes, which DINOv2's have no weights for."""
    chosen = random.Random(7).sample(sorted(zoo.models), 12)
    for name in [*chosen, DINOV2[0], "resnet18.harmonized", "wide_resnet50_2_linf_eps4_255"]:
        entry = zoo.models[name]
        with torch.device("meta"):
            network = timm.create_model(timm_name(name, entry), num_classes=1000)
        count = sum(parameter.numel() for parameter in network.parameters()) / 1e6
        assert abs(entry.parameters - count) <= 0.0501, (name, count)  # stated to 0.1


def test_every_entry_says_its_parameters_and_its_license_where_timm_does(zoo):
    assert all(entry.parameters for entry in zoo.models.values())
    unknown = [name for name, entry in zoo.models.items() if entry.license == "unknown"]
    assert {timm.get_pretrained_cfg(name).license for name in unknown} == {"unknown"}
    assert {name.split("_")[0] for name in unknown} == {"res2net50"}


def test_harmonized_names_are_those_that_the_recipe_publishes(zoo):
    recipe = Harmonized(Harmonized.Settings())
    found = {name: entry.architecture for name, entry in zoo.models.items() if entry.group == "harmonized"}
    assert found == {recipe.published_name(architecture): architecture for architecture in HARMONIZED}


def test_robust_names_are_those_that_the_recipe_publishes(zoo):
    balls = [{"constraint": "l2", "eps": eps} for eps in L2]
    balls += [{"constraint": "linf", "eps": eps / 255} for eps in LINF]
    found = {name: entry.architecture for name, entry in zoo.models.items() if entry.group == "robust"}
    assert found == {
        Robust(Robust.Settings(**ball)).published_name(architecture): architecture
        for architecture in ROBUST
        for ball in balls
    }


def test_robust_models_are_preprocessed_as_the_robustness_package_does(zoo):
    for entry in zoo.models.values():
        if entry.group == "robust":
            assert entry.preprocessing == {
                "input_size": 224, "interpolation": "bilinear", "crop": 0.875,
                "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
            }  # fmt: skip
        else:
            assert entry.preprocessing == {}


def test_weights_come_from_the_hub_or_from_the_folder_of_what_has_no_hub(zoo):
    for name, entry in zoo.models.items():
        assert zoo.weights_of(name) == ("weights" if entry.group in ("harmonized", "robust") else "hub"), name


@pytest.mark.skipif(not REFERENCE.is_file(), reason="the reference tables are not here")
def test_groups_and_big_data_are_those_of_the_reference_row_by_row(zoo):
    with REFERENCE.open() as file:
        rows = [row for row in csv.DictReader(file) if row["group"] in STANDARD]
    expected = {row["model"]: (row["group"], bool(int(row["big_data"]))) for row in rows}
    assert len(rows) == len(expected) == 309
    assert {name: (entry.group, entry.big_data) for name, entry in standard(zoo).items()} == expected


@pytest.mark.parametrize(
    ("architecture", "group"),
    [
        ("resnet18", "cnn"),
        ("resnet18.a1_in1k", "cnn"),
        ("test_resnet", "cnn"),
        ("test_efficientnet", "cnn"),
        ("vit_base_patch16_224", "vit"),
        ("vit_tiny_patch16_224", "vit"),
        ("vit_small_patch14_dinov2", None),
        ("nothing_of_the_kind", None),
    ],
)
def test_the_group_of_what_is_trained_here_is_that_of_its_supervised_namesakes(zoo, architecture, group):
    assert zoo.standard_group(architecture) == group


def test_self_supervised_namesakes_do_not_blur_the_group():
    entry = {"group": "vit"}
    zoo = Zoo(models={"v.supervised": entry, "v.dino": {"group": "ssl"}, "v.harmonized": {"group": "harmonized"}})
    assert zoo.standard_group("v") == "vit"
    torn = Zoo(models={"v.a": entry, "v.b": {"group": "cnn"}})
    assert torn.standard_group("v") is None
    assert Zoo(models={"v.a": entry}, architectures={"v": "hybrid"}).standard_group("v") == "hybrid"


# reading another one


def write(folder, text):
    file = folder / "zoo.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("models:\n  a: {group: cnn, licence: mit}\n", "unknown key 'licence'; did you mean 'license'"),
        ("model:\n  a: {group: cnn}\n", "unknown key 'model'; did you mean 'models'"),
        ("models:\n  a: {group: cnnn}\n", "models.a.group: .*'cnnn'"),
        ("architectures: {a: resnet}\n", "architectures.a: .*'resnet'"),
        ("models:\n  a: {license: mit}\n", "models.a.group: field required"),
        ("models:\n  a:\n", "models.a"),
        ("models:\n  a: {group: cnn, parameters: many}\n", "models.a.parameters: .*'many'"),
        ("models:\n  a: {group: cnn, big_data: perhaps}\n", "models.a.big_data: .*'perhaps'"),
        ("models:\n  a: {group: cnn, arguments: [1]}\n", "models.a.arguments"),
        ("models: [a, b]\n", "models: "),
        ("weights: hub\n", "weights: "),
        ("models: {a: {group: cnn\n", "not valid YAML"),
        ("\tmodels: 1\n", "not valid YAML"),
        (b"models: \xff\xfe\n", "not valid YAML"),
        ("", "dictionary"),
        ("just a word\n", "dictionary"),
        ("models:\n  a: !!python/object/apply:os.getcwd []\n", "not valid YAML"),
    ],
)
def test_a_zoo_that_is_none_is_refused_in_one_line_that_names_the_file(text, says, tmp_path):
    file = write(tmp_path, text)
    with pytest.raises(InputError, match=says) as caught:
        read_zoo(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_name_given_twice_is_refused(tmp_path):
    file = write(tmp_path, "models:\n  a: {group: cnn}\n  b: {group: cnn}\n  a: {group: vit}\n")
    with pytest.raises(InputError, match=r"'a' is given twice.*line 4") as caught:
        read_zoo(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_zoo_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.yaml is missing"):
        read_zoo(tmp_path / "nowhere.yaml")


def test_what_stands_in_the_file_is_what_is_read(tmp_path):
    entry = {"group": "ssl", "big_data": True, "license": "mit", "parameters": 22.4,
             "architecture": "vit", "arguments": {"depth": 3}, "preprocessing": {"crop": 0.9},
             "weights": "w/{name}.pth", "head": "h.pth"}  # fmt: skip
    zoo = read_zoo(write(tmp_path, yaml.safe_dump({"models": {"a": entry, "b": {"group": "cnn"}}})))
    assert zoo.models["a"].model_dump() == entry
    assert zoo.models["b"] == ZooEntry(group="cnn")
    assert (zoo.models["b"].big_data, zoo.models["b"].license) == (False, "unknown")


# selecting, and where weights come from


SMALL = Zoo(
    weights={"*_eps4*": "first/{name}.pth", "*_eps*": "second", "*.mine": "models:/{name}@champion"},
    models={
        "z.in1k": {"group": "cnn"},
        "a_eps4": {"group": "robust"},
        "a_eps8": {"group": "robust"},
        "b_eps4": {"group": "robust", "weights": "own/{name}/{name}.ckpt"},
        "c.mine": {"group": "harmonized"},
    },
)


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        ([], ["z.in1k", "a_eps4", "a_eps8", "b_eps4", "c.mine"]),
        (["c.mine", "z.in1k"], ["z.in1k", "c.mine"]),
        (["*_eps4", "a_*"], ["a_eps4", "a_eps8", "b_eps4"]),
        (["[ab]_eps8"], ["a_eps8"]),
        (["a_eps?", "a_eps4"], ["a_eps4", "a_eps8"]),
    ],
)
def test_patterns_select_each_name_once_in_the_zoos_order(patterns, names):
    assert SMALL.select(patterns) == names


@pytest.mark.parametrize(
    ("patterns", "says"),
    [
        (["a_eps5"], "unknown zoo model 'a_eps5'; did you mean .*'a_eps4'.*advalign zoo list"),
        (["*_eps4", "nothing*"], "'nothing\\*'"),
        (["A_EPS4"], "'A_EPS4'"),
    ],
)
def test_a_pattern_that_matches_nothing_is_refused_even_beside_others(patterns, says):
    with pytest.raises(InputError, match=says):
        SMALL.select(patterns)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("z.in1k", "hub"),  # no pattern
        ("a_eps4", "first/a_eps4.pth"),  # the first of two
        ("a_eps8", "second"),
        ("b_eps4", "own/b_eps4/b_eps4.ckpt"),  # its own word
        ("c.mine", "models:/c.mine@champion"),
    ],
)
def test_weights_come_from_the_entrys_own_word_then_the_first_pattern_then_the_hub(name, place):
    assert SMALL.weights_of(name) == place


# registry/imagenet.yaml


@pytest.fixture(scope="module")
def imagenet():
    return read_classes(IMAGENET_FILE)


def test_the_1000_wnids_are_in_timms_order(imagenet):
    assert [entry.wnid for entry in imagenet.entries] == ImageNetInfo().label_names()
    assert [entry.index for entry in imagenet.entries] == list(range(1000))
    wnids = [entry.wnid for entry in imagenet.entries]
    assert wnids == sorted(wnids)
    assert len(set(wnids)) == 1000


def test_names_are_wordnets_first_lemma_and_unique(imagenet):
    names = [entry.name for entry in imagenet.entries]
    assert len(set(names)) == 1000
    assert all(name == name.strip() and name for name in names)
    info = ImageNetInfo()
    for index in (0, 1, 151, 397, 398, 723, 999):
        assert imagenet[index].name.split(" (")[0] in info.index_to_description(index)


def test_superclasses_are_those_of_the_methods(imagenet):
    found = {name: set() for name in SUPERCLASSES}
    for entry in imagenet.entries:
        if entry.superclass is not None:
            found[entry.superclass].add(entry.index)
    assert found == {name: indices for name, (_, indices) in SUPERCLASSES.items()}
    assert {len(indices) for indices in found.values()} == {20}


def test_classes_0_to_397_are_animate(imagenet):
    assert [entry.animate for entry in imagenet.entries] == [True] * 398 + [False] * 602
    for animate, indices in SUPERCLASSES.values():
        assert {imagenet[index].animate for index in indices} == {animate}
