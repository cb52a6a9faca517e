"""Import of clicks: every trial arrives as it was, whatever the format; a killed import leaves nothing."""

import io
import json
import pickle
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from advalign.data.imports import _click_tables, _trial_sorter
from advalign.data.imports._pickles import Array, read_pickle
from advalign.data.imports.clicks import import_clicks
from advalign.data.participants import IMAGES_SCHEMA, TRIALS_SCHEMA, has_participants, read_images, read_trials
from advalign.errors import DataError
from advalign.files import sha256
from tests.bare_project import bare_project, plain_classes
from tests.conftest import REPOSITORY
from tests.pipeline.conftest import typed

WNIDS = ("n00000001", "n00000002")
TRIALS = [  # image, participant, clicks, catch, mobile
    ("set/n00000002/b.png", "ann", [(1, 2), (3.5, 4)], 1.0, False),
    ("a_n00000001.png", "7", [(5, 6)], 0.5, True),
    ("b.png", "bob", [], None, None),
    ("somewhere/c.JPEG", "bob", [(-3, 9), (700, 1), (0, 0)], 0.95, False),
    ("a_n00000001.png", "ann", [(29, 19)], 1.0, None),
]


@pytest.fixture
def project(tmp_path):
    return bare_project(tmp_path / "project", plain_classes(*WNIDS))


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    (folder / "n00000002").mkdir(parents=True)
    for shade, name in enumerate(["n00000002/b.png", "a_n00000001.png", "unseen.png"]):
        Image.new("RGB", (30, 20), (shade, 0, 0)).save(folder / name)
    Image.new("RGB", (40, 30)).save(folder / "c.JPEG")
    return folder


def text_of(clicks):
    return "{" + ",".join(f'"({x},{y})"' for x, y in clicks) + "}"


def csv_of(trials, write=text_of):
    lines = ["user_id,clicks,image_path,catch_score,is_mobile"]
    for image, participant, clicks, *known in trials:
        quoted = write(clicks).replace('"', '""')
        lines.append(",".join([participant, f'"{quoted}"', image, *("" if one is None else str(one) for one in known)]))
    return "\n".join(lines) + "\n"


def objects(values):
    array = np.empty(len(values), object)
    array[:] = values
    return array


def axis(clicks, which):
    return [click[which] for click in clicks]


def as_csv(path):
    path.write_text(csv_of(TRIALS))


def as_csv_of_python(path):
    path.write_bytes(b"\xef\xbb\xbf" + csv_of(TRIALS, str).replace("\n", "\r\n").encode())


def as_parquet_text(path):
    image, participant, clicks, catch, mobile = zip(*TRIALS, strict=True)
    table = {"image_path": image, "user_id": participant, "clicks": [text_of(one) for one in clicks], "note": image}
    pq.write_table(pa.table(table | {"user_catch_trial": catch, "is_mobile": mobile}), path)


def as_parquet_lists(path):
    image, participant, clicks, catch, mobile = zip(*TRIALS, strict=True)
    xy = {name: pa.array([axis(one, k) for one in clicks], pa.list_(pa.float64())) for k, name in enumerate("xy")}
    mobile = [[] if one is None else [one] for one in mobile]
    table = {"image_path": image, "user_id": participant, **xy, "catch_score": catch, "is_mobile": mobile}
    pq.write_table(pa.table(table), path)


def as_archive(path):
    image, participant, clicks, catch, mobile = zip(*TRIALS, strict=True)
    np.savez(
        path,
        file_pointer=objects(image),
        clickmap_x=objects([np.array(axis(one, 0)) for one in clicks]),
        clickmap_y=objects([axis(one, 1) for one in clicks]),
        user_id=np.array(participant),
        user_catch_trial=objects([np.float64(one) if one is not None else [] for one in catch]),
        is_mobile=objects([[] if one is None else [np.bool_(one)] for one in mobile]),
        other=objects([lambda: 0, 1, 2][1:]),
    )


SOURCES = {
    "t.csv": as_csv,
    "python.csv": as_csv_of_python,
    "text.parquet": as_parquet_text,
    "lists.parquet": as_parquet_lists,
    "t.npz": as_archive,
    "without_suffix": as_parquet_text,
}


def all_trials(project):
    return pd.concat(list(read_trials(project)), ignore_index=True)


