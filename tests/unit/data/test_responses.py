"""The response store: what was written is read, by area, subject and split; what does not fit together is refused."""

import h5py
import numpy as np
import pandas as pd
import pytest

from advalign import seals
from advalign.data import responses
from advalign.data.hdf5 import sealed_hdf5
from advalign.data.response_writer import About, writing_responses
from advalign.data.responses import ResponseStore, need_responses, responses_digest
from advalign.errors import DataError, InputError
from advalign.files import Project
from advalign.seals import Damaged

IMAGES = pd.DataFrame({"id": ["a", "b", "c"], "sha256": ["1" * 64, "", ""], "label": [4, -1, 0]})
UNITS = pd.DataFrame(
    {"roi": ["V1", "V4", "V1", "V4"], "subject": ["s1", "s1", "s2", "s2"], "noise_ceiling": [0.5, np.nan, 0.1, 0.2]}
)
ABOUT = About("measured", "none", "two sessions", {"one.npy": "f" * 64})


@pytest.fixture
def path(tmp_path):
    """Subject s1 saw a, b, a and c; subject s2, in a session of its own, a (twice) and b."""
    path = tmp_path / "data" / "responses" / "lab.h5"
    with writing_responses(path, ABOUT, IMAGES, UNITS) as writer:
        first = np.array([[1.0, 10], [2, 20], [3, 30], [4, 40]])
        writer.add_trials(np.array([0, 1, 0, 2]), first, np.array([0, 0, 0, 2]), 0)
        writer.add_trials(np.array([0, 0]), np.array([[5.0, 50], [7, 70]]), "train", 1, first_unit=2)
        writer.add_trials(np.array([1]), np.array([[9.0, np.nan]]), "validation", 2, first_unit=2)
    return path


def test_what_is_written_is_read(path):
    store = ResponseStore.open(path)
    assert (store.provenance, store.normalisation, store.description) == ("measured", "none", "two sessions")
    assert store.sources == {"one.npy": "f" * 64} and store.rois == ["V1", "V4"] and store.subjects == ["s1", "s2"]
    assert store.images.to_dict("list") == IMAGES.to_dict("list")
    np.testing.assert_allclose(store.units["noise_ceiling"], UNITS["noise_ceiling"])
    assert store.trials["image"].tolist() == [0, 1, 0, 2, 0, 0, 1]
    assert store.trials["repeat"].tolist() == [0, 0, 1, 0, 0, 1, 0]
    assert store.trials["session"].tolist() == [0, 0, 0, 0, 1, 1, 2]
    assert store.trials["split"].tolist() == [0, 0, 0, 2, 0, 0, 1]
    everything = store.read()
    assert everything.dtype == np.float32
    np.testing.assert_array_equal(everything[4], [np.nan, np.nan, 5, 50])
    np.testing.assert_array_equal(
        store.read(store.mask("V4"), store.trials["image"] == 0),
        [[10, np.nan], [30, np.nan], [np.nan, 50], [np.nan, 70]],
    )


@pytest.mark.parametrize("at_once", [1, 20, 64 << 20])
def test_means_over_repeats_in_blocks_of_any_size(path, monkeypatch, at_once):
    monkeypatch.setattr(responses, "AT_ONCE", at_once)
    store = ResponseStore.open(path)
    images, means = store.mean_responses("V1", "s1")
    assert images.tolist() == [0, 1, 2] and means.tolist() == [[2], [2], [4]]
    images, means = store.mean_responses("V1", "s1", "train")
    assert images.tolist() == [0, 1] and means.tolist() == [[2], [2]]
    images, means = store.mean_responses("V1")  # image c was not shown to s2
    assert images.tolist() == [0, 1] and means.tolist() == [[2, 6], [2, 9]]
    images, means = store.mean_responses("V4")  # and has no response to b in V4
    assert images.tolist() == [0] and means.tolist() == [[20, 60]]
    with pytest.raises(InputError, match="no image of split test has a response in every unit of 'V1': name one subj"):
        store.mean_responses("V1", split="test")


