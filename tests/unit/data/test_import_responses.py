"""Brain responses arrive with their numbers, whatever the layout; interrupted imports resume."""

import hashlib
import json

import h5py
import numpy as np
import pandas as pd
import pytest
from scipy.io import savemat
from scipy.spatial.distance import squareform

from advalign.data.imports.responses import _parts
from advalign.data.imports.responses._images import ImageFacts
from advalign.data.imports.responses._place import Order, place
from advalign.data.imports.responses.algonauts import TOLD, plan_algonauts
from advalign.data.imports.responses.arrays import ArrayTables, plan_arrays
from advalign.data.imports.responses.brainio import plan_brainio
from advalign.data.imports.responses.nsd import NsdFiles, plan_nsd
from advalign.data.imports.responses.rdms import plan_rdms
from advalign.data.imports.responses.things_fmri import plan_things_fmri
from advalign.data.imports.responses.tvsd import plan_tvsd
from advalign.data.responses import ResponseStore, need_responses
from advalign.errors import DataError
from advalign.files import sha256
from tests.bare_project import bare_project
from tests.conftest import REFERENCE
from tests.responses import (
    TRIALS,
    repeated,
    signal,
    write_algonauts,
    write_brainio,
    write_nsd,
    write_tables,
    write_things,
    write_tvsd,
)

NEURAL = REFERENCE / "neural"


@pytest.fixture
def project(tmp_path):
    return bare_project(tmp_path / "project")


def imported(project, plan, **settings):
    done = place(project, Order("lab", **settings), plan)
    return done, ResponseStore.open(need_responses(project, "lab"))


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, atol=2e-5, rtol=1e-5)


def test_an_array_of_trials(project, tmp_path):
    ids = write_tables(tmp_path, 3)
    betas = np.arange(15, dtype=np.float64).reshape(5, 3)
    np.save(tmp_path / "betas.npy", betas)
    (tmp_path / "trials.csv").write_text("image,session,split\nim02,0,\nim00,0,test\nim02,1,\nim01,1,\nim02,1,train\n")
    tables = ArrayTables(tmp_path / "images.csv", tmp_path / "units.csv", tmp_path / "trials.csv")
    done, store = imported(project, plan_arrays(tmp_path / "betas.npy", tables, normalisation="log"), force=True)
    close(store.read(), betas)
    assert store.images["id"].tolist() == ids and store.normalisation == done.normalisation == "log"
    assert store.trials["image"].tolist() == [2, 0, 2, 1, 2]
    assert store.trials["repeat"].tolist() == [0, 0, 1, 0, 2]
    assert store.trials["session"].tolist() == [0, 0, 1, 1, 1]
    assert store.trials["split"].tolist() == [0, 2, 0, 0, 0]
    assert done.areas == {"V1": 2, "V4": 1} and done.trials == 5 and done.sessions == 2
    assert store.sources == {
        one: sha256(tmp_path / one) for one in ("betas.npy", "images.csv", "trials.csv", "units.csv")
    }


@pytest.mark.parametrize("axes", ["trials-units", "units-images", "units-images-repeats", "images-units-repeats"])
@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_every_order_of_axes_is_the_same_store(project, tmp_path, axes, suffix):
    write_tables(tmp_path, 12)
    truth = repeated(signal(12, 3), 1)[0]
    array = {"trials-units": truth, "units-images": truth.T}.get(axes)
    if array is None:
        with_absent = np.stack([truth, np.full_like(truth, np.nan)], axis=2)
        array = with_absent if axes == "images-units-repeats" else with_absent.transpose(1, 0, 2)
    source = tmp_path / f"betas{suffix}"
    if suffix == ".npy":
        np.save(source, array)
    elif array.ndim == 2:
        pd.DataFrame(array, columns=[str(one) for one in range(array.shape[1])]).to_parquet(source)
    else:
        return  # a table has two axes
    _, store = imported(
        project, plan_arrays(source, ArrayTables(tmp_path / "images.csv", tmp_path / "units.csv"), axes)
    )
    close(store.read(), truth)
    assert store.units["noise_ceiling"].isna().all()  # nothing is repeated


def test_repeats_of_an_array_are_trials_without_the_absent_ones(project, tmp_path):
    write_tables(tmp_path, 30)
    reps = repeated(signal(30, 3), 4, noise=0.3)
    reps[3, :10] = np.nan
    np.save(tmp_path / "raw.npy", reps.transpose(2, 1, 0))
    tables = ArrayTables(tmp_path / "images.csv", tmp_path / "units.csv")
    done, store = imported(project, plan_arrays(tmp_path / "raw.npy", tables, "units-images-repeats"))
    assert done.trials == 110 and store.trials["repeat"].max() == 3
    images, means = store.mean_responses("V1")
    close(means, np.nanmean(reps, axis=0)[:, :2])
    assert images.tolist() == list(range(30)) and (store.units["noise_ceiling"] > 0.9).all()


