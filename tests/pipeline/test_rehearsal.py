"""From nothing to a comparison on real formats, by the command line: import, freeze, validate, evaluate, compare."""

import csv
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from advalign.data.classes import read_classes
from advalign.data.sets.stimuli import load_stimuli
from advalign.files import Project
from advalign.models.classifier import Classifier, Preprocessing
from advalign.models.zoo import create_classifier, evaluation_transform
from tests.foreign import encoded, example, raw, shard
from tests.pipeline.conftest import OURS, REPOSITORY, change_params, program
from tests.pipeline.stages import run_module
from tests.team.processes import Process

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("pipeline")]

REFERENCE = REPOSITORY.parent / "shared/reference"
SEED = 11
SIDE = 64
PREPROCESSING = {
    "input_size": SIDE,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
    "crop": 1.0,
    "interpolation": "bilinear",
}
ZOO = {
    "models": {
        "small_net": {"group": "cnn", "architecture": "test_resnet", "preprocessing": PREPROCESSING},
        "small_net_l2_eps1": {
            "group": "robust",
            "architecture": "test_resnet",
            "preprocessing": PREPROCESSING,
            "weights": "weights/{name}.ckpt",
        },
        "lost_net": {"group": "vit", "architecture": "test_vit", "weights": "weights/lost.safetensors"},
        "wrong_net": {"group": "cnn", "architecture": "test_efficientnet", "weights": "weights/small_net.safetensors"},
    },
    "weights": {"*": "weights"},
    "architectures": {},
}


def advalign(root, *words, code=0):
    done = program(root, *map(str, words))
    assert done.returncode == code, done.stdout + done.stderr
    return done


def picture(label, number):
    """A smooth picture and a blob, both random, of (256, 256[, 3])."""
    rng = np.random.default_rng([label, number])
    coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)).resize(
        (256, 256), Image.Resampling.BICUBIC
    )
    rows, columns = np.mgrid[:256, :256] - rng.integers(60, 196, (2, 1, 1))
    return np.asarray(coarse), np.exp(-(rows**2 + columns**2) / (2 * 45.0**2)).astype(np.float32)


def small_state(seed):
    """The state of a network of 1000 classes."""
    return create_classifier("test_resnet", 1000, SIDE, seed=seed).network.state_dict()


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """experiments/imagenet of a project, without data, and a lab's own copies beside it."""
    home, own = tmp_path_factory.mktemp("lab") / "project", tmp_path_factory.mktemp("own")
    root = shutil.copytree(REPOSITORY / "experiments" / "imagenet", home / "experiments" / "imagenet")
    (home / "registry").mkdir()
    shutil.copy(REPOSITORY / "registry" / "imagenet.yaml", home / "registry")
    (home / "registry" / "zoo.yaml").write_text(yaml.safe_dump(ZOO))
    change_params(root, "stimuli", size=SIDE, categories_per_superclass=2, images_per_category=1)
    change_params(root, "evaluate", protocol="fmn-5", also=[], shard_size=12, gallery=3)
    change_params(root, "compare", bootstrap=200)
    chosen = _chosen_classes(home)
    tests = [
        raw(image.astype(np.float32), heatmap, label, click_count=7) for label, image, heatmap in _pictures(chosen, 0)
    ]
    shard(own / "clickme_test.tfrecords", *tests)
    small = [(label, image[16:240, 16:240], heatmap[16:240, 16:240]) for label, image, heatmap in _pictures(chosen, 1)]
    shard(
        own / "val-00000.tfrecords", *[raw(image.astype(np.float32), heatmap, label) for label, image, heatmap in small]
    )
    trained = [
        example(image=encoded(image), heatmap=encoded((heatmap * 255).astype(np.uint8)), label=label)
        for label, image, heatmap in _pictures(chosen, 2)
    ]
    shard(own / "clickme_train.tfrecords", *trained)
    (own / "samples").mkdir()
    for label, image, heatmap in _pictures(chosen[:3], 3):
        content = {
            "image": torch.tensor(image),
            "heatmap": torch.tensor((heatmap * 255).astype(np.uint8)),
            "label": label,
        }
        torch.save(content, own / "samples" / f"{label}.pth")
    (home / "weights").mkdir()
    save_file(small_state(1), home / "weights" / "small_net.safetensors")
    robust = {f"module.model.{name}": value for name, value in small_state(2).items()}
    torch.save({"model": robust, "epoch": 3}, home / "weights" / "small_net_l2_eps1.ckpt")
    return root, own


