"""What is no regular file is refused at once, by every reader: nobody waits for a pipe or a device."""

import os
import re
import shutil
import socket
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from advalign.analysis.published import read_published
from advalign.analysis.table import read_table
from advalign.data.classes import Classes, ClassInfo, read_classes, write_classes
from advalign.data.clickme import read_human_ceiling
from advalign.data.imagenet import read_label_table
from advalign.data.imports._labels import read_label_file
from advalign.data.imports.clickme import import_clickme
from advalign.data.imports.imagenet import import_imagenet
from advalign.data.imports.multilabel import import_multilabel, read_judgements
from advalign.data.multilabel import read_multilabel
from advalign.data.tfrecord import read_payloads
from advalign.errors import InputError
from advalign.files import Project, sha256
from advalign.models.checkpoints import read_card
from advalign.models.declared import read_zoo
from advalign.models.states import read_states
from advalign.regular_files import open_file
from advalign.settings import load_settings, read_trainings
from advalign.tracking.registry.policies import read_policy

pytestmark = pytest.mark.timeout(10)

CLASSES = Classes(tuple(ClassInfo(n, f"n{n:08d}", "x", None, animate=True) for n in range(2)))
READERS = {
    "params.yaml": lambda path: load_settings(Project.find(path.parent).root),
    "registry/trainings.yaml": read_trainings,
    "registry/zoo.yaml": read_zoo,
    "registry/gates.yaml": lambda path: read_policy(path, "champion"),
    "published.yaml": read_published,
    "published.csv": read_published,
    "zoo.csv": read_table,
    "classes.yaml": read_classes,
    "data/clickme/ceiling.yaml": lambda path: read_human_ceiling(Project(path.parents[2])),
    "card.json": lambda path: read_card(path.parent),
    "multilabel.json": lambda path: read_multilabel(path, {}),
    "judged.csv": lambda path: read_judgements(path, CLASSES),
    "labels.csv": read_label_table,
    "val.txt": lambda path: read_label_file(path, CLASSES),
    "a.tfrecords": lambda path: list(read_payloads(path)),
    "weights.pth": read_states,
    "weights.safetensors": read_states,
    "any": sha256,
}


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as listening:
        folder = os.open(path.parent, os.O_RDONLY)
        listening.bind(f"/proc/self/fd/{folder}/{path.name}")  # the path itself may be too long for a socket
        os.close(folder)


KINDS = {
    "a named pipe": os.mkfifo,
    "a socket": make_socket,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a folder": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", READERS)
def test_every_reader_refuses_what_is_no_regular_file(tmp_path, name, kind):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    KINDS[kind](path)
    with pytest.raises(InputError) as caught:
        READERS[name](path)
    message = str(caught.value)
    assert "\n" not in message
    told = rf"{re.escape(str(path))} (is {kind}, expected a regular file|is missing \(or)"
    assert re.match(told, message), message


@pytest.mark.parametrize("name", sorted(READERS.keys() - {"any"}))
def test_every_reader_tells_of_a_link_in_a_circle(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(path.name)
    with pytest.raises((InputError, OSError), match=re.escape(path.name)):
        READERS[name](path)


def test_a_regular_file_that_becomes_a_pipe_before_it_is_opened_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_text("a")
    opened = os.open

    def exchange_and_open(*words):
        path.unlink()
        os.mkfifo(path)
        return opened(*words)

    monkeypatch.setattr(os, "open", exchange_and_open)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(InputError, match="is a named pipe"):
        open_file(path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_broken_link_as_settings_is_not_taken_for_no_settings(tmp_path):
    """Else the project above would be used in silence."""
    (tmp_path / "params.yaml").write_text("seed: 0\n")
    inner = tmp_path / "experiments" / "mine"
    inner.mkdir(parents=True)
    (inner / "params.yaml").symlink_to("nowhere")
    project = Project.find(inner)
    assert project.root == inner
    with pytest.raises(InputError, match=re.escape(str(inner / "params.yaml"))):
        load_settings(project.root)


@pytest.fixture
def project(tmp_path):
    (tmp_path / "project" / "data").mkdir(parents=True)
    write_classes(tmp_path / "project" / "data" / "classes.yaml", CLASSES)
    return Project(tmp_path / "project")


def dangling(path):
    path.symlink_to("nowhere")


def circle(path):
    path.symlink_to(path.name)


@pytest.mark.parametrize("make", [os.mkfifo, make_socket, dangling, circle, lambda path: path.mkdir()])
@pytest.mark.parametrize("name", ["val/b.JPEG", "val.txt", "n00000001", "test/b.tfrecords", "test/b.pth", "human.json"])
def test_imports_refuse_special_files_among_sound_ones(tmp_path, project, name, make):
    for folder in ("val", "test", "n00000000"):
        (tmp_path / folder).mkdir()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "val" / "a.JPEG")
    shutil.copy(tmp_path / "val" / "a.JPEG", tmp_path / "n00000000")
    path = tmp_path / name
    make(path)
    if name == "n00000001" and path.is_dir():
        pytest.skip("a folder is what it should be")
    if name != "val.txt":
        (tmp_path / "val.txt").write_text("a.JPEG 0\nb.JPEG 1\n")
    run = {
        "val/b.JPEG": partial(import_imagenet, project, tmp_path / "val", tmp_path / "val.txt", workers=1),
        "val.txt": partial(import_imagenet, project, tmp_path / "val", tmp_path / "val.txt", workers=1),
        "n00000001": partial(import_imagenet, project, tmp_path, split="train", workers=1),
        "test/b.tfrecords": partial(import_clickme, project, [tmp_path / "test"], workers=1),
        "test/b.pth": partial(import_clickme, project, [tmp_path / "test"], workers=1),
        "human.json": partial(import_multilabel, project, tmp_path / "human.json"),
    }[name]
    before = sorted(path for path in project.data.rglob("*") if path.is_file())
    with pytest.raises(InputError, match=rf"^{re.escape(str(path))}") as caught:
        run()
    assert "\n" not in str(caught.value)
    assert sorted(path for path in project.data.rglob("*") if path.is_file()) == before


def test_a_pipe_with_a_writer_is_refused_too(tmp_path):
    """Its content cannot be read twice: once for its digest, once for its use."""
    os.mkfifo(tmp_path / "zoo.csv")
    writer = threading.Thread(target=lambda: (tmp_path / "zoo.csv").write_text("model\n"), daemon=True)
    writer.start()
    with pytest.raises(InputError, match="is a named pipe"):
        read_table(tmp_path / "zoo.csv")
    assert (tmp_path / "zoo.csv").read_text() == "model\n"  # ends the writer
    writer.join()
