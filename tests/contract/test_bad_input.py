"""Bad input of every kind, at the command line: one line that names the file and the fix, and nothing is changed."""

import gzip
import io
import json
import os
import pickle
import re
import shutil
import socket
import sys
import warnings
from collections.abc import Callable
from contextlib import chdir
from dataclasses import dataclass
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save, save_file

from advalign.cli.main import run
from advalign.data.classes import read_classes
from advalign.data.stimuli import freeze_stimuli, save_stimuli
from advalign.files import Project
from advalign.models.zoo import create_network
from advalign.settings import load_settings
from tests.foreign import drawn, encoded, example, raw, shard
from tests.trap import Trap

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("bad-input")]

REPOSITORY = Path(__file__).parents[2]
SIDE = 32
NET = {
    "group": "cnn",
    "architecture": "test_resnet",
    "preprocessing": {"input_size": SIDE, "mean": [0.5] * 3, "std": [0.25] * 3, "crop": 1.0},
}
SOUND = {**NET, "weights": "weights"}
TENCH, GOLDFISH = "n01440764", "n01443537"
MEND = re.compile(
    r"\b(fetch|unpack|import|keep|take|convert|fix|give|name (a|the|each)|rename|move|put|save|write|resize|bring|add|"
    r"remove|see|expected|must|should be|required|known|did you mean|one at a time|greater than)\b"
)
PROGRESS = re.compile(r"(importing|evaluating \d+ models): \d+/\d+ \(")
HUB = "vit_small_patch14_dinov2.lvd142m"  # without a classifier


@dataclass(frozen=True)
class Kind:
    """One kind of bad input.

    Attributes:
        make: (project's root, folder of the user's own files) -> the words of the command.
        told: what the line says, in addition to any fix; OWN is the user's folder.
        model: the failure is recorded for this model of the zoo; None: the command is refused.
    """

    make: Callable[[Path, Path], list[object]]
    told: tuple[str, ...]
    model: str | None = None


def record(label=3, seed=0, **replaced):
    """A record of the JPEG schema."""
    image, heatmap = drawn(SIDE, seed)
    return example(**{"image": encoded(image), "heatmap": encoded(heatmap), "label": label} | replaced)


def sixteen_bits(side=SIDE):
    return encoded(np.arange(side * side, dtype=np.uint16).reshape(side, side) * 60, "PNG")


# the sound project


