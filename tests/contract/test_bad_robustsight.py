"""Bad input of the second half of RobustSight, at the command line: one line with the fix, and nothing half-written.

What params.yaml or the data make impossible is refused (exit 2). What only one model cannot do is recorded as that
model's failure (exit 1), since the others of a zoo are finished.
"""

import re
import shutil
import sys
from contextlib import chdir
from copy import deepcopy
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from advalign.cli.main import run
from advalign.data.cifar import COLUMNS, png
from advalign.data.sample.cifar_world import WorldSettings, generate_world
from advalign.evaluation import tasks
from advalign.files import Project
from advalign.models.zoo import create_classifier
from tests.conftest import REPOSITORY, edit_card, save_untrained, write_cifar_c

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("bad-robustsight")]
PROGRESS = re.compile(r"(evaluating|training) .*: \d+/\d+ \(|the images have no object masks|\d+ masks are from")
MODELS = {
    "wide": ("test_resnet", {"output_stride": 8}),
    "narrow": ("test_resnet", {}),
    "vit": ("test_vit", {}),
    "vit_without": ("test_vit", {"class_token": False, "global_pool": "avg"}),
}
CIFAR_C = "official"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The drawn 32x32 world at its smallest, and untrained networks; each test writes its own params.yaml."""
    project = Project(tmp_path_factory.mktemp("bad") / "project")
    generate_world(project.data, WorldSettings(scale=0.01))
    (project.root / "registry").mkdir()
    shutil.copy(REPOSITORY / "registry" / "zoo.yaml", project.root / "registry")
    (project.root / "dvc.yaml").write_text("stages: {}\n")
    for name, (architecture, arguments) in MODELS.items():
        save_untrained(project, name, create_classifier(architecture, 10, 32, arguments=arguments, seed=0))
        edit_card(project.checkpoints / name, architecture=architecture, arguments=arguments)
    return project


def bad_protocols():
    """Kind -> (declared protocol, model, exit code, what is told)."""
    for name, settings, *told in [
        ("sigma 0", {"sigma": 0}, "sigma: input should be greater than 0, got 0"),
        ("sigma below 0", {"sigma": -0.25}, "sigma", "greater than 0", "-0.25"),
        ("sigma in words", {"sigma": "big"}, "sigma: input should be a valid number", "'big'"),
        ("n below n0", {"n": 50}, "protocol 'bad': n is 50, less than n0, 100: give n more votes"),
        ("n0 0", {"n0": 0}, "n0: input should be greater than or equal to 1, got 0"),
        ("n a fraction", {"n": 100.5}, "n: input should be a valid integer", "100.5"),
        ("alpha 0", {"alpha": 0}, "alpha: input should be greater than 0, got 0"),
        ("alpha 1", {"alpha": 1}, "alpha: input should be less than 1, got 1"),
        ("no radii", {"radii": []}, "radii: list should have at least 1 item", "got []"),
        ("a radius below 0", {"radii": [-0.25]}, "radii: expected different radii above 0, such as [0.25, 0.5]"),
        ("a radius twice", {"radii": [0.25, 0.25]}, "radii: expected different radii above 0", "got [0.25, 0.25]"),
        ("radii not listed", {"radii": "0.25"}, "radii: input should be a valid list, got '0.25'"),
        ("unknown key", {"sigmma": 1}, "unknown key 'sigmma'; did you mean 'sigma'?"),
    ]:
        yield (
            f"smoothing: {name}",
            ({"probe": "smoothing", "image_set": "cifar", "settings": settings}, "wide", 2, told),
        )
    for name, settings, model, code, *told in [
        ("unknown method", {"method": "gradcam"}, "wide", 2, "method", "'grad-cam', 'rollout' or 'input-gradient'"),
        ("unknown layer", {"layer": "layer9"}, "wide", 1, "ResNet has no layer 'layer9': it has conv1, bn1"),
        ("layer without a map", {"layer": "fc"}, "wide", 1, "ends without one at 'fc'", "input-gradient"),
        ("rollout on a convnet", {"method": "rollout"}, "wide", 1, "needs a vision transformer", "use grad-cam"),
        ("rollout without class token", {"method": "rollout"}, "vit_without", 1, "class token", "use input-gradient"),
        ("rollout of a layer", {"method": "rollout", "layer": "blocks"}, "vit", 1, "leave layer out, got 'blocks'"),
        ("Grad-CAM of tokens", {}, "vit", 1, "VisionTransformer ends without one: use rollout"),
        ("a map of one position", {}, "narrow", 1, "is 1x1 at this input size", "output_stride 8"),
    ]:
        yield f"saliency: {name}", ({"probe": "saliency", "settings": settings}, model, code, told)
    for name, probe, image_set, *told in [
        ("saliency without masks or maps", "saliency", "validation", "needs mask or human_map", "name another image"),
        ("shortcut without originals", "shortcut", "cifar", "needs original", "name another image set"),
        ("corruptions of stimuli", "corruptions", "stimuli", "needs corrupted", "name another image set"),
        ("official arrays that are not there", "corruptions", "cifar-c", "`advalign data import cifar-c FOLDER` bri"),
        ("unknown set", "saliency", "cifr", "unknown image set 'cifr'; did you mean 'cifar'"),
    ]:
        yield f"sets: {name}", ({"probe": probe, "image_set": image_set}, "wide", 2, told)


def bad_trainings():
    """Kind -> (recipe, its settings, settings of all recipes, model, what is told)."""
    small, layer = {"batch_size": 8}, {"layer": "layer2"}
    for name, recipe, settings, train, model, *told in [
        ("masks of mine", "aligned", {"masks": "mine"}, small, "test_resnet", "'own', 'shuffled' or 'centre', got 'mi"),
        ("beta below 0", "aligned", {"beta": -0.1}, small, "test_resnet", "beta", "greater than or equal to 0", "-0.1"),
        ("noise of sigma 0", "noise", {"sigma": 0}, small, "test_resnet", "recipe 'noise': sigma", "greater than 0"),
        ("rollout of a ResNet", "aligned", {"explanation": "rollout"}, small, "test_resnet", "use grad-cam"),
        ("unknown layer", "aligned", {"layer": "layer9"}, small, "test_resnet", "has no layer 'layer9': it has conv1"),
        ("a map of one position", "aligned", {}, small, "test_resnet", "1x1 at this input size", "output_stride 8"),
        ("shuffled masks of one image", "aligned", {"masks": "shuffled", "explanation": "rollout"},
         {"batch_size": 2, "accumulate": 2}, "test_vit", "a part of a batch has 1, expected 2 or more: raise train.ba"),
        ("batch norm of one image", "aligned", layer, {"batch_size": 1}, "test_resnet",
         "test_resnet normalises over the batch", "expected 2 or more: raise train.batch_size"),
    ]:  # fmt: skip
        yield name, (recipe, settings, train, model, told)


def no_masks(frame):
    frame["mask"], frame["mask_source"] = None, None


def masked(pixels):
    def change(frame):
        frame.at[3, "mask"] = png(pixels)

    return change


def other_order(frame):
    frame["index"] = frame["index"].to_numpy()[::-1]


def resaved(name, change):
    return lambda folder: np.save(folder / name, change(np.load(folder / name)))


def cut(folder):
    (folder / "fog.npy").write_bytes((folder / "fog.npy").read_bytes()[:-1000])


ROW, DRAW = "row 3: mask", "draw both with `advalign data sample --world cifar`"
IMAGES = {
    "a mask of another size": ("test", "saliency", masked(np.full((28, 28), 255, np.uint8)), 1,
                               (ROW, "is L of 28x28, expected L of 32x32: convert it")),
    "an empty mask": ("test", "saliency", masked(np.zeros((32, 32), np.uint8)), 1, ("is empty", "import the images")),
    "a grey mask": ("test", "saliency", masked(np.full((32, 32), 7, np.uint8)), 1, (ROW, "expected 0 and 255 only")),
    "swapped images of another order": ("swapped", "shortcut", other_order, 2, ("must agree in each row", DRAW)),
}  # fmt: skip
ARRAYS = {
    "severities are missing": (resaved("fog.npy", lambda one: one[:120]), ("which is 3 severities of 5, expected",)),
    "an image is missing": (resaved("fog.npy", lambda one: one[:-1]), ("199 images, expected 200",)),
    "another type": (resaved("fog.npy", lambda one: one.astype(np.float32)), ("float32", "expected uint8 (200, 32",)),
    "another shape": (resaved("fog.npy", lambda one: one.transpose(0, 3, 1, 2)), ("(200, 3, 32, 32), expected uint8",)),
    "an array is missing": (lambda folder: (folder / "fog.npy").unlink(), ("fog.npy is not in it, expected 19",)),
    "labels of another order": (resaved("labels.npy", lambda one: one[::-1]), ("are not 5 times the 40 labels",)),
    "cut short": (cut, ("fog.npy is no array of numpy",)),
}  # fmt: skip


def ask(project, capfd, words, **changes):
    """Run the command with params.yaml changed: exit code, the line of the error, and files that are new."""
    params = yaml.safe_load((REPOSITORY / "experiments" / "robustsight" / "params.yaml").read_text())
    evaluate = {"protocol": "accuracy", "also": [], "companions": changes.pop("companions", []), "gallery": 0}
    evaluate["protocols"] = {"accuracy": {"probe": "predictions", "image_set": "cifar"}, **changes.pop("protocols", {})}
    params |= {"trainings": {}, "recipes": changes.pop("recipes", {"baseline": {}}), "evaluate": evaluate}
    params["train"] |= {"epochs": 1, **changes.pop("train", {})}
    (project.root / "params.yaml").write_text(yaml.safe_dump(deepcopy(params)))
    tasks._image_set.cache_clear()  # a command is a process of its own
    before = {path for path in project.root.rglob("*") if ".lock" not in path.name and "digests" not in path.name}
    capfd.readouterr()
    argv = patch.object(sys, "argv", ["advalign", *map(str, words)])
    with chdir(project.root), argv, pytest.MonkeyPatch.context() as environment, pytest.raises(SystemExit) as ended:
        environment.delenv("MLFLOW_TRACKING_URI", raising=False)
        run()
    told = capfd.readouterr()
    lines = [line for line in told.err.splitlines() if not PROGRESS.match(line)]
    assert len(lines) == 1, lines
    assert lines[0].startswith("advalign: error: ")
    after = {path for path in project.root.rglob("*") if ".lock" not in path.name and "digests" not in path.name}
    return ended.value.code, lines[0], {path.relative_to(project.root).as_posix() for path in after - before}


def check(code, line, new, wanted, told, model=""):
    assert code == wanted, line
    for fragment in told:
        assert fragment in line
    left = {path for path in new if "failed" not in path and not path.startswith(("mlflow.db", "mlartifacts"))}
    assert not {path for path in left if path.endswith((".parquet", ".json", ".safetensors", ".npy", ".csv"))}
    assert (f"outputs/evaluations/bad/failed/{model}.json" in new) or wanted == 2


@pytest.mark.parametrize("name", dict(bad_protocols()))
def test_a_protocol_that_cannot_be(name, project, capfd):
    declared, model, wanted, told = dict(bad_protocols())[name]
    shutil.rmtree(project.evaluations, ignore_errors=True)
    words = ["evaluate", model, "--protocol", "bad", "--workers", 1]
    check(*ask(project, capfd, words, protocols={"bad": declared}), wanted, told, model)


def test_certificates_beside_an_attack_on_linf(project, capfd):
    declared = {
        "bad": {"attack": "pgd", "image_set": "cifar", "settings": {"norm": "linf", "eps": "8/255"}},
        "votes": {"probe": "smoothing", "image_set": "cifar"},
    }
    found = ask(project, capfd, ["evaluate", "wide", "--protocol", "bad"], protocols=declared, companions=["votes"])
    check(*found, 2, ("measures in linf, 'votes' beside it in l2", "take votes out of evaluate.companions"))


def test_a_protocol_on_stimuli_where_no_stage_makes_them(project, capfd):
    found = ask(project, capfd, ["evaluate", "wide", "--protocol", "fmn-fast"])
    check(*found, 2, ("outputs/stimuli is missing, and no stage of this experiment makes it: name a protocol on",))
    assert "dvc repro" not in found[1]


@pytest.mark.parametrize("name", dict(bad_trainings()))
def test_a_training_that_cannot_be(name, project, capfd):
    recipe, settings, train, model, told = dict(bad_trainings())[name]
    found = ask(project, capfd, ["train", recipe, "--model", model], recipes={recipe: settings}, train=train)
    check(*found, 2, told)


def changed(path, change):
    """Write a split again with a change; its bytes before."""
    good = path.read_bytes()
    frame = pq.read_table(path).to_pandas()
    change(frame)
    table = pa.Table.from_pandas(frame, schema=COLUMNS, preserve_index=False).replace_schema_metadata(None)
    pq.write_table(table, path, compression="none")
    return good


def test_alignment_without_masks(project, capfd):
    path = project.data / "cifar" / "train.parquet"
    good = changed(path, no_masks)
    found = ask(project, capfd, ["train", "aligned"], recipes={"aligned": {}}, train={"batch_size": 8})
    path.write_bytes(good)
    check(*found, 2, ("recipe 'aligned' needs human maps", "train.parquet has no object masks"))


@pytest.mark.parametrize("name", IMAGES)
def test_images_that_cannot_be(name, project, capfd):
    split, probe, change, wanted, told = IMAGES[name]
    path = project.data / "cifar" / f"{split}.parquet"
    shutil.rmtree(project.evaluations, ignore_errors=True)
    good = changed(path, change)
    words = ["evaluate", "wide", "--protocol", "bad", "--workers", 1]
    found = ask(project, capfd, words, protocols={"bad": {"probe": probe}})
    path.write_bytes(good)
    check(*found, wanted, told, "wide")


@pytest.mark.parametrize("name", ARRAYS)
def test_official_arrays_that_cannot_be(name, project, tmp_path, capfd):
    change, told = ARRAYS[name]
    labels = pq.read_table(project.data / "cifar" / "test.parquet")["label"].to_numpy()
    folder = write_cifar_c(tmp_path / CIFAR_C, labels)
    change(folder)
    found = ask(project, capfd, ["data", "import", "cifar-c", folder])
    check(*found, 2, told)
    assert not (project.data / "cifar" / "corruptions").exists()