def test_unknown_names_offer_the_nearest(path):
    store = ResponseStore.open(path)
    with pytest.raises(InputError, match=r"unknown area of lab 'V5'; did you mean 'V4' or 'V1'\? \(known: V1, V4\)"):
        store.mean_responses("V5")
    with pytest.raises(InputError, match="unknown subject of lab 's3'"):
        store.mask("V1", "s3")
    with pytest.raises(InputError, match="unknown split 'val'"):
        store.mean_responses("V1", split="val")
    project = Project(path.parents[2])
    assert need_responses(project, "lab") == path
    with pytest.raises(InputError, match="unknown set of responses 'labb'; did you mean 'lab'"):
        need_responses(project, "labb")


def test_the_same_content_is_the_same_file_and_another_is_not(path, tmp_path):
    def write(name, value):
        with writing_responses(tmp_path / name, ABOUT, IMAGES, UNITS[:1]) as writer:
            writer.add_trials(np.array([0]), np.array([[value]]), "train", 0)
        return responses_digest(tmp_path / name)

    assert write("one.h5", 1.0) == write("two.h5", 1.0) != write("three.h5", 2.0)


def test_units_of_other_subjects_take_no_space(tmp_path):
    wide = pd.DataFrame({"roi": ["V1"] * 100_000})
    with writing_responses(tmp_path / "wide.h5", ABOUT, IMAGES, wide) as writer:
        writer.add_trials(np.zeros(64, int), np.ones((64, 8)), "train", 0, first_unit=5)
    assert (tmp_path / "wide.h5").stat().st_size < 3e6  # one chunk of 100
    assert np.isnan(ResponseStore.open(tmp_path / "wide.h5").read()).sum() == 64 * (100_000 - 8)


def test_dissimilarities(tmp_path):
    path = tmp_path / "rdm.h5"
    with writing_responses(path, About("simulated", "none"), IMAGES) as writer:
        writer.add_rdm(np.array([0.1, 0.2, 0.3]), "p1", "IT")
        writer.add_rdm(np.array([0.4, 0.5, 0.6]), "p2", "IT")
        writer.add_rdm(np.array([0.7, 0.8, 0.9]), "p1", "EVC")
    store = ResponseStore.open(path)
    assert (store.rois, store.subjects, len(store.units), len(store.trials)) == (["IT", "EVC"], ["p1", "p2"], 0, 0)
    np.testing.assert_allclose(store.rdms("IT"), [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], rtol=1e-6)
    np.testing.assert_allclose(store.rdms("EVC", "p1"), [[0.7, 0.8, 0.9]], rtol=1e-6)
    with pytest.raises(InputError, match="no matrix of area 'EVC' and subject 'p2'"):
        store.rdms("EVC", "p2")
    with pytest.raises(InputError, match="holds dissimilarities, no responses"):
        store.read()
    with (
        pytest.raises(DataError, match=r"dissimilarities are \(4,\), expected \(3,\) for 3 images"),
        writing_responses(path, ABOUT, IMAGES) as writer,
    ):
        writer.add_rdm(np.zeros(4), "p1", "IT")