def _chosen_classes(home):
    """The first two classes of every superclass."""
    members = {}
    for entry in read_classes(home / "registry" / "imagenet.yaml").entries:
        members.setdefault(entry.superclass, []).append(entry.index)
    return [index for name, indices in members.items() if name for index in indices[:2]]


def _pictures(labels, number):
    return [(label, *picture(label, number)) for label in labels]


def judged_by_us(own, names):
    """The CSV export's columns, for some images."""
    rows = [
        {
            "id": name,
            "original_label": label,
            "proposed_labels": f"{label}, 3",
            "unclear_multi_labels": "5",
            "wrong_multi_labels": "",
            "is_problematic": str(number == 0),
        }
        for number, (name, label) in enumerate(names.items())
    ]
    path = own / "export.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def own_validation(own, names):
    """ImageNet-like JPEGs of other sizes, with a Caffe list."""
    folder = own / "val"
    folder.mkdir(exist_ok=True)
    for number, (name, label) in enumerate(names.items()):
        image = Image.fromarray(picture(label, 100 + number)[0]).resize((300, 200))
        image.convert("L" if number == 1 else "RGB").save(folder / name, quality=90)
    (own / "val.txt").write_text("".join(f"{name} {label}\n" for name, label in names.items()))
    return folder


@pytest.fixture(scope="module")
def imported(lab):
    """The project with its data brought in."""
    root, own = lab
    names = {f"ILSVRC2012_val_{number:08d}.JPEG": 13 * number for number in range(1, 21)}
    told = advalign(root, "data", "import", "clickme", own / "val-00000.tfrecords", code=2)
    assert "advalign data import classes" in told.stderr
    advalign(root, "data", "import", "classes")
    advalign(root, "data", "import", "clickme", own, "--workers", 1)
    advalign(root, "data", "import", "clickme", own / "samples", "--split", "train", "--workers", 1)
    advalign(
        root, "data", "import", "imagenet", own_validation(own, names), "--labels", own / "val.txt", "--workers", 1
    )
    advalign(root, "data", "import", "multilabel", judged_by_us(own, names))
    frozen = Process(root, dict(OURS), run_module, "-m", "pipelines.stimuli")
    assert frozen.wait() == 0, frozen.errors()
    return root, names


def test_stimuli_are_the_raw_pixels_brought_into_the_attack_space(imported):
    root, _ = imported
    stimuli = load_stimuli(Project(root))
    assert len(stimuli) == 24
    for position, row in enumerate(stimuli.manifest.itertuples()):
        image, heatmap = picture(row.class_index, 0)
        small = Image.fromarray(image).resize((73, 73), Image.Resampling.BICUBIC)  # 64 / 0.875
        expected = np.asarray(small)[4:68, 4:68]
        assert np.array_equal(stimuli.pixels[position].permute(1, 2, 0).numpy(), expected)
        grey = Image.fromarray(np.rint((heatmap - heatmap.min()) / np.ptp(heatmap) * 255).astype(np.uint8))
        found = stimuli.map_pixels[position].float().numpy()
        assert np.abs(found - np.asarray(grey.resize((73, 73), Image.Resampling.BICUBIC))[4:68, 4:68]).max() <= 1