def test_files_of_images_are_known_by_their_bytes(project, tmp_path):
    ids = write_tables(tmp_path, 3)
    for place_, one in enumerate(ids):
        (tmp_path / "stimuli" / f"of_{place_}").mkdir(parents=True)
        (tmp_path / "stimuli" / f"of_{place_}" / f"{one}.JPEG").write_bytes(one.encode())
    np.save(tmp_path / "betas.npy", signal(3, 3))
    table = pd.DataFrame({"id": ids, "file": ["of_0/im00.JPEG", "im01.jpg", "im02"], "label": [4, "", 0]})
    table.to_csv(tmp_path / "images.csv", index=False)
    tables = ArrayTables(tmp_path / "images.csv", tmp_path / "units.csv")
    facts = ImageFacts(tmp_path / "stimuli", tmp_path / "images.csv")
    done, store = imported(project, plan_arrays(tmp_path / "betas.npy", tables), facts=facts)
    assert store.images["sha256"].tolist() == [hashlib.sha256(one.encode()).hexdigest() for one in ids]
    assert store.images["label"].tolist() == [4, -1, 0] and done.known_files == 3
    table.assign(sha256=["0" * 64, "", ""]).to_csv(tmp_path / "images.csv", index=False)
    with pytest.raises(DataError, match=r"'im00' has SHA-256 0{12}..., its file .*: the images are those of another"):
        imported(project, plan_arrays(tmp_path / "betas.npy", tables), facts=facts)


@pytest.mark.parametrize("kind", ["npz", "npy", "mat", "mat73"])
def test_dissimilarities_of_several_subjects(project, tmp_path, kind):
    write_tables(tmp_path, 4)
    condensed = np.random.default_rng(3).random((3, 6))
    whole = np.stack([squareform(one) for one in condensed])
    path = tmp_path / f"rdm.{'mat' if kind == 'mat73' else kind}"
    if kind == "npz":
        np.savez(path, Net_RDM=whole)
    elif kind == "npy":
        np.save(path, condensed)
    elif kind == "mat":
        savemat(path, {"rdm": whole.transpose(1, 2, 0), "note": "IT"})
    else:
        with h5py.File(path, "w", userblock_size=512) as file:
            file["rdm"] = whole  # MATLAB's axes are reversed in the file
    done, store = imported(project, plan_rdms({"IT": path}, tmp_path / "images.csv"), provenance="simulated")
    close(store.rdms("IT"), condensed)
    assert store.subjects == ["s1", "s2", "s3"] and done.matrices == 3 and store.provenance == "simulated"


@pytest.mark.parametrize("axes", [None, ("neuroid", "presentation"), ("neuroid", "presentation", "time_bin")])
@pytest.mark.parametrize("name", ["data", "__xarray_dataarray_variable__"])
def test_an_assembly_of_brainio(project, tmp_path, axes, name):
    reps = repeated(signal(20, 4), 3)
    stimuli = [f"hash{number}" for number in range(20)]
    bins = ((70, 170), (170, 270))
    data = np.concatenate([np.stack([one, -one], axis=2) for one in reps])
    flat = axes is not None and "time_bin" not in axes
    source = tmp_path / "assembly.nc"
    regions = ["V4", "V4", "IT", "IT"]
    write_brainio(source, data[:, :, :1] if flat else data, stimuli * 3, regions, bins, name, axes)
    done, store = imported(project, plan_brainio(source, None if flat else (170.0, 270.0), "test"))
    assert done.areas == {"nano V4": 2, "nano IT": 2} and store.provenance == "measured"
    images, means = store.mean_responses("IT", split="test")
    assert store.images["id"][images].tolist() == stimuli and store.trials["repeat"].max() == 2
    close(means, (1 if flat else -1) * reps.mean(axis=0)[:, 2:])