def picture_name(number):
    return f"ILSVRC2012_val_{number:08d}.JPEG"


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A project with sound data of every kind brought in, and a model of its zoo evaluated; no test may change it."""
    root, own = tmp_path_factory.mktemp("lab") / "project", tmp_path_factory.mktemp("sound")
    (root / "registry").mkdir(parents=True)
    shutil.copy(REPOSITORY / "registry" / "imagenet.yaml", root / "registry")
    params = yaml.safe_load((REPOSITORY / "experiments" / "imagenet" / "params.yaml").read_text())
    params["stimuli"] |= {"size": SIDE, "crop": 1.0, "categories_per_superclass": 1, "images_per_category": 1}
    params["evaluate"] |= {"protocol": "fmn-10", "also": [], "gallery": 1}
    params["compare"] |= {"bootstrap": 100}
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    (root / "weights").mkdir()
    save_file(state(), root / "weights" / "sound_net.safetensors")
    zoo = {"models": {"sound_net": SOUND}, "architectures": {"test_resnet": "cnn"}}
    (root / "registry" / "zoo.yaml").write_text(yaml.safe_dump(zoo))
    first = {one.superclass: one.index for one in reversed(read_classes(root / "registry" / "imagenet.yaml").entries)}
    labels = sorted(index for name, index in first.items() if name is not None)
    shard(own / "test-sound.tfrecords", *[record(label, seed=label) for label in labels])
    (own / "val").mkdir()
    for number in (1, 2):
        (own / "val" / picture_name(number)).write_bytes(encoded(drawn(SIDE, number)[0]))
    (own / "val.txt").write_text(f"{picture_name(1)} 0\n{picture_name(2)} 1\n")
    judged = {picture_name(number): {"correct": [TENCH]} for number in (1, 2)}
    (own / "human.json").write_text(json.dumps({"initial_annots": judged, "problematic_images": {}}))
    for words in (
        ["classes"],
        ["clickme", own / "test-sound.tfrecords", "--workers", 1],
        ["imagenet", own / "val", "--labels", own / "val.txt", "--workers", 1],
        ["multilabel", own / "human.json"],
    ):
        assert advalign(root, "data", "import", *words)[0] == 0
    shutil.rmtree(own)
    settings = load_settings(root)
    save_stimuli(Project(root), freeze_stimuli(Project(root), settings.stimuli, settings.seed))
    assert advalign(root, "evaluate", "sound_net", "--workers", 1)[0] == 0
    return root


@cache
def state(architecture="test_resnet", classes=1000, size=SIDE):
    """Weights of a network as it begins."""
    torch.manual_seed(0)
    return create_network(architecture, classes, size).state_dict()


def advalign(root, *words):
    """Run the command line in this process: exit code, and the warnings that a user would see."""
    with (
        chdir(root),
        patch.object(sys, "argv", ["advalign", *map(str, words)]),
        patch.dict(os.environ),
        warnings.catch_warnings(record=True) as seen,
        pytest.raises(SystemExit) as ended,
    ):
        for hidden in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", hidden)  # as Python itself does
        os.environ.pop("ADVALIGN_DEBUG", None)
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        run()
    return ended.value.code, [str(warning.message) for warning in seen]


# ClickMe


def import_shard(payloads, root, own):
    return ["data", "import", "clickme", shard(own / "test-bad.tfrecords", *payloads), "--workers", 1]


def import_damaged(damage, root, own):
    words = import_shard([record(), record(seed=1)], root, own)
    path = own / "test-bad.tfrecords"
    content = bytearray(path.read_bytes())
    path.write_bytes(damage(content))
    return words


def flipped(position):
    """Flip a bit; a position from the end is negative."""

    def damage(content):
        content[position] ^= 4
        return content

    return damage


FILE = "OWN/test-bad.tfrecords"
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 44\n"
FIRST = f"{FILE}: record 0"


def damaged_shards():
    again = "fetch the file again"
    for name, damage, *told in [
        ("truncated in the header", lambda whole: whole[:7], f"{FIRST} at byte 0: truncated header", again),
        ("truncated in the payload", lambda whole: whole[:-90], f"{FILE}: record 1 at byte", "truncated,", again),
        ("bit flipped in the length", flipped(0), f"{FIRST} at byte 0: corrupt length", again),
        ("bit flipped in the payload", flipped(200), f"{FIRST} at byte 0: corrupt data", again),
        ("bit flipped in the checksum", flipped(-1), f"{FILE}: record 1 at byte", "corrupt data", again),
        ("text", lambda _: b"this is no TFRecord file\n", f"{FIRST} at byte 0: looks like text", "fetch it again"),
        ("packed", lambda whole: gzip.compress(whole), f"{FIRST} at byte 0: looks like gzip data", "unpack it"),
        ("LFS pointer", lambda _: LFS_POINTER, f"{FIRST} at byte 0: looks like a Git LFS pointer", "`git lfs pull`"),
        ("empty file", lambda _: b"", f"{FILE}: no records in it: it is empty", again),
    ]:
        yield f"shard: {name}", Kind(partial(import_damaged, damage), tuple(told))


def raw_record(side=224, **changed):
    image, heatmap = (values.astype(np.float32) for values in drawn(side))
    for name, value in changed.items():
        (image if name == "image" else heatmap)[3, 3] = value
    return raw(image, heatmap, 5)


def import_record(payload, root, own):
    return import_shard([payload()], root, own)


def bad_records():
    image, heatmap = drawn(SIDE)
    for name, payload, *told in [
        ("not a message", lambda: b"\xff" * 40, "is not a tf.train.Example"),
        ("wrong schema", lambda: example(picture=b"", map=b"", y=1), "'image' is missing"),
        ("float image of another size", lambda: raw_record(128), "nor float32 of 256x256 or 224x224", "convert it"),
        ("NaN image", lambda: raw_record(image=np.nan), "image values span nan .. nan", "convert it"),
        (
            "NaN map",
            lambda: raw_record(heatmap=np.nan),
            "heatmap holds values that are not finite",
            "remove the record",
        ),
        ("infinite map", lambda: raw_record(heatmap=np.inf), "not finite", "remove the record"),
        ("constant raw map", lambda: raw(drawn(224)[0], np.ones((224, 224)), 5), "constant", "remove the record"),
        ("constant map", lambda: record(heatmap=encoded(np.full((SIDE, SIDE), 9, np.uint8))), "constant", "remove the"),
        ("label 1000", lambda: record(label=1000), "label 1000 is outside 0 .. 999"),
        ("label -1", lambda: record(label=-1), "label -1 is outside 0 .. 999"),
        ("no label", lambda: example(image=encoded(image), heatmap=encoded(heatmap)), "'label' is missing"),
        ("map of another size", lambda: record(heatmap=encoded(drawn(64)[1])), "is 64x64, its image 32x32"),
        ("PNG garbage", lambda: record(image=b"\x89PNG\r\n\x1a\n" + bytes(range(256))), "cannot be decoded"),
        ("truncated JPEG", lambda: record(image=encoded(image)[:-200]), "cannot be decoded"),
        ("CMYK image", lambda: record(image=encoded(image, mode="CMYK")), "is CMYK, expected RGB: convert it"),
        ("16-bit image", lambda: record(image=sixteen_bits()), "is I;16, expected RGB: convert it"),
        ("grey image", lambda: record(image=encoded(heatmap)), "image is L, expected RGB: convert it"),
        ("colour map", lambda: record(heatmap=encoded(image)), "heatmap is RGB, expected L: convert it"),
    ]:
        yield f"record: {name}", Kind(partial(import_record, payload), (FIRST, *told))


def no_split(root, own):
    return ["data", "import", "clickme", shard(own / "shard.tfrecords", record())]


def two_of_one_name(root, own):
    return ["data", "import", "clickme", *(shard(own / part / "test-1.tfrecords", record()) for part in "ab")]


def empty_folder(root, own):
    return ["data", "import", "clickme", own]


def missing_path(root, own):
    return ["data", "import", "clickme", own / "test-bad.tfrecords"]


def not_permitted(root, own):
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    words = import_shard([record()], root, own)
    (own / "test-bad.tfrecords").chmod(0)
    return words


def broken_disk(root, own):
    """What the kernel refuses to read, with the error of a broken disk."""
    if not Path("/proc/self/mem").exists():
        pytest.skip("needs Linux")
    (own / "test-bad.tfrecords").symlink_to("/proc/self/mem")
    return ["data", "import", "clickme", own / "test-bad.tfrecords", "--workers", 1]


def folder_for_a_shard(root, own):
    (own / "test-bad.tfrecords").mkdir()
    return ["data", "import", "clickme", own / "test-bad.tfrecords"]


def another_shard_of_that_name(root, own):
    return ["data", "import", "clickme", shard(own / "test-sound.tfrecords", record()), "--workers", 1]


def sample_with_code(root, own):
    (own / "test").mkdir()
    (own / "test" / "1.pth").write_bytes(pickle.dumps(Trap(own / "ran")))
    return ["data", "import", "clickme", own / "test", "--workers", 1]


def shard_files():
    yield "shards: no split in the name", Kind(no_split, ("OWN/shard.tfrecords", "give --split"))
    told = ("OWN/a/test-1.tfrecords and OWN/b/test-1.tfrecords", "name each once, or rename one")
    yield "shards: two of one name", Kind(two_of_one_name, told)
    yield "shards: empty folder", Kind(empty_folder, ("OWN: no *.tfrecords", "name the folder or files"))
    yield "shards: missing path", Kind(missing_path, (f"{FILE} is missing: name",))
    yield "shards: not permitted", Kind(not_permitted, (f"{FILE}: Permission denied: fix that and run again",))
    yield "shards: broken disk", Kind(broken_disk, (f"{FILE}: Input/output error: fix that and run again",))
    yield "shards: a folder in the place of one", Kind(folder_for_a_shard, (f"{FILE}: no *.tfrecords", "name the"))
    yield "shards: another of a name that is there", Kind(another_shard_of_that_name, ("test-sound", "give --replace"))
    yield "sample: pickle with code in it", Kind(sample_with_code, ("OWN/test/1.pth", "save it again as plain"))


# ImageNet


def import_pictures(pictures, labels, root, own):
    """Flat images by number, with a text of labels."""
    (own / "val").mkdir()
    for number, content in pictures.items():
        (own / "val" / picture_name(number)).write_bytes(content)
    (own / "labels.csv").write_text(labels)
    return ["data", "import", "imagenet", own / "val", "--labels", own / "labels.csv", "--workers", 1]


def labelled(*numbers, wnid=TENCH):
    return "image,wnid\n" + "".join(f"{picture_name(number)},{wnid}\n" for number in numbers)


def bad_pictures():
    image = drawn(SIDE, 7)[0]
    for name, content, *told in [
        ("truncated JPEG", encoded(image)[:-300], "cannot be decoded", "fetch it again"),
        ("CMYK JPEG", encoded(image, mode="CMYK"), "is CMYK, expected 8-bit JPEG", "give --convert"),
        ("16-bit PNG called JPEG", sixteen_bits(), "is a PNG (I;16)", "give --convert"),
        ("text called JPEG", b"no picture\n", "cannot be decoded: it looks like text", "fetch it again"),
        ("empty file called JPEG", b"", "cannot be decoded: it is empty", "fetch the file again"),
    ]:
        # the sound one comes after: nothing of an import arrives before its first bad image
        make = partial(import_pictures, {901: content, 902: encoded(image)}, labelled(901, 902))
        yield f"images: {name}", Kind(make, (f"OWN/val/{picture_name(901)}", *told))


def bad_labels():
    one, file, picture = {901: encoded(drawn(SIDE)[0])}, "OWN/labels.csv", f"OWN/val/{picture_name(901)}"
    for name, pictures, text, *told in [
        ("unknown wnid", one, labelled(901, wnid="n99999999"), file, "line 2: unknown wnid 'n99999999'", "fix"),
        ("a name twice", one, labelled(901, 901), file, "line 3:", "is in two lines: remove one"),
        ("image without label", one | {902: one[901]}, labelled(902), picture, "no label", "or add labels"),
        ("label without image", one, labelled(901, 902), file, "_00000902 has no image in OWN/val", "fetch them"),
        ("label 1000", one, f"{picture_name(901)} 1000\n", file, "label 1000 is outside 0 .. 999", "fix"),
        ("neither format", one, "a b\n1 2\n", file, "line 1: 'a b' is no label, expected image,wnid"),
        ("semicolons", one, "a;b\n1;2\n", file, "columns are separated by semicolons, expected commas"),
        ("empty file", one, "", file, "no labels in it, expected image,wnid"),
        ("no wnid", one, f"image,wnid\n{picture_name(901)}\n", file, "line 2: 1 cells, the header has 2: fix"),
        ("other label than before", {1: encoded(drawn(SIDE, 1)[0])}, labelled(1, wnid=GOLDFISH), "labels.csv", "give"),
        ("other picture than before", {1: encoded(drawn(SIDE, 9)[0])}, labelled(1), "exists with other", "--replace"),
    ]:
        yield f"labels: {name}", Kind(partial(import_pictures, pictures, text), tuple(told))


def without_labels(root, own):
    return import_pictures({901: encoded(drawn(SIDE)[0])}, "", root, own)[:4]


def unknown_folder(root, own):
    (own / "n99999999").mkdir()
    (own / "n99999999" / "1.JPEG").write_bytes(encoded(drawn(SIDE)[0]))
    return ["data", "import", "imagenet", own, "--split", "train", "--workers", 1]


def no_pictures(root, own):
    return ["data", "import", "imagenet", own]


def picture_folders():
    yield "images: flat without labels", Kind(without_labels, ("OWN/val is flat", "give --labels FILE"))
    yield "images: unknown wnid folder", Kind(unknown_folder, ("OWN/n99999999: unknown wnid", "move it away"))
    yield "images: empty folder", Kind(no_pictures, ("OWN: no images (.JPEG", ": name the one that has them"))


# multi-label sets and classes


def import_text(command, name, text, root, own):
    (own / name).write_text(text)
    return ["data", "import", command, own / name]


HEADER = "id,original_label,proposed_labels,unclear_multi_labels,wrong_multi_labels,is_problematic\n"


def annotated(name, wnid):
    return json.dumps({"initial_annots": {name: {"correct": [wnid]}}, "problematic_images": {}})


def bad_multilabel():
    one = picture_name(1)
    for name, text, *told in [
        ("not JSON", '{"initial_annots": {', "is not valid JSON"),
        ("wrong schema", '{"annotations": []}', "not a multi-label set"),
        ("label 1000", f"{HEADER}{one},1000,1,,,False\n", "line 2", "original_label holds '1000'", "fix it"),
        ("unknown wnid", annotated(one, "n99999999"), one, "unknown wnid 'n99999999'"),
        ("ReaL of wrong length", "[[1], [2]]", "2 entries, ReaL has one for each of 50000", "fetch it again"),
        ("missing column", HEADER.replace("is_problematic", "flag"), "column is_problematic is missing", "expected"),
        ("none of its images", annotated(picture_name(77), TENCH), picture_name(77), "data/imagenet/val", "import"),
    ]:
        yield f"multi-label: {name}", Kind(partial(import_text, "multilabel", "m.txt", text), ("OWN/m.txt", *told))


def row(index, wnid, animate="true"):
    return f"{index}: {{wnid: {wnid}, name: x, superclass: null, animate: {animate}}}\n"


def missing_classes(root, own):
    return ["data", "import", "classes", own / "classes.yaml"]


def bad_classes():
    for name, text, *told in [
        ("a wnid twice", row(0, TENCH) + row(1, TENCH), TENCH, "belongs to two classes"),
        ("a gap in the indices", row(0, TENCH) + row(2, GOLDFISH), "class indices must be 0 .. 1 without gaps"),
        ("a quoted false", row(0, TENCH, '"false"'), "animate is 'false': write true or false"),
        ("another table than before", row(0, TENCH) + row(1, GOLDFISH), "classes.yaml holds other classes", "move"),
    ]:
        file = () if name.startswith("another") else ("OWN/c.yaml",)
        yield f"classes: {name}", Kind(partial(import_text, "classes", "c.yaml", text), (*file, *told))
    yield "classes: missing file", Kind(missing_classes, ("OWN/classes.yaml is missing: give the FILE",))


# zoo and evaluation


def evaluate(zoo, root, own):
    """Evaluate a zoo, given as text or as the entries of models."""
    text = zoo if isinstance(zoo, str) else yaml.safe_dump({"models": zoo})
    (own / "zoo.yaml").write_text(text)
    return ["evaluate", "--zoo", own / "zoo.yaml", "--workers", 1, "--json"]


def evaluate_weights(entry, name, content, root, own):
    """Evaluate a bad model beside the sound one."""
    if content is not None:
        (own / name).write_bytes(content(own))
    bad = {**NET, "weights": str(own / name), **entry}
    return evaluate({"bad_net": bad, "sound_net": SOUND}, root, own)


def with_code(own):
    buffer = io.BytesIO()
    torch.save({"state_dict": state(), "args": Trap(own / "ran")}, buffer)
    return buffer.getvalue()


def plain_pickle(own):
    return pickle.dumps({"state_dict": Trap(own / "ran")})


def not_a_number(own):
    return save({name: torch.full_like(value, torch.nan) if value.is_floating_point() else value
                 for name, value in state().items()})  # fmt: skip


def bad_models():
    head = {"architecture": HUB, "weights": "hub", "preprocessing": {}}
    hub = {"architecture": "test_resnet.r160_in1k", "weights": "hub", "preprocessing": {}}
    for name, entry, file, content, *told in [
        ("10 classes", {}, "w.safetensors", lambda _: save(state(classes=10)), "OWN/w.safetensors", "[10, "),
        ("another architecture", {}, "w.safetensors", lambda _: save(state("test_efficientnet")),
         "OWN/w.safetensors is of another architecture"),
        ("truncated weights", {}, "w.safetensors", lambda _: save(state())[:-99], "OWN/w.safetensors", "fetch it"),
        ("truncated checkpoint", {}, "w.pth", lambda own: with_code(own)[:-999], "OWN/w.pth", "fetch it again"),
        ("pickle with code in it", {}, "w.pth", with_code, "OWN/w.pth", "refused", "save its state dictionary"),
        ("plain pickle with code in it", {}, "w.pth", plain_pickle, "OWN/w.pth", "refused", "save its state dict"),
        ("missing weights", {}, "w.pth", None, "OWN/w.pth is missing (or .pth, .pt, .ckpt): put the weights there"),
        ("no head", head, "w.pth", None, "bad_net", "are for 0 classes", "name the classifier's weights"),
        ("no network", hub, "w.pth", None, "test_resnet.r160_in1k", "cannot be fetched", "put the file on disk"),
        ("unknown architecture", {"architecture": "test_resnt"}, "w.pth", None, "test_resnt", "did you mean"),
        ("unknown preprocessing", {"preprocessing": {"sice": 3}}, "w.pth", None, "bad_net: preprocessing", "'sice'"),
        ("NaN weights", {}, "w.safetensors", not_a_number, "bad_net", "finite"),
    ]:  # fmt: skip
        yield f"model: {name}", Kind(partial(evaluate_weights, entry, file, content), tuple(told), "bad_net")


def words(*given):
    return lambda root, own: list(given)


def missing_zoo(root, own):
    return ["evaluate", "--zoo", own / "zoo.yaml"]


def bad_calls():
    net, file = yaml.safe_dump(NET, default_flow_style=True, width=999).strip(), "OWN/zoo.yaml"
    for name, zoo, *told in [
        ("unknown key", {"net": {**NET, "wieghts": "w"}}, "unknown key 'wieghts'; did you mean 'weights'?"),
        ("unknown group", {"net": {**NET, "group": "cmm"}}, "net.group", "'cnn'", "got 'cmm'"),
        ("a model twice", f"models:\n  net: {net}\n  net: {net}\n", "'net' is given twice", "line 3"),
        ("not YAML", "\tmodels:\n", "is not valid YAML", "line 1, column 1"),
        ("a model without group", {"net": {}}, "net.group: field required"),
    ]:
        yield f"zoo: {name}", Kind(partial(evaluate, zoo), (file, *told))
    yield "zoo: missing file", Kind(missing_zoo, (f"{file} is missing: ",))
    for name, command, *told in [
        ("unknown model", ("evaluate", "sound_nett"), "unknown model 'sound_nett'; did you mean 'sound_net'?"),
        ("a model twice", ("evaluate", "sound_net", "sound_net"), "'sound_net' is named twice", "one at a time"),
        ("unknown protocol", ("evaluate", "sound_net", "--protocol", "fnm"), "'fnm'; did you mean 'fmn' or 'fgsm'?"),
        ("unknown engine", ("evaluate", "sound_net", "--engine", "rai"), "unknown engine 'rai'; did you mean 'ray'?"),
        ("limit 0", ("evaluate", "sound_net", "--limit", "0"), "--limit", "greater than or equal to 1"),
    ]:
        yield f"evaluate: {name}", Kind(words(*command), tuple(told))


def published(text, root, own):
    if text is not None:
        (own / "p.yaml").write_text(text)
    return ["compare", "--published", own / "p.yaml"]


def bad_published():
    for name, text, *told in [
        ("missing file", None, "cannot be read (No such file", "give a YAML or CSV file"),
        ("not YAML", "models: [", "is not valid YAML", "fix that line"),
        ("other YAML", "- 1\n- 2\n", "expected a mapping with source, protocol and models", "see registry/published"),
    ]:
        yield f"published: {name}", Kind(partial(published, text), ("OWN/p.yaml", *told))


FAMILIES = (damaged_shards, bad_records, shard_files, bad_pictures, bad_labels, picture_folders, bad_multilabel,
            bad_classes, bad_models, bad_calls, bad_published)  # fmt: skip
KINDS = {name: kind for family in FAMILIES for name, kind in family()}


CHANGING = ".lock", "mlflow.db", ".digests.db"  # the last remembers digests as soon as files are old enough


def snapshot(*folders):
    """What lies in folders: bytes and times of files; of a summary, which is written again, the bytes only."""
    found = {}
    for path in sorted(path for folder in folders for path in folder.rglob("*")):
        if path.is_symlink() or path.is_dir():
            found[path] = str(path.readlink()) if path.is_symlink() else "folder"
        elif path == folders[0] / "outputs" / "evaluations" / "fmn-10" / "sound_net.json":
            found[path] = path.read_text()
        elif not path.name.endswith(CHANGING):
            content = path.read_bytes() if os.access(path, os.R_OK) else b""
            found[path] = sha256(content).hexdigest(), path.stat().st_mtime_ns
    return found


@pytest.mark.parametrize("name", KINDS)
def test_bad_input_is_one_line_with_the_fix_and_changes_nothing(name, sound, tmp_path, capfd, monkeypatch):
    kind = KINDS[name]
    failure = sound / "outputs" / "evaluations" / "fmn-10" / "failed" / f"{kind.model}.json"
    failure.unlink(missing_ok=True)
    command = kind.make(sound, tmp_path)
    nobody = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: (_ for _ in ()).throw(nobody))
    before = snapshot(sound, tmp_path)
    capfd.readouterr()
    code, warned = advalign(sound, *command)
    told = capfd.readouterr()
    lines = [line for line in told.err.splitlines() if not PROGRESS.match(line)]
    assert len(lines) == 1, lines
    line = lines[0]
    assert line.startswith("advalign: error: ")
    assert warned == []
    assert "Traceback" not in told.out + told.err
    after = snapshot(sound, tmp_path)
    assert after.items() >= before.items()
    new = after.keys() - before.keys()
    if kind.model is None:
        assert (code, told.out, new) == (2, "", set())
    else:
        assert code == 1, line
        assert "1 of 2 models failed; the others are finished" in line
        rows = {row["model"]: row for row in json.loads(told.out)}
        assert {name: row["state"] for name, row in rows.items()} == {"bad_net": "failed", "sound_net": "kept"}
        fetched = sound / "outputs" / "zoo" / kind.model  # what cannot be seen before it is asked
        assert {path for path in new if fetched not in (path, path.parent)} <= {failure, failure.parent}
        assert not fetched.exists()
        line = rows[kind.model]["error"]
        assert json.loads(failure.read_text()) == {"model": kind.model, "error": line}
        assert "\n" not in line
    line = line.replace(str(tmp_path), "OWN")
    assert MEND.search(line), line
    for fragment in kind.told:
        assert fragment in line