@pytest.mark.parametrize("name", SOURCES)
def test_every_format_gives_the_same_trials(project, images, tmp_path, name):
    SOURCES[name](tmp_path / name)
    done = import_clicks(project, tmp_path / name, images, workers=1)
    assert done.as_json() == {
        "trials": 5, "participants": 3, "images": 3, "clicks": 7, "empty": 1, "outside": 2,
        "unknown_class": 1, "classes_missing": False,
        "missing_trials": 0, "missing_images": 0, "missing": (), "skipped": False,
    }  # fmt: skip
    trials = all_trials(project)
    assert list(trials["row"]) == [2, 5, 1, 3, 4]
    expected = [TRIALS[row - 1] for row in trials["row"]]
    assert list(trials["image"]) == ["a_n00000001.png"] * 2 + ["b.png"] * 2 + ["c.JPEG"]
    assert list(trials["participant"]) == [one[1] for one in expected]
    assert [list(zip(x, y, strict=True)) for x, y in zip(trials["x"], trials["y"], strict=True)] == [
        one[2] for one in expected
    ]
    assert trials["catch"].tolist() == pytest.approx(
        [one[3] if one[3] is not None else np.nan for one in expected], nan_ok=True
    )
    assert [None if pd.isna(one) else bool(one) for one in trials["mobile"]] == [one[4] for one in expected]
    table = read_images(project)
    assert list(table["sha256"]) == [sha256(images / one) for one in ("a_n00000001.png", "n00000002/b.png", "c.JPEG")]
    assert table[["image", "width", "height", "label"]].to_numpy().tolist() == [
        ["a_n00000001.png", 30, 20, 0],
        ["b.png", 30, 20, 1],
        ["c.JPEG", 40, 30, -1],
    ]
    assert pq.read_schema(project.participants / "trials.parquet").equals(TRIALS_SCHEMA)
    assert pq.read_schema(project.participants / "images.parquet").equals(IMAGES_SCHEMA)


def test_the_same_again_writes_nothing_and_another_needs_replace(project, images, tmp_path):
    file = tmp_path / "t.csv"
    file.write_text(csv_of(TRIALS))
    import_clicks(project, file, images, workers=1)
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in project.participants.iterdir()}
    assert import_clicks(project, file, images, workers=1).skipped
    file.write_text(csv_of(TRIALS[:4]))
    with pytest.raises(DataError, match="exists with other content: move it away, or give --replace"):
        import_clicks(project, file, images, workers=1)
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in project.participants.iterdir()} == before
    done = import_clicks(project, file, images, workers=1, replace=True)
    assert (done.skipped, len(all_trials(project))) == (False, 4)


def test_trials_of_missing_images_are_counted_and_listed(project, images, tmp_path):
    gone = [(f"x/gone{k % 25}.png", "ann", [(1, 1)], None, None) for k in range(30)]
    (tmp_path / "t.csv").write_text(csv_of(TRIALS[:2] + gone + TRIALS[2:]))
    done = import_clicks(project, tmp_path / "t.csv", images, workers=1)
    assert (done.trials, done.missing_trials, done.missing_images) == (5, 30, 25)
    assert done.missing == tuple(f"x/gone{k}.png" for k in range(20))
    assert list(all_trials(project)["row"]) == [2, 35, 1, 33, 34]


def test_sorting_does_not_depend_on_how_much_fits_into_memory(project, images, tmp_path, monkeypatch):
    rng = np.random.default_rng(3)
    names = ["b.png", "a_n00000001.png", "c.JPEG", "unseen.png"]
    trials = [
        (names[rng.integers(4)], f"p{rng.integers(50)}", rng.integers(0, 20, (rng.integers(6), 2)).tolist(), 1.0, False)
        for _ in range(3000)
    ]
    (tmp_path / "t.csv").write_text(csv_of(trials))
    import_clicks(project, tmp_path / "t.csv", images, workers=1)
    in_one = all_trials(project)
    order = sorted(range(3000), key=lambda row: (names_last(trials[row][0]), row))
    assert list(in_one["row"] - 1) == order
    monkeypatch.setattr(_trial_sorter, "RUN", 10_000)
    monkeypatch.setattr(_trial_sorter, "PIECE", 7)
    monkeypatch.setattr(_trial_sorter, "RANGE", 5_000)
    monkeypatch.setattr(_click_tables, "BLOCK", 2_000)
    import_clicks(project, tmp_path / "t.csv", images, workers=1, replace=True)
    assert pq.ParquetFile(project.participants / "trials.parquet").num_row_groups == 4
    pd.testing.assert_frame_equal(all_trials(project), in_one)


def names_last(path):
    return path.rsplit("/", 1)[-1]


