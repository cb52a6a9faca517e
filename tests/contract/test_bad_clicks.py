"""Bad trials at the command line: one line that names file, row and fix, exit 2, and nothing half-written."""

import gzip
import json
import os
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from advalign.data.participants import read_trials
from advalign.files import Project
from tests.bare_project import bare_project
from tests.pipeline.conftest import typed

HEADER = "image_path,clicks,user_id"
GOOD = 'a.png,"{""(1,2)"",""(3,4)""}",ann'
PROGRESS = re.compile(r"importing: \d+/\d+ .*\n")
ROW_2 = "row 2 (without the header)"


class Boom:
    def __reduce__(self):
        return os.mkdir, ("never",)


@pytest.fixture
def root(tmp_path):
    """A project, and beside it images: a.png and wide b.png, and two files of one name."""
    project = bare_project(tmp_path / "project")
    for folder in ("u", "v"):
        (tmp_path / "images" / folder).mkdir(parents=True)
        Image.new("RGB", (8, 8), (ord(folder), 0, 0)).save(tmp_path / "images" / folder / "twin.png")
    Image.new("RGB", (30, 20)).save(tmp_path / "images" / "a.png")
    Image.new("RGB", (100, 40)).save(tmp_path / "images" / "b.png")
    (tmp_path / "images" / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return project.root


def rows(*lines, header=HEADER):
    return "\n".join([header, GOOD, *lines]).encode() + b"\n"


def trial(clicks="{(1,2)}", user="bob", image="a.png"):
    return f'{image},"{clicks}",{user}'


def parquet(**columns):
    def write(path):
        known = {"image_path": ["a.png"] * 2, "user_id": ["ann", "bob"], "x": [[1, 2], [3]], "y": [[1, 2], [3]]}
        pq.write_table(pa.table({name: one for name, one in (known | columns).items() if one is not None}), path)

    return write


def archive(**arrays):
    def write(path):
        known = {"file_pointer": ["a.png"] * 2, "clickmap_x": [[1, 2], [3]], "clickmap_y": [[1, 2], [3]]}
        np.savez(path, **{name: objects(one) for name, one in (known | {"user_id": ["ann", "bob"]} | arrays).items()})

    return write


def objects(values):
    if isinstance(values, np.ndarray):
        return values
    array = np.empty(len(values), object)
    array[:] = values
    return array


def cut(write):
    def written(path):
        write(path)
        path.write_bytes(path.read_bytes()[:-100])

    return written


WIDE = [(x, y) for x in range(0, 100, 5) for y in range(0, 40, 5)]
BAD = {  # kind: (name of the file, its content or what writes it, what is told)
    "broken pair": ("t.csv", rows(trial("{(1,2),(3")), (ROW_2, "clicks are '{(1,2),(3', expected pairs such as {(")),
    "three coordinates": ("t.csv", rows(trial("{(1,2,3)}")), (ROW_2, "'{(1,2,3)}'")),
    "no brackets": ("t.csv", rows(trial("1,2,3,4")), (ROW_2, "expected pairs")),
    "no comma between pairs": ("t.csv", rows(trial("{(1,2)(3,4)}")), (ROW_2, "expected pairs")),
    "code in clicks": ("t.csv", rows(trial("__import__('os')")), (ROW_2, "expected pairs")),
    "float text": ("t.csv", rows(trial("{(1.2.3,4)}")), (ROW_2, "'{(1.2.3,4)}'")),
    "no number": ("t.csv", rows(trial("{(nan,1)}")), (ROW_2, "'{(nan,1)}'")),
    "long broken text": ("t.csv", rows(trial("(1,2)," * 90 + "(3")), (ROW_2, "542 characters, which end in", ",(3'")),
    "huge": ("t.csv", rows(trial("{(3,4),(1,10000000000)}")), (ROW_2, "the y coordinate 1e+10, expected pixels")),
    "infinite": ("t.csv", rows(trial("{(-1e999,1)}")), (ROW_2, "the x coordinate -inf")),
    "negative": ("t.csv", rows(*[trial("{(-5,1),(-9,-1)}")] * 2), ("67% of the clicks lie outside", "name the images")),
    "of a larger image": ("t.csv", rows(*[trial("{(500,300)}")] * 9), ("82% of the clicks", "in their pixels")),
    "swapped": (
        "t.csv",
        rows(trial(", ".join(f"({y}, {x})" for x, y in WIDE), image="b.png")),
        ("59% of the clicks lie outside their images, 0% if x and y are swapped: they are, give --swap",),
    ),
    "no participant": ("t.csv", rows(trial(user=" ")), (ROW_2, "user_id is empty", "fix that row")),
    "no image": ("t.csv", rows(trial(image="")), (ROW_2, "image_path is empty")),
    "NUL": ("t.csv", rows(trial(user="b\0b")), (ROW_2, r"user_id 'b\x00b' has control characters")),
    "NUL in clicks": ("t.csv", rows(trial("{(1,\0)}")), (ROW_2, r"'{(1,\x00)}'")),
    "Latin-1": ("t.csv", rows().replace(b"ann", "j\xfcrg".encode("latin1")), ("row 1 (without", "is not UTF-8 text")),
    "endless name": ("t.csv", rows(trial(user="x" * 501)), (ROW_2, "has 501 bytes")),
    "catch in percent": ("t.csv", rows(header=f"{HEADER},catch_score").replace(b",ann", b",ann,95"),
                         (
                             "row 1 (without",
                             "catch_score is '95', expected a share from 0 to 1, or nothing: divide percentages by 100",
                         )),
    "catch in words": ("t.csv", rows(header=f"{HEADER},user_catch_trial").replace(b",ann", b",ann,good"),
                       ("user_catch_trial is 'good'",)),
    "mobile perhaps": ("t.csv", rows(header=f"{HEADER},is_mobile").replace(b",ann", b",ann,perhaps"),
                       ("is_mobile is 'perhaps', expected true or false",)),
    "too few values": ("t.csv", rows("a.png,ann"), (ROW_2, "has 2 values, the header 3 ('a.png,ann')")),
    "clicks without quotes": ("t.csv", rows("a.png,{(1,2)},ann"), (ROW_2, "has 4 values", "stands in double quotes")),
    "open quote": ("t.csv", rows('a.png,"{(1,2)},ann', trial()), (ROW_2, "fix that row")),
    "open quote in a long file": ("t.csv", rows('a.png,"{(1,2)},ann', *["a.png,,ann"] * 1_200_000),
                                  ("t.csv: a row after row 1 is longer than 4 MiB: perhaps a quote is not closed",)),
    "broken deep in a long file": ("t.csv", rows(*[GOOD] * 250_000, trial("{(1,2),(3,}"), *[GOOD] * 50_000),
                                   ("row 250002 (without the header): clicks are",)),
    "short deep in a long file": ("t.csv", rows(*[GOOD] * 250_000, "a.png", *[GOOD] * 50_000),
                                  ("row 250002 (without the header) has 1 values",)),
    "empty": ("t.csv", b"", ("t.csv is empty",)),
    "header only": ("t.csv", HEADER.encode() + b"\n", ("t.csv: no trials in it",)),
    "no header": ("t.csv", GOOD.encode(), ("column image_path is missing", "expected image_path, user_id and clicks")),
    "no column of clicks": ("t.csv", b"image_path,user_id\na.png,ann\n", ("column clicks is missing",)),
    "a column twice": ("t.csv", b"image_path,user_id,clicks,clicks\na.png,ann,,\n", ("clicks is there twice: remove",)),
    "semicolons": ("t.csv", rows().replace(b",", b";"), ("separated by semicolons, expected commas: save it with",)),
    "tabs": ("t.csv", rows().replace(b",", b"\t"), ("separated by tabs",)),
    "UTF-16": ("t.csv", rows().decode().encode("utf-16"), ("looks like UTF-16 text: save it in UTF-8",)),
    "packed": ("t.csv", gzip.compress(rows()), ("looks like gzip data: unpack it",)),
    "web page": ("t.csv", b"<!DOCTYPE html>\n<html>", ("looks like a web page",)),
    "Git LFS": ("t.csv", b"version https://git-lfs.github.com/spec/v1\n", ("Git LFS pointer",)),
    "missing images": ("t.csv", rows().replace(b"a.png", b"z.png"), ("none of its images ('z.png' ...) is in",)),
    "ambiguous image": ("t.csv", rows(trial(image="twin.png")), (ROW_2, "'twin.png' may be u/twin.png or v/twin.png")),
    "two images of one name": ("t.csv", rows(trial(image="u/twin.png"), trial(image="v/twin.png")),
                               ("row 3 (without the header)", "have one name", "rename one of them")),
    "damaged image": ("t.csv", rows(trial(image="cut.png")), ("cut.png cannot be read as an image",)),
    "columns swapped": ("t.csv", b'image_path,clicks,user_id\nann,"{(1,2)}",a.png\n',
                        ("none of its images ('ann' ...)", "or these columns are swapped")),
    "shares of the image": (
        "t.csv",
        HEADER.encode() + b"\n" + trial(",".join(f"({k / 20},1)" for k in range(1, 21))).encode(),
        ("t.csv: all x and y lie in 0 .. 1", "look like shares of the image: multiply them by its width and height"),
    ),
    "clicks NaN": ("t.csv", rows(trial("NaN")), (ROW_2, "clicks are 'NaN', expected pairs or nothing: leave it empty")),
    "a row per click": ("t.csv", b"image_path,user_id,x,y\na.png,ann,1.5,2\n", ("one row per click: group them into",)),
    "lists as text": ("t.csv", b'image_path,user_id,x,y\na.png,ann,"[1]","[2]"\n', ("x and y in one column clicks",)),
    "a picture": ("t.csv", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", ("t.csv is binary data: name a CSV file",)),
    "parquet called a CSV": ("t.csv", parquet(), ("t.csv is binary data: name a CSV file, or one that ends in .parq",)),
    "a picture without suffix": ("t", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", ("t is binary data: name a CSV file",)),
    "an array": ("t.csv", lambda path: np.save(path.open("wb"), np.arange(9)), ("t.csv is binary data",)),
    "old line ends": ("t.csv", rows().replace(b"\n", b"\r"), ("t.csv: its lines end in carriage returns alone",)),
    "missing file": ("t.csv", None, ("t.csv cannot be read (No such file or directory): name an existing file",)),
    "a folder": ("t.csv", lambda path: path.mkdir(), ("t.csv is a folder, expected a regular file",)),
    "a pipe": ("t.csv", os.mkfifo, ("t.csv is a named pipe",)),
    "parquet cut short": ("t.parquet", cut(parquet()), ("t.parquet cannot be read as parquet", "fetch it again")),
    "no parquet": ("t.parquet", rows(), ("t.parquet looks like text ('image_path,c' ...)",)),
    "unequal lists": ("t.parquet", parquet(y=[[1, 2], [3, 4]]), (ROW_2, "x and y have 1 and 2 values")),
    "lists of text": ("t.parquet", parquet(x=[["a"], ["b"]]), ("x is a column of list<", "expected lists of numbers")),
    "no lists": ("t.parquet", parquet(x=[1, 2]), ("x is a column of int64, expected lists", "one row per click")),
    "x alone": ("t.parquet", parquet(y=None), ("column y is missing",)),
    "NaN in a list": ("t.parquet", parquet(x=[[1, 2], [np.nan]]), (ROW_2, "the x coordinate nan")),
    "null in a list": ("t.parquet", parquet(x=[[1, 2], [None]]), (ROW_2, "the x coordinate nan")),
    "participant null": ("t.parquet", parquet(user_id=["ann", None]), (ROW_2, "user_id is empty")),
    "participants of halves": ("t.parquet", parquet(user_id=[0.5, 1.5]), ("user_id is a column of double, expected",)),
    "archive cut short": ("t.npz", cut(archive()), ("t.npz is damaged, or no NumPy archive",)),
    "no archive": ("t.npz", rows(), ("t.npz looks like text",)),
    "code in an archive": ("t.npz", archive(user_id=["ann", Boom()]),
                           ("user_id.npy names 'posix.mkdir'", "may run code when read, and is refused: save it")),
    "archive of different lengths": ("t.npz", archive(user_id=["ann"]), ("different lengths", "user_id 1")),
    "archive of unequal clicks": ("t.npz", archive(clickmap_x=[[1, 2], [3, 4, 5]]),
                                  (ROW_2, "clickmap_x and clickmap_y have 3 and 1 values")),
    "archive of a row per click": ("t.npz", archive(clickmap_x=[1, 2], clickmap_y=[1, 2]),
                                   ("row 1 (without", "clickmap_x is 1", "one row per click: group them")),
    "archive of words": ("t.npz", archive(clickmap_x=[[1, 2], ["b"]]), (ROW_2, "clickmap_x is ['b'], expected a list")),
    "archive of an infinite click": ("t.npz", archive(clickmap_y=[[1, 2], [np.inf]]), (ROW_2, "expected a list")),
    "archive of two dimensions": ("t.npz", archive(user_id=np.array([["ann"], ["bob"]])), ("2 dimensions",)),
    "archive without participants": ("t.npz", lambda path: np.savez(path, file_pointer=np.array(["a.png"])),
                                     ("column user_id is missing",)),
}  # fmt: skip


def command(root, file, images=None):
    folder = images or root.parent / "images"
    return ["data", "import", "clicks", str(file), "--images", str(folder), "--workers", "1"]


def refused(root, file, *options, images=None):
    """Run the import; the line of its error. Nothing of the project may be changed."""
    before = content(root)
    ended = typed(root, *command(root, file, images), *options)
    error = PROGRESS.sub("", ended.stderr)
    assert (ended.returncode, ended.stdout) == (2, ""), error
    assert error.startswith("advalign: error: ")
    assert error.count("\n") == 1
    assert "Traceback" not in error
    assert content(root) == before
    return error


def content(root):
    return {
        path: path.read_bytes() if path.is_file() else b"" for path in root.rglob("*") if "outputs" not in path.parts
    } | {path: b"" for path in root.glob("outputs/*") if path.name != ".import.lock"}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_source_is_refused_in_one_line(root, kind):
    name, written, told = BAD[kind]
    file = root.parent / name
    if callable(written):
        written(file)
    elif written is not None:
        file.write_bytes(written)
    line = refused(root, file)
    for fragment in (told,) if isinstance(told, str) else told:
        assert fragment in line
    assert not (root / "never").exists()


@pytest.mark.parametrize(
    ("images", "told"),
    [
        ("nowhere", "is not a folder: name the one"),
        ("images/a.png", "is not a folder"),
        ("project", "no images (.JPEG"),
    ],
)
def test_a_folder_without_images_is_refused(root, images, told):
    (root.parent / "t.csv").write_bytes(rows())
    assert told in refused(root, root.parent / "t.csv", images=root.parent / images)


CORNER = [(x / 2, y / 2) for x in range(3) for y in range(3)] * 3


@pytest.mark.parametrize(
    "clicks",
    [CORNER[:19], [(x % 2, x % 3 % 2) for x in range(30)], [*CORNER, (1.5, 0)], [*CORNER, (-0.5, 0)]],
    ids=["few clicks", "whole numbers", "one beyond", "one before"],
)
def test_clicks_in_the_corner_are_not_taken_for_shares(root, clicks):
    text = ",".join(f"({x},{y})" for x, y in clicks)
    (root.parent / "t.csv").write_text(f"{HEADER}\n{trial(text)}\n")
    ended = typed(root, *command(root, root.parent / "t.csv"))
    assert ended.returncode == 0, ended.stderr
    (trials,) = read_trials(Project(root))
    assert len(trials["x"][0]) == len(clicks)


def test_images_of_no_known_class_are_said(root):
    file = root.parent / "t.csv"
    file.write_bytes(rows(trial(image="b.png")))
    ended = typed(root, *command(root, file))
    assert (
        "\n2 images have no known class: data/classes.yaml is missing: run `advalign data import classes` first if the "
        "maps are to become shards\n"
    ) in ended.stdout
    (root / "data" / "classes.yaml").write_text("0: {wnid: n00000001, name: a, superclass: null, animate: false}\n")
    Image.new("RGB", (100, 40)).save(root.parent / "images" / "n00000001.png")
    file.write_bytes(rows(trial(image="n00000001.png")))
    ended = typed(root, *command(root, file), "--replace")
    assert "\n1 images have no known class: no wnid of data/classes.yaml is in the name" in ended.stdout
    told = json.loads(typed(root, *command(root, file), "--replace", "--json").stdout)
    assert (told["unknown_class"], told["classes_missing"]) == (1, False)
    file.write_bytes(f"{HEADER}\n{trial(image='n00000001.png')}\n".encode())
    assert "class" not in typed(root, *command(root, file), "--replace").stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("data", "export"), "`advalign data export` needs a command: clickme; --help"),
        (("data", "export", "maps"), "No such command 'maps'; `advalign data export` has: clickme\n"),
        (("data", "import", "click"), "`advalign data import` has: classes, clickme, imagenet, "),
        (("data", "--nonsense"), "No such option: --nonsense\n"),
    ],
)
def test_a_missing_or_unknown_command_lists_those_that_there_are(root, words, told):
    ended = typed(root, *words)
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
    assert told in ended.stderr


