"""Brain responses that cannot be: one line that names the file and the fix, exit 2, and nothing is written."""

import re
import sys
from contextlib import chdir
from unittest.mock import patch

import h5py
import nibabel
import numpy as np
import pandas as pd
import pytest
from scipy.io import savemat
from scipy.spatial.distance import squareform

from advalign.cli.main import run
from advalign.files import Project
from tests.bare_project import bare_project
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

PROGRESS = re.compile(r"importing.*\d+/\d+")
ARRAY = "arrays betas.npy --images images.csv --units units.csv --provenance simulated --name lab"
REPEATS = f"{ARRAY} --axes units-images-repeats"
STIMULI = f"{ARRAY} --stimuli stimuli"
TRIALS = f"{ARRAY} --trials trials.csv"
RDMS = "rdms IT=rdm.npz --images images.csv --provenance measured --name lab"
BRAINIO = "brainio assembly.nc --name lab"
TVSD = "tvsd THINGS_normMUA.mat --things things_imgs.mat --monkey F --name lab"
ALGONAUTS = "algonauts subj01 --name lab"
THINGS = "things-fmri . --subject sub-01 --name lab"
NSD = "nsd . --design nsd_expdesign.mat --labels prf-visualrois.nii.gz --subject 1 --sessions 2 --name lab"


class Trap:
    """What a pickle runs when it is read."""

    def __reduce__(self):
        return (open, ("ran", "w"))


# what is wrong


def arrays(folder, change=lambda betas: betas, images=12):
    write_tables(folder, images)
    np.save(folder / "betas.npy", change(signal(12, 3)))


def having(write, *values, **named):
    """A writer with what is wrong filled in."""
    return lambda folder: write(folder, *values, **named)


def no_numbers(folder):
    arrays(folder)
    np.save(folder / "betas.npy", np.array([Trap()], object), allow_pickle=True)


def cut(folder):
    arrays(folder)
    whole = (folder / "betas.npy").read_bytes()
    (folder / "betas.npy").write_bytes(whole[:-20])


def instead(content):
    def write(folder):
        arrays(folder)
        (folder / "betas.npy").write_bytes(content)

    return write


def table(name, text):
    def write(folder):
        arrays(folder)
        (folder / name).write_text(text)

    return write


def unordered(folder):
    write_tables(folder, 30)
    reps = repeated(signal(30, 3), 4)
    random = np.random.default_rng(2)
    reps = np.stack([one[random.permutation(30)] for one in reps])
    np.save(folder / "betas.npy", reps.transpose(2, 1, 0))


def stimuli(folder, digest="", absent=()):
    arrays(folder)
    (folder / "stimuli").mkdir()
    ids = [f"im{number:02d}" for number in range(12)]
    for one in ids:
        if one not in absent:
            (folder / "stimuli" / f"{one}.png").write_bytes(one.encode())
    pd.DataFrame({"id": ids, "sha256": digest}).to_csv(folder / "images.csv", index=False)


def rdms(folder, change=lambda one: one, images=5, **more):
    write_tables(folder, images)
    np.savez(folder / "rdm.npz", rdm=change(squareform(np.arange(1.0, 11))), **more)


def twisted(one):
    one[0, 1] += 1
    return one


def hollow(one):
    one[2, 3] = one[3, 2] = np.nan
    return one


def brainio(folder, drop=(), **settings):
    bins = settings.pop("times", ((70, 170),))
    data = np.repeat(np.tile(signal(10, 2), (2, 1))[:, :, None], len(bins), axis=2)
    write_brainio(folder / "assembly.nc", data, [f"i{one}" for one in range(10)] * 2, ["V4", "IT"], bins, **settings)
    with h5py.File(folder / "assembly.nc", "r+") as file:
        for name in drop:
            del file[name]


def classic(folder):
    (folder / "assembly.nc").write_bytes(b"CDF\x01" + bytes(60))


def tvsd(folder, change):
    write_tvsd(folder)
    with h5py.File(folder / "THINGS_normMUA.mat", "r+") as file:
        change(file)


def turned(file):
    values = file["train_MUA"][...]
    del file["train_MUA"]
    file["train_MUA"] = values.T


def elsewhere(file):
    del file["train_MUA"]
    file["train_MUA"] = h5py.ExternalLink("/etc/passwd", "x")