def test_swapped_coordinates_are_suspected_and_swapped_on_request(project, tmp_path):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (100, 40)).save(tmp_path / "images" / "a.png")
    clicks = [(x, y) for x in range(0, 100, 5) for y in range(0, 40, 5)]
    (tmp_path / "t.csv").write_text(csv_of([("a.png", "ann", [(y, x) for x, y in clicks], None, None)]))
    with pytest.raises(
        DataError, match=r"60% of the clicks lie outside their images, 0% if x and y are swapped: they are, give --swap"
    ):
        import_clicks(project, tmp_path / "t.csv", tmp_path / "images", workers=1)
    assert not has_participants(project)
    assert not project.participants.exists()
    import_clicks(project, tmp_path / "t.csv", tmp_path / "images", swap=True, workers=1)
    trials = all_trials(project)
    assert list(zip(trials["x"][0], trials["y"][0], strict=True)) == clicks


def test_images_of_one_name_are_told_apart_by_their_folders(project, tmp_path):
    for folder in "uv":
        (tmp_path / "images" / folder).mkdir(parents=True)
        Image.new("RGB", (30, 20), (ord(folder), 0, 0)).save(tmp_path / "images" / folder / "1.png")
    (tmp_path / "t.csv").write_text(csv_of([("old/v/1.png", "ann", [(1, 1)], None, None)]))
    import_clicks(project, tmp_path / "t.csv", tmp_path / "images", workers=1)
    assert read_images(project)["sha256"][0] == sha256(tmp_path / "images/v/1.png")


KILLED = """
import os, signal, sys
from pathlib import Path
from advalign.data.imports import clicks
from advalign.files import Project
place, count = sys.argv[4], 0
def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
def dying_replace(self, target, replace=Path.replace):
    global count
    count += 1
    done = replace(self, target)
    if place == f"rename{count}":
        die()
    return done
Path.replace = dying_replace
if place == "writing":
    clicks._refuse_misplaced = die
if place == "reading":
    clicks.read_images = die
clicks.import_clicks(Project(Path(sys.argv[1])), Path(sys.argv[2]), Path(sys.argv[3]), workers=1, replace=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("place", ["reading", "writing", "rename1", "rename2"])
@pytest.mark.parametrize("others", [False, True], ids=["fresh", "over others"])
def test_a_killed_import_leaves_both_files_or_none_and_runs_again(project, images, tmp_path, place, others):
    file = tmp_path / "t.csv"
    if others:
        file.write_text(csv_of([("unseen.png", "eve", [(1, 1)], None, None)]))
        import_clicks(project, file, images, workers=1)
    file.write_text(csv_of(TRIALS))
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, project.root, file, images, place], check=False, cwd=REPOSITORY
    )
    assert ended.returncode == -signal.SIGKILL
    if has_participants(project):
        clicked = set(all_trials(project)["image"])
        assert clicked == set(read_images(project)["image"])
        assert clicked == ({"a_n00000001.png", "b.png", "c.JPEG"} if place == "rename2" else {"unseen.png"})
    else:
        assert place == "rename1" or not others
    assert not [path for path in (project.root / "outputs").iterdir() if path.name != ".import.lock"]
    assert import_clicks(project, file, images, workers=1, replace=True).skipped == (place == "rename2")
    assert sorted(path.name for path in project.participants.iterdir()) == ["images.parquet", "trials.parquet"]
    assert list(all_trials(project)["row"]) == [2, 5, 1, 3, 4]


def test_the_command_reports_counts(project, images, tmp_path):
    (tmp_path / "t.csv").write_text(csv_of([*TRIALS, ("gone.png", "ann", [], None, None)]))
    words = ["data", "import", "clicks", str(tmp_path / "t.csv"), "--images", str(images), "--workers", "1"]
    ended = typed(project.root, *words)
    assert ended.returncode == 0
    assert "5 trials of 3 participants on 3 images in data/participants: 7 clicks, 2 of them outside" in ended.stdout
    assert f"1 trials left out: 1 of their images are not in {images} or below: gone.png\n" in ended.stdout
    assert json.loads(typed(project.root, *words, "--json").stdout)["skipped"] is True


def test_arrays_of_every_protocol_are_read_by_stand_ins():
    values = [
        np.arange(3, dtype="<i8"),
        np.array([1.5, 2], ">f4"),
        np.float32(0.5),
        np.array(["é", "bc"]),
        objects([1, "x", [2]]),
    ]
    for protocol in range(2, 6):
        read = read_pickle(io.BytesIO(pickle.dumps(values, protocol)))
        assert all(isinstance(one, Array) for one in (read[0], read[1], read[3], read[4]))
        assert [np.asarray(one.values).tolist() for one in (read[0], read[1], read[3])] == [
            [0, 1, 2],
            [1.5, 2],
            ["é", "bc"],
        ]
        assert (read[2], read[4].values) == (0.5, [1, "x", [2]])