def test_the_zoo_is_evaluated_and_what_cannot_be_is_recorded(imported):
    root, names = imported
    assert json.loads(advalign(root, "data", "validate", "--json").stdout)["success"] == 1
    done = advalign(root, "evaluate", "--zoo", "../../registry/zoo.yaml", "--workers", 1, "--json", code=1)
    assert "2 of 4 models failed" in done.stderr
    rows = {row["model"]: row for row in json.loads(done.stdout)}
    assert [rows[name]["state"] for name in ZOO["models"]] == ["evaluated", "evaluated", "failed", "failed"]
    assert "lost.safetensors is missing" in rows["lost_net"]["error"]
    assert "of another architecture" in rows["wrong_net"]["error"]

    classifier = Classifier(
        create_classifier("test_resnet", 1000, SIDE, seed=2).network, Preprocessing(**PREPROCESSING)
    )
    transform = evaluation_transform(classifier.preprocessing)
    folder = root / "data" / "imagenet" / "val"
    pixels = torch.stack([transform(Image.open(folder / name).convert("RGB")) for name in names])
    with torch.no_grad():
        logits = classifier.eval()(pixels)
    found = pd.read_parquet(root / "outputs" / "evaluations" / "predictions" / "small_net_l2_eps1.parquet")
    chosen = logits.gather(1, torch.tensor(found["prediction"].to_numpy())[:, None])[:, 0]
    assert (logits.amax(1) - chosen).max() < 1e-4 * logits.std()  # nearly equal logits may swap with the layout
    assert (logits.argmax(1) == torch.tensor(found["prediction"].to_numpy())).double().mean() >= 0.9
    assert found["label"].tolist() == list(names.values())

    listed = {row["model"]: row for row in json.loads(advalign(root, "zoo", "list", "--json").stdout)}
    assert listed["small_net"]["evaluated"] == ["fmn-5"]
    assert listed["lost_net"]["failed"] == ["fmn-5"]
    kept = advalign(root, "evaluate", "small_net*", "--workers", 1, "--json")
    assert {row["state"] for row in json.loads(kept.stdout)} == {"kept"}


def test_the_comparison_knows_groups_from_the_zoo(imported):
    root, _ = imported
    advalign(root, "evaluate", "small_net*", "--workers", 1)
    advalign(root, "compare")
    table = pd.read_csv(root / "outputs" / "comparison" / "zoo.csv").set_index("model")
    assert table["group"].to_dict() == {"small_net": "cnn", "small_net_l2_eps1": "robust"}
    assert table["recipe"].to_dict() == {"small_net": "pretrained", "small_net_l2_eps1": "robust"}
    rows = pd.read_parquet(root / "outputs" / "evaluations" / "fmn-5" / "small_net.parquet")
    assert table.loc["small_net", "n_valid"] == (rows["status"] == "ok").sum()


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="needs ../shared/reference: real multi-label sets")
@pytest.mark.parametrize("file", ["multilabel_export.csv", "multilabel_shankar_excerpt.json"])
def test_real_multilabel_sets_are_read_and_scored(imported, tmp_path, file):
    """The first images that the real file judges, with drawn pictures under their names."""
    home = shutil.copytree(imported[0].parents[1], tmp_path / "project")
    root = home / "experiments" / "imagenet"
    path = REFERENCE / file
    if file.endswith("csv"):
        table = pd.read_csv(path, dtype={"proposed_labels": str, "wrong_multi_labels": str}).set_index("id")
        both = [
            bool(set(str(right).split(", ")) & set(str(wrong).split(", ")) - {"nan"})
            for right, wrong in zip(table["proposed_labels"], table["wrong_multi_labels"], strict=True)
        ]
        assert sum(both) == 358  # a class called correct and wrong: the import settles it, or validation would stop
        original = pd.concat([table.head(12), table[both].head(3)])["original_label"].to_dict()
    else:
        original = dict.fromkeys(list(json.loads(path.read_text())["initial_annots"]), 65)
    shutil.rmtree(root / "data/imagenet")
    shutil.rmtree(root / "outputs/evaluations")
    advalign(root, "data", "import", "imagenet", own_validation(tmp_path, original), "--labels", tmp_path / "val.txt")
    done = advalign(root, "data", "import", "multilabel", path, "--json")
    counts = json.loads(done.stdout)
    assert counts["images"] == len(original)
    assert counts["judged"] == counts["without_file"] + len(original)
    assert counts["judged"] == (20_000 if file.endswith("csv") else len(json.loads(path.read_text())["initial_annots"]))
    assert json.loads(advalign(root, "data", "validate", "--json").stdout)["success"] == 1
    advalign(root, "evaluate", "small_net", "--workers", 1)
    found = pd.read_parquet(root / "outputs" / "evaluations" / "predictions" / "small_net.parquet")
    assert found["label"].tolist() == [original[name] for name in sorted(original)]
    assert any(len(labels) for labels in found["correct"])