def fewer_images(folder):
    write_tvsd(folder / "other", images=5)
    write_tvsd(folder)
    (folder / "other" / "things_imgs.mat").replace(folder / "things_imgs.mat")


def version_5(folder):
    write_tvsd(folder)
    savemat(folder / "THINGS_normMUA.mat", {"train_MUA": signal(3, 3)})


def algonauts(folder, name, value):
    write_algonauts(folder / "subj01")
    np.save(folder / "subj01" / name, value, allow_pickle=True)


def a_gap(folder):
    write_algonauts(folder / "subj01")
    (folder / "subj01" / "training_split" / "training_images" / "train-0003_nsd-00021.png").unlink()


def things(folder, kind, change):
    write_things(folder)
    path = folder / f"sub-01_{kind}Metadata.csv"
    change(pd.read_csv(path)).to_csv(path, index=False)


def nsd(folder, change):
    write_nsd(folder)
    change(folder)


def resaved(number, change):
    def save(folder):
        with h5py.File(folder / f"betas_session{number:02d}.hdf5", "r+") as file:
            betas = file["betas"][...]
            del file["betas"]
            file["betas"] = change(betas)

    return save


def labelled(values):
    def save(folder):
        volume = np.zeros((3, 4, 5), np.float32)
        volume.ravel()[: len(values)] = values
        nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), folder / "prf-visualrois.nii.gz")

    return save


def shortened(name):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:3000])


def silent(folder):
    with h5py.File(folder / "betas_session02.hdf5", "r+") as file:
        file["betas"][:, 2, 1, 0] = 7


def other_design(folder):
    write_nsd(folder / "other", sessions=0, seed=99)
    (folder / "other" / "nsd_expdesign.mat").replace(folder / "nsd_expdesign.mat")


def counting_from_0(folder):
    design = {"masterordering": np.arange(30_000.0)[None], "subjectim": np.ones((8, 30_000))}
    savemat(folder / "nsd_expdesign.mat", design)