def test_tvsd_knows_where_the_electrodes_of_each_monkey_are(project, tmp_path):
    train, reps = write_tvsd(tmp_path)
    plan = plan_tvsd(tmp_path / "THINGS_normMUA.mat", tmp_path / "things_imgs.mat", "F")
    done, store = imported(project, plan)
    assert done.areas == {"monkeyF V1": 512, "monkeyF IT": 320, "monkeyF V4": 192} and done.unreliable == []
    assert store.images["id"].tolist()[0] == "aardvark_00b" and store.images["id"].tolist()[-1] == "zebra_19s"
    close(store.mean_responses("IT", split="train")[1], train[:, 512:832])
    images, means = store.mean_responses("V4", split="test")
    close(means, np.nanmean(reps, axis=0)[:, 832:])
    assert images.tolist() == list(range(8, 28))
    assert (store.trials["image"] == 11).sum() == 5  # the repeat that was not recorded is no trial
    plan = plan_tvsd(tmp_path / "THINGS_normMUA.mat", tmp_path / "things_imgs.mat", "N")
    assert plan.units["roi"].value_counts().to_dict() == {"V1": 512, "V4": 256, "IT": 256}
    assert plan.units["roi"].iloc[[512, 767, 768]].tolist() == ["V4", "V4", "IT"]


def test_algonauts_names_vertices_by_the_first_set_that_has_them(project, tmp_path):
    left, right = write_algonauts(tmp_path / "subj01")
    done, store = imported(project, plan_algonauts(tmp_path / "subj01"))
    assert store.units["roi"].tolist() == ["V1", "V1", "hV4", "ventral", "ventral", "V1", "ventral"]
    assert store.images["id"].tolist() == [f"nsd-{number * 7:05d}" for number in range(1, 7)]
    assert store.images["sha256"].tolist() == [hashlib.sha256(b"picture %d" % one).hexdigest() for one in range(1, 7)]
    close(store.read(), np.concatenate([left[:, :4], right[:, [0, 1, 3]]], axis=1))
    assert store.units["noise_ceiling"].isna().all() and done.told == [TOLD]
    assert imported(project, plan_algonauts(tmp_path / "subj01", ["streams"]), replace=True)[1].rois == [
        "early",
        "ventral",
    ]


def test_things_fmri_takes_the_voxels_of_areas_and_its_sessions(project, tmp_path):
    responses, trials = write_things(tmp_path)
    done, store = imported(project, plan_things_fmri(tmp_path, "sub-01"))
    assert store.units["roi"].tolist() == ["V1", "V1", "LOC", "IT", "LOC"]  # a voxel of LOC and IT is of LOC
    close(store.read(), responses[:, [0, 1, 2, 4, 5]])
    assert store.trials["session"].tolist() == (trials["session"] - 1).tolist()
    assert store.trials["split"].tolist() == [0 if one == "train" else 2 for one in trials["trial_type"]]
    assert store.images["id"].tolist()[:2] == ["cat_10s", "cat_11s"]
    # of the 25 test images, four repeats each: 1 / (1 + .25 / 4) = .94, and the sessions' drift is no noise
    assert done.unreliable == [] and 0.9 < np.median(store.units["noise_ceiling"]) < 0.97


@pytest.mark.parametrize("kind", ["hdf5", "nifti", "mgh"])
def test_nsd_in_volumes_and_on_surfaces(project, tmp_path, kind):
    written = write_nsd(tmp_path, kind)
    sides = ("lh.", "rh.") if kind == "mgh" else ("",)
    ending = "mgz" if kind == "mgh" else "nii.gz"
    labels = [tmp_path / f"{side}{name}.{ending}" for name in ("prf-visualrois", "streams") for side in sides]
    files = NsdFiles(tmp_path, tmp_path / "nsd_expdesign.mat", labels)
    done, store = imported(project, plan_nsd(files, 1, sessions=2, normalise=False))
    voxels = [(0, 1, 2), (1, 0, 3), (2, 0, 0), (2, 3, 4)]
    assert store.units["roi"].tolist() == ["V1", "hV4", "ventral", "V1"] and done.sessions == 2
    close(store.read(), np.stack([written.betas[..., x, y, z].ravel() for x, y, z in voxels], axis=1))
    shown = [f"nsd-{number - 1:05d}" for number in written.image]
    assert store.images["id"].to_numpy()[store.trials["image"]].tolist() == shown
    assert (store.trials["split"] == written.shared).all() and store.trials["split"].sum() == 150
    assert store.trials["session"].tolist() == [0] * TRIALS + [1] * TRIALS
    # three repeats with noise .7: 1 / (1 + .49 / 3) = .86; the second session's level is no noise
    assert 0.8 < np.median(store.units["noise_ceiling"]) < 0.9 and done.unreliable == []


def test_nsd_is_z_scored_within_session(project, tmp_path):
    write_nsd(tmp_path)
    files = NsdFiles(tmp_path, tmp_path / "nsd_expdesign.mat", [tmp_path / "prf-visualrois.nii.gz"])
    _, store = imported(project, plan_nsd(files, 1, sessions=2))
    for session in (0, 1):
        one = store.read(None, (store.trials["session"] == session).to_numpy())
        close(one.mean(axis=0), 0)
        close(one.std(axis=0), 1)
    assert store.normalisation == "z-scored within session"