def test_other_trials_stay_without_replace(root):
    file = root.parent / "t.csv"
    file.write_bytes(rows())
    assert typed(root, *command(root, file)).returncode == 0
    file.write_bytes(rows(trial()))
    assert "exists with other content: move it away, or give --replace" in refused(root, file)
    file.write_bytes(rows(trial("{(1,2),(3")))
    assert ROW_2 in refused(root, file, "--replace")


@pytest.mark.parametrize(
    ("source", "clicks"),
    [
        (b"\xef\xbb\xbf" + rows(), [2]),
        (rows().replace(b"\n", b"\r\n"), [2]),
        (rows(GOOD, GOOD), [2, 2, 2]),
        (rows(trial(""), trial("{}"), trial(" [ ] ")), [2, 0, 0, 0]),
        (rows("", trial("(1.5,-2.25),(3e0,.5)"), ""), [2, 2]),
        (rows(trial("['(1, 2)', '(3,4)']"), trial('"{(1,2)}"'.replace('"', '""'))), [2, 2, 1]),
        (rows(trial("{(-40,1),(1,1),(1,1)}")), [2, 3]),
        (rows(header=HEADER + ",is_mobile").replace(b",ann", b",ann,[True]"), [2]),
    ],
    ids=["BOM", "CRLF", "duplicates", "empty", "floats", "other brackets", "a click outside", "mobile in a list"],
)  # fmt: skip
def test_what_is_not_bad_is_stored_as_it_is(root, source, clicks):
    (root.parent / "t.csv").write_bytes(source)
    words = ["data", "import", "clicks", str(root.parent / "t.csv"), "--images", str(root.parent / "images")]
    ended = typed(root, *words, "--workers", "1")
    assert ended.returncode == 0, ended.stderr
    (trials,) = read_trials(Project(root))
    assert [len(x) for x in trials["x"]] == clicks
    assert list(trials["row"]) == list(range(1, len(clicks) + 1))