MASKS = "roi_masks/"
BAD = {
    # arrays
    "no provenance": (arrays, ARRAY.replace("--provenance simulated ", ""), "Missing option '--provenance'"),
    "unknown provenance": (arrays, ARRAY.replace("simulated", "guessed"), "'guessed' is not one of 'measured', 'simu"),
    "a name that leaves the folder": (arrays, ARRAY.replace("lab", "../lab"), "'../lab' cannot name a set of respons"),
    "swapped axes": (having(arrays, np.transpose), ARRAY, "the axes are swapped: give --axes"),
    "too many axes": (having(arrays, lambda one: one[None]), ARRAY, "expected 2 axes (trials-units)"),
    "images of another data set": (having(arrays, images=9), ARRAY, "12 images and 3 units", "lists 9"),
    "NaN in all of a unit": (having(arrays, lambda one: one * [1, np.nan, 1]), ARRAY, "1 of 3 units"),
    "an infinite response": (having(arrays, lambda one: one / [1, 0, 1]), ARRAY, "unit 1 in trial 0 is"),
    "pickled objects": (no_numbers, ARRAY, "betas.npy holds Python objects, which may run code"),
    "cut off": (cut, ARRAY, "betas.npy is damaged, or no .npy array"),
    "a pointer of Git LFS": (instead(b"version https://git-lfs.github.com/spec/v1\n"), ARRAY, "`git lfs pull`"),
    "texts": (having(arrays, lambda one: one.astype("U8")), ARRAY, "holds <U8, expected numbers"),
    "no column of areas": (table("units.csv", "area\nV1\nV1\nV4\n"), ARRAY, "column roi is missing (it has area)"),
    "an area that is a path": (table("units.csv", "roi\nV1\n../x\nV4\n"), ARRAY, "units.csv: row 2: '../x' cannot"),
    "a ceiling in per cent": (table("units.csv", "roi,noise_ceiling\nV1,30\nV1,\nV4,1\n"), ARRAY, "not per cent"),
    "an image twice": (table("images.csv", "id\n" + "a\n" * 12), ARRAY, "images.csv: 'a' is in rows 1 and 2"),
    "a label in words": (table("images.csv", "id,label\na,dog\n"), ARRAY, "row 1: label is 'dog', expected a whole"),
    "an unknown split": (table("trials.csv", "image,split\nim00,val\n"), TRIALS, "split is 'val', expected train, val"),
    "a trial of no image": (table("trials.csv", "image\nnsd-00013\n"), TRIALS, "image 'nsd-00013' is not in the list"),
    "a session below 0": (table("trials.csv", "image,session\n" + "im01,-1\n" * 12), TRIALS, "number the sessions"),
    "wrong order of trials": (unordered, REPEATS, "repeats of an image agree in no area (split-half at", "--force"),
    "an image without a file": (having(stimuli, absent=["im03"]), STIMULI, "image 'im03' has no file"),
    "files of another data set": (having(stimuli, "0" * 64), STIMULI, "'im00' has SHA-256 0000", "anoth"),
    "no digest": (having(stimuli, "0" * 63), STIMULI, "row 1: sha256 is", "64 hexadecimal digits"),
    # dissimilarities
    "no area": (rdms, RDMS.replace("IT=", ""), "'rdm.npz' says no area: give AREA=FILE"),
    "not symmetric": (having(rdms, twisted), RDMS, "a matrix is not symmetric"),
    "similarities": (having(rdms, lambda one: 1 - one / 9), RDMS, "a diagonal holds 1, expected 0"),
    "NaN in a matrix": (having(rdms, hollow), RDMS, "the matrix of subject 1 holds NaN"),
    "matrices of other images": (having(rdms, images=6), RDMS, "expected (subjects, 6, 6) or (subjects, 15)"),
    "two arrays": (having(rdms, more=np.ones(3)), RDMS, "several arrays (rdm, more)", "--variable"),
    "pickled matrices": (having(rdms, lambda one: np.array([Trap()])), RDMS, "no array of numbers"),
    # BrainIO
    "several time bins": (having(brainio, times=((70, 90), (90, 110))), BRAINIO, "70-90, 90-110): choose"),
    "another time bin": (brainio, f"{BRAINIO} --time-bin 0-9", "has no time bin 0-9: it has 70-170"),
    "no regions": (having(brainio, ["region"]), BRAINIO, "neuroid has no region or area"),
    "no responses": (having(brainio, ["data"]), BRAINIO, "neither data nor __xarray_dataarray_variable__"),
    "NetCDF 3": (classic, BRAINIO, "assembly.nc is not an assembly of BrainIO (NetCDF-4)"),
    # TVSD
    "a transposed matrix": (having(tvsd, turned), TVSD, "has shape (1024, 8), expected (8, 1024)", "swapped"),
    "a link out of the file": (having(tvsd, elsewhere), TVSD, "train_MUA is a link to something else"),
    "images of another monkey": (fewer_images, TVSD, "train_MUA has shape (8, 1024), expected (5, 1024) for monkey F"),
    "MATLAB 5": (version_5, TVSD, "THINGS_normMUA.mat is not THINGS_normMUA.mat of TVSD"),
    "unknown monkey": (write_tvsd, TVSD.replace("--monkey F", "--monkey Q"), "'Q' is not one of 'F', 'N'"),
    # Algonauts 2023
    "a mapping with code": (having(algonauts, MASKS + "mapping_streams.npy", {1: Trap()}), ALGONAUTS,
                            "mapping_streams.npy names 'io.open'", "may run code when read, and is refused"),
    "unknown labels": (having(algonauts, MASKS + "rh.streams_challenge_space.npy", np.array([9, 0, 0, 0])),
                       ALGONAUTS, "rh.streams_challenge_space.npy: label 9 has no name (known: 0 Unknown, 1 early"),
    "vertices of another subject": (having(algonauts, MASKS + "lh.streams_challenge_space.npy", np.ones(7)),
                                    ALGONAUTS, "has shape (7,), the responses 5 vertices"),
    "a missing picture": (a_gap, ALGONAUTS, "image train-0003 is missing"),
    # THINGS-fMRI
    "unknown area": (write_things, f"{THINGS} --areas V1,V9", "no area 'V9': name columns of it (areas: V1, V2, V3"),
    "voxels in another order": (having(things, "Voxel", lambda one: one[::-1]), THINGS, "another order"),
    "fewer trials": (having(things, "Stimulus", lambda one: one[:-3]), THINGS, "responses are (7, 110)"),
    "a ceiling above all": (having(things, "Voxel", lambda one: one.assign(nc_testset=300)), THINGS,
                            "nc_testset is 300"),
    # NSD
    "transposed volumes": (having(nsd, resaved(1, lambda one: one.transpose(0, 3, 2, 1))), NSD,
                           "volumes are (3, 4, 5), the labels need (5, 4, 3): the volume is transposed"),
    "another space": (having(nsd, resaved(2, lambda one: one[:, :4])), NSD, "labels of the same space"),
    "a missing session": (write_nsd, NSD.replace(" 2 ", " 3 "), "session 03 is missing (subject 1 has 40)", "--sess"),
    "a short session": (having(nsd, resaved(2, lambda one: one[:700])), NSD, "holds 700 trials, expected 7"),
    "a session cut off": (having(nsd, shortened("betas_session02.hdf5")), NSD, "betas_session02.hdf5: cannot"),
    "voxels that never change": (having(nsd, silent), NSD, "1 of 3 units have no response in a session"),
    "unknown numbers of areas": (having(nsd, labelled([1, 8])), NSD, "label 8 has no name (known: 1 V1"),
    "no voxel of an area": (having(nsd, labelled([0])), NSD, "no voxel is of an area"),
    "labels of what": (write_nsd, NSD.replace("prf-visualrois", "mine"), "which areas? its name must hold prf-vis"),
    "labels cut off": (having(nsd, lambda one: (one / "prf-visualrois.nii.gz").write_bytes(b"\x1f\x8b\x08")),
                       NSD, "prf-visualrois.nii.gz is damaged, or is not a label file of NSD"),
    "trials of another design": (having(nsd, other_design), NSD, "repeats of an image agree in no area"),
    "a design that counts from 0": (having(nsd, counting_from_0), NSD, "masterordering must count the"),
    "a ninth subject": (write_nsd, NSD.replace("--subject 1", "--subject 9"), "NSD has subjects 1 to 8"),
}  # fmt: skip


