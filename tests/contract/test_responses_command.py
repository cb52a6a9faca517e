"""`advalign data import responses` and `data reliability` as docs/neural.md shows them."""

import json
import re
import shlex
import sys
from contextlib import chdir
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest

from advalign.cli.main import run
from tests.bare_project import bare_project
from tests.conftest import REFERENCE, REPOSITORY
from tests.responses import (
    repeated,
    signal,
    write_algonauts,
    write_brainio,
    write_nsd,
    write_tables,
    write_things,
    write_tvsd,
)

PAGE = (REPOSITORY / "docs" / "neural.md").read_text()
BLOCKS = re.findall(r"^```sh once\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
V4 = REFERENCE / "neural" / "v4_210325"


def documented(beginning):
    """The words of a command in the page's blocks, by how it begins."""
    lines = "\n".join(BLOCKS).replace("\\\n", " ").splitlines()
    (line,) = (line for line in lines if line.startswith(beginning))
    return shlex.split(line, comments=True)[1:]


@pytest.fixture
def folder(tmp_path):
    return bare_project(tmp_path).root


def typed(folder, capfd, *words):
    capfd.readouterr()
    argv = patch.object(sys, "argv", ["advalign", *map(str, words)])
    with chdir(folder), argv, pytest.raises(SystemExit) as ended:
        run()
    told = capfd.readouterr()
    assert not ended.value.code, told.err
    return told.out


def test_the_first_day_with_nsd(folder, capfd):
    betas = folder / "my" / "nsd" / "subj01" / "betas_fithrf_GLMdenoise_RR"
    write_nsd(betas)
    (betas / "nsd_expdesign.mat").rename(folder / "my" / "nsd" / "nsd_expdesign.mat")
    (betas.parent / "roi").mkdir()
    for name in ("prf-visualrois", "streams"):
        (betas / f"{name}.nii.gz").rename(betas.parent / "roi" / f"{name}.nii.gz")
    words = [word.replace("/my/", f"{folder}/my/") for word in documented("advalign data import responses nsd")]
    out = typed(folder, capfd, *words, "--sessions", 2)
    assert "measured: 1500 trials in 2 sessions of 500 images in data/responses/nsd1.h5\n" in out
    assert "areas: subj01 V1 2, subj01 hV4 1, subj01 ventral 1\n" in out
    assert "normalisation: z-scored within session; SHA-256 of 0 image files known\n" in out
    assert "\nnext: `advalign data reliability nsd1`, then `dvc add data`" in out
    assert "(already imported)" in typed(folder, capfd, *words, "--sessions", 2)
    out = typed(folder, capfd, *documented("advalign data reliability"))
    assert "nsd1: measured responses, z-scored within session" in out
    assert re.search(r"subj01 +V1 +2 +500 +3.000 +0\.\d{3} +0\.\d{3} to 0\.\d{3} .* yes", out)
    told = json.loads(typed(folder, capfd, "data", "reliability", "nsd1", "--json"))
    assert told["provenance"] == "measured" and told["unreliable"] == []
    assert [one["roi"] for one in told["areas"]] == ["V1", "hV4", "ventral"]
    assert all(one["above_zero"] and 0.8 < one["ceiling"] < 0.9 for one in told["areas"])


def test_ones_own_arrays_with_images(folder, capfd):
    ids = write_tables(folder, 30)
    np.save(folder / "responses_raw.npy", repeated(signal(30, 3), 4).transpose(2, 1, 0))
    (folder / "images").mkdir()
    for one in ids:
        (folder / "images" / f"{one}.png").write_bytes(one.encode())
    words = documented("advalign data import responses arrays")
    out = typed(folder, capfd, *words)
    assert "measured: 120 trials in 1 sessions of 30 images in data/responses/v4.h5\nareas: V1 2, V4 1\n" in out
    assert "SHA-256 of 30 image files known" in out
    told = json.loads(typed(folder, capfd, *words, "--json"))
    assert told["skipped"] is True and told["known_files"] == 30 and told["areas"] == {"V1": 2, "V4": 1}


@pytest.mark.parametrize(
    ("write", "words", "told"),
    [
        (
            lambda folder: write_algonauts(folder / "subj01"),
            "algonauts subj01",
            "areas: subj01 V1 3, subj01 hV4 1, subj",
        ),
        (write_things, "things-fmri . --subject sub-01", "areas: sub-01 V1 2, sub-01 LOC 2, sub-01 IT 1"),
        (write_tvsd, "tvsd THINGS_normMUA.mat --things things_imgs.mat --monkey F", "monkeyF V1 512, monkeyF IT 320"),
        (
            lambda folder: write_brainio(folder / "a.nc", signal(20, 2)[:, :, None], [*"abcdefghij"] * 2, ["V4", "IT"]),
            "brainio a.nc --time-bin 70-170 --force",
            "areas: nano V4 1, nano IT 1",
        ),
    ],
)
def test_every_layout_by_its_command(folder, capfd, write, words, told):
    write(folder)
    assert told in typed(folder, capfd, "data", "import", "responses", *words.split(), "--name", "lab")


def test_areas_that_do_not_repeat_are_named(folder, capfd):
    write_tables(folder, 40)
    reps = repeated(signal(40, 3), 4)
    reps[..., 2] = np.random.default_rng(2).normal(size=(4, 40))
    np.save(folder / "responses_raw.npy", reps.transpose(2, 1, 0))
    (folder / "images").mkdir()
    for number in range(40):
        (folder / "images" / f"im{number:02d}.png").touch()
    typed(folder, capfd, *documented("advalign data import responses arrays"))
    out = typed(folder, capfd, "data", "reliability", "v4")
    assert out.endswith("reliability is not above zero in V4: no target for training\n")


def test_what_the_page_says_of_the_file_is_so():
    for code in re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL):
        compile(code, "docs/neural.md", "exec")
        assert "mean_responses" in code


@pytest.mark.skipif(not V4.is_dir(), reason="needs ../shared/reference/neural: a session of V4")
def test_the_table_of_the_page_is_that_of_the_real_session(folder, capfd):
    pd.DataFrame({"id": [f"image{n:04d}" for n in range(1, 641)]}).to_csv(folder / "images.csv", index=False)
    pd.DataFrame({"roi": ["V4"] * 50}).to_csv(folder / "units.csv", index=False)
    words = ["data", "import", "responses", "arrays", V4 / "responses_raw.npy", "--images", "images.csv", "--units"]
    typed(
        folder, capfd, *words, "units.csv", "--axes", "units-images-repeats", "--provenance", "measured", "--name", "v4"
    )
    (row,) = (line for line in typed(folder, capfd, "data", "reliability", "v4").splitlines() if " V4 " in line)
    (shown,) = (line for line in PAGE.splitlines() if re.match(r" +V4 ", line))
    assert row.split() == shown.split()