def test_a_refused_file_leaves_nothing(tmp_path):
    for told, about, betas in [
        ("provenance 'guessed', expected measured, simulated, predicted", About("guessed", "none"), np.ones((1, 4))),
        ("a response is infinite", ABOUT, np.full((1, 4), np.inf)),
        (r"responses are \(1, 5\), expected 1 trials x at most 4 units", ABOUT, np.ones((1, 5))),
    ]:
        with pytest.raises(DataError, match=told), writing_responses(tmp_path / "x.h5", about, IMAGES, UNITS) as writer:
            writer.add_trials(np.array([0]), betas, "train", 0)
    with (
        pytest.raises(DataError, match="neither trials nor dissim"),
        writing_responses(tmp_path / "x.h5", ABOUT, IMAGES),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def edits():
    yield "version 2 of", lambda file: file.attrs.update(version=2)
    yield "provenance 'guess'", lambda file: file.attrs.update(provenance="guess")
    yield "provenance None", lambda file: file.attrs.__delitem__("provenance")
    yield "sources is 'x'", lambda file: file.attrs.update(sources="x")
    yield "images/id is missing", lambda file: file.__delitem__("images/id")
    yield "images or split is out of range|image or split", lambda file: file["trials/image"].__setitem__(0, 3)
    yield "split is out of range", lambda file: file["trials/split"].__setitem__(0, -1)
    yield "session is below 0", lambda file: file["trials/session"].__setitem__(0, -1)
    yield r"betas are float32 \(6, 4\)", lambda file: file["betas"].resize(6, axis=0)
    yield "or one twice", lambda file: file["images/id"].__setitem__(0, "b")
    yield "betas is a link", elsewhere


def elsewhere(file):
    del file["betas"]
    file["betas"] = h5py.ExternalLink("other.h5", "betas")


@pytest.mark.parametrize(("told", "edit"), list(edits()))
def test_a_changed_file_is_refused(path, told, edit):
    ResponseStore.open(path)  # that it was whole is remembered, of this state
    with h5py.File(path, "r+") as file:
        edit(file)
    with pytest.raises(
        Damaged, match=r"lab\.h5 is damaged, was edited.* takes what other software wrote \(layout arra"
    ):
        ResponseStore.open(path)
    with sealed_hdf5(path, "r+"):
        pass
    with pytest.raises(DataError, match=told):
        ResponseStore.open(path)


def test_responses_that_are_changed_or_cut_are_refused(path):
    """The values lie in chunks without checksums: HDF5 reads any bytes as numbers."""
    with h5py.File(path) as file:
        place = file["betas"].id.get_chunk_info(0).byte_offset
    good, made = path.read_bytes(), path.parents[2] / "outputs" / "responses" / "made.h5"
    made.parent.mkdir(parents=True)
    for there, mend in ((path, "data import responses"), (made, "again with `dvc repro -f simulate`")):
        changed = bytearray(good)
        changed[place + 2] ^= 1
        there.write_bytes(changed)
        with pytest.raises(Damaged, match=mend):
            ResponseStore.open(there)
        there.write_bytes(good)
        assert ResponseStore.open(there).read().shape == (7, 4)
        there.write_bytes(good[:-8])
        with pytest.raises(DataError, match=there.name):
            ResponseStore.open(there)


def test_a_store_by_hand_is_told_how_it_is_imported(path, tmp_path):
    with h5py.File(path) as file, h5py.File(tmp_path / "hand.h5", "w") as hand:
        for name in file:
            file.copy(name, hand)
        hand.attrs.update({key: value for key, value in file.attrs.items() if key != "seal"})
    with pytest.raises(Damaged, match=r"hand\.h5 .*data import responses` .*other software wrote \(layout arrays\)"):
        ResponseStore.open(tmp_path / "hand.h5")


def test_a_large_store_is_hashed_once_in_a_process(path, monkeypatch):
    hashed = []
    monkeypatch.setattr(seals, "is_whole", lambda one: not hashed.append(one))
    ResponseStore.open(path)
    ResponseStore.open(path)
    assert hashed == [path] * 2  # it changed a moment ago, and may change again without a new time
    monkeypatch.setattr(seals, "FRESH", 0)
    hashed.clear()
    for _ in range(3):
        ResponseStore.open(path)
    assert hashed == [path]
    path.write_bytes(path.read_bytes())
    ResponseStore.open(path)
    assert hashed == [path, path]


def test_what_is_no_hdf5_is_refused(path):
    content = path.read_bytes()
    for told, changed in [
        ("cannot be read as a response store .*truncated", content[: len(content) // 2]),
        ("is not a response store: it is empty", b""),
        ("is not a response store: it looks like a ZIP", b"PK\x03\x04" + content),
        ("Git LFS pointer", b"version https://git-lfs.github.com/spec/v1\n"),
    ]:
        path.write_bytes(changed)
        with pytest.raises(DataError, match=told):
            ResponseStore.open(path)


def test_damaged_bytes_are_one_line_or_harmless(path, monkeypatch):
    """Bytes anywhere in the tables' part of a file that somebody sealed: a library's error never comes through."""
    monkeypatch.setattr(responses, "need_whole_once", lambda *_: None)
    good, random, refused = path.read_bytes(), np.random.default_rng(3), 0
    for _ in range(150):
        content = bytearray(good)
        for place in random.integers(0, min(len(good), 6000), random.choice([1, 4, 30])):
            content[place] = random.integers(0, 256)
        path.write_bytes(content)
        try:
            ResponseStore.open(path).mean_responses("V1", "s1")
        except InputError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 30