def ask(folder, capfd, words):
    """Run the command in a project in the folder: exit code and the lines of its errors."""
    capfd.readouterr()
    argv = patch.object(sys, "argv", ["advalign", *words])
    with chdir(folder), argv, pytest.raises(SystemExit) as ended:
        run()
    lines = [line for line in capfd.readouterr().err.splitlines() if not PROGRESS.search(line)]
    return ended.value.code, lines


@pytest.fixture
def folder(tmp_path):
    return bare_project(tmp_path).root


def test_there_are_at_least_25_kinds():
    assert len(BAD) >= 25


@pytest.mark.parametrize("name", BAD)
def test_one_line_says_what_is_wrong_and_nothing_is_written(name, folder, capfd):
    write, words, *told = BAD[name]
    write(folder)
    code, lines = ask(folder, capfd, ["data", "import", "responses", *words.split()])
    assert code == 2 and len(lines) == 1, lines
    assert lines[0].startswith("advalign: error: ")
    for fragment in told:
        assert fragment in lines[0]
    assert not list((folder / "data").rglob("*.h5")) and not list((folder / "data").rglob(".*"))
    assert not (folder / "ran").exists()


def test_nibabel_is_asked_for_where_it_is_missing(folder, capfd):
    write_nsd(folder)
    with patch.dict(sys.modules, {"nibabel": None}):
        code, lines = ask(folder, capfd, ["data", "import", "responses", *NSD.split()])
    assert code == 2 and len(lines) == 1
    assert "prf-visualrois.nii.gz needs nibabel: install it with `pip install 'advalign[neural]'`" in lines[0]


def test_reliability_of_what_has_none(folder, capfd):
    for words, told in [("lba", "unknown set of responses 'lba'"), ("../x", "'../x' cannot name a set of responses")]:
        code, lines = ask(folder, capfd, ["data", "reliability", words])
        assert code == 2 and len(lines) == 1 and told in lines[0]
    rdms(folder)
    assert ask(folder, capfd, ["data", "import", "responses", *RDMS.split()])[0] == 0
    code, lines = ask(folder, capfd, ["data", "reliability", "lab"])
    assert code == 2 and len(lines) == 1 and "holds dissimilarities, whose trials are averaged" in lines[0]
    path = Project(folder).data / "responses" / "lab.h5"
    path.write_bytes(path.read_bytes()[:500])
    code, lines = ask(folder, capfd, ["data", "reliability", "lab"])
    assert code == 2 and len(lines) == 1 and "lab.h5: cannot be read as a response store" in lines[0]