@pytest.mark.parametrize("damaged", [False, True])
def test_an_interrupted_import_resumes_after_the_last_session(project, tmp_path, monkeypatch, damaged):
    write_nsd(tmp_path)
    files = NsdFiles(tmp_path, tmp_path / "nsd_expdesign.mat", [tmp_path / "prf-visualrois.nii.gz"])
    reference, _ = imported(project, plan_nsd(files, 1, sessions=2))
    kept = need_responses(project, "lab").read_bytes()
    need_responses(project, "lab").unlink()
    write = _parts._write
    left = [True]

    def cut_off(file, session):
        write(file, session)
        if session.name == "session 2" and left.pop():
            raise KeyboardInterrupt

    monkeypatch.setattr(_parts, "_write", cut_off)
    with pytest.raises(KeyboardInterrupt):
        imported(project, plan_nsd(files, 1, sessions=2))
    assert list((project.data / "responses").iterdir()) == []
    left.append(False)
    if damaged:
        (part,) = (project.root / "outputs" / ".responses" / "lab").glob("*.h5")
        with h5py.File(part, "r+") as file:
            file["betas"][3, 0] += 1
    done, _ = imported(project, plan_nsd(files, 1, sessions=2))
    assert (reference.resumed, done.resumed) == (0, 0 if damaged else 1)
    assert need_responses(project, "lab").read_bytes() == kept
    assert not (project.root / "outputs" / ".responses" / "lab").exists()


def test_again_is_skipped_and_another_content_needs_replace(project, tmp_path):
    write_tables(tmp_path, 12)
    tables = ArrayTables(tmp_path / "images.csv", tmp_path / "units.csv")
    np.save(tmp_path / "betas.npy", signal(12, 3))
    assert not imported(project, plan_arrays(tmp_path / "betas.npy", tables))[0].skipped
    assert imported(project, plan_arrays(tmp_path / "betas.npy", tables))[0].skipped
    np.save(tmp_path / "betas.npy", signal(12, 3, seed=5))
    with pytest.raises(DataError, match=r"lab.h5 exists with other content: move it away, or give --replace"):
        imported(project, plan_arrays(tmp_path / "betas.npy", tables))
    assert not imported(project, plan_arrays(tmp_path / "betas.npy", tables), replace=True)[0].skipped


def test_silent_units_are_left_out_when_asked(project, tmp_path):
    write_tables(tmp_path, 12)
    tables = ArrayTables(tmp_path / "images.csv", tmp_path / "units.csv")
    betas = signal(12, 3)
    betas[:, 1] = 4.0
    np.save(tmp_path / "betas.npy", betas)
    with pytest.raises(DataError, match=r"betas.npy: 1 of 3 units .* the first is unit 1 \(V1\): --leave-out-silent"):
        imported(project, plan_arrays(tmp_path / "betas.npy", tables))
    done, store = imported(project, plan_arrays(tmp_path / "betas.npy", tables), leave_out_silent=True)
    assert done.left_out == 1 and store.units["roi"].tolist() == ["V1", "V4"]
    close(store.read(), betas[:, [0, 2]])


@pytest.mark.skipif(not NEURAL.is_dir(), reason="needs ../shared/reference/neural: a session of V4, and human matrices")
def test_real_responses_and_matrices(project, tmp_path):
    pd.DataFrame({"id": [f"image{n:04d}" for n in range(1, 641)]}).to_csv(tmp_path / "images.csv", index=False)
    pd.DataFrame({"roi": ["V4"] * 50}).to_csv(tmp_path / "units.csv", index=False)
    tables = ArrayTables(tmp_path / "images.csv", tmp_path / "units.csv")
    source = NEURAL / "v4_210325"
    _, store = imported(project, plan_arrays(source / "responses_raw.npy", tables, "units-images-repeats"))
    assert np.median(store.units["noise_ceiling"]) == pytest.approx(0.765, abs=0.02)
    close(store.mean_responses("V4")[1], np.load(source / "responses_repeat_averaged.npy").T)
    pd.DataFrame({"id": [f"image_{n:02d}" for n in range(1, 93)]}).to_csv(tmp_path / "images.csv", index=False)
    files = {roi: NEURAL / "human92" / f"92images_fmri_{roi}_RDMs.npz" for roi in ("EVC", "IT")}
    done, store = imported(project, plan_rdms(files, tmp_path / "images.csv"), replace=True)
    assert done.matrices == 30 and store.rdms("IT").shape == (15, 92 * 91 // 2)
    assert json.loads(json.dumps(done.as_json()))["areas"]["s01 EVC"] == 1
