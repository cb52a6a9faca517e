"""Tiny files of brain responses in the layouts of the public data sets, written without the package's own code.

Each writer returns the truth: what the importer must find.
"""

import warnings
from dataclasses import dataclass

import h5py
import nibabel
import numpy as np
import pandas as pd
from scipy.io import savemat

TRIALS = 750  # of a session of NSD


def signal(images, units, seed=0):
    """(images, units): what a noiseless brain would answer."""
    return np.random.default_rng(seed).normal(size=(images, units)).astype(np.float32)


def repeated(truth, repeats, noise=0.5, seed=1):
    """(repeats, images, units): the same with noise."""
    random = np.random.default_rng(seed)
    return (truth + noise * random.normal(size=(repeats, *truth.shape))).astype(np.float32)


def write_tables(folder, images=12, rois=("V1", "V1", "V4")):
    """images.csv and units.csv of an array."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = [f"im{number:02d}" for number in range(images)]
    pd.DataFrame({"id": ids}).to_csv(folder / "images.csv", index=False)
    pd.DataFrame({"roi": rois}).to_csv(folder / "units.csv", index=False)
    return ids


def write_brainio(path, data, stimuli, regions, times=((70, 170),), name="data", axes=None, animal="nano"):
    """An assembly as xarray writes it through netCDF4: dimension scales, and coordinates that refer to them.

    Args:
        data: (presentation, neuroid, time_bin).
    """
    axes = axes or ("presentation", "neuroid", "time_bin")
    sizes = dict(zip(("presentation", "neuroid", "time_bin"), data.shape, strict=True))
    text = h5py.string_dtype()
    with h5py.File(path, "w", track_order=True) as file:
        for axis in axes:
            file[axis] = np.zeros(sizes[axis], ">f4")
            file[axis].make_scale(f"This is a netCDF dimension but not a netCDF variable. {sizes[axis]:10d}")
        order = [("presentation", "neuroid", "time_bin").index(axis) for axis in axes]
        kept = data.transpose(order + [one for one in range(3) if one not in order]).reshape([sizes[a] for a in axes])
        coordinates = {
            name: (axes, kept.astype(np.float64)),
            "stimulus_id": (("presentation",), np.array(stimuli, object)),
            "repetition": (("presentation",), np.arange(len(stimuli))),
            "region": (("neuroid",), np.array(regions, object)),
            "animal": (("neuroid",), np.array([animal] * len(regions), object)),
        }
        if "time_bin" in axes:
            coordinates["time_bin_start"] = (("time_bin",), np.array([start for start, _ in times]))
            coordinates["time_bin_end"] = (("time_bin",), np.array([end for _, end in times]))
        for key, (dimensions, values) in coordinates.items():
            kept = file.create_dataset(key, data=values, dtype=text if values.dtype == object else None)
            for place, axis in enumerate(dimensions):
                kept.dims[place].attach_scale(file[axis])
        file.attrs["identifier"] = "lab.Tiny2026"


def write_matlab_cells(file, name, texts):
    """A field of a structure array with a text in each element, as MATLAB 7.3 writes it."""
    references = np.empty((len(texts), 1), h5py.ref_dtype)
    refs = file.require_group("#refs#")
    for number, text in enumerate(texts):
        codes = np.array([[ord(letter)] for letter in text], np.uint16)
        one = refs.create_dataset(f"{name.replace('/', '_')}{number}", data=codes)
        one.attrs["MATLAB_class"] = np.bytes_("char")
        references[number, 0] = one.ref
    file.create_dataset(name, data=references)


def write_tvsd(folder, images=8, test=20, repeats=6):
    """THINGS_normMUA.mat and things_imgs.mat of a monkey with 1024 electrodes; returns train and repeats of test."""
    folder.mkdir(parents=True, exist_ok=True)
    train = signal(images, 1024, 2)
    reps = repeated(signal(test, 1024, 3), repeats)
    reps[-1, 3] = np.nan  # an image with a repeat less
    with h5py.File(folder / "THINGS_normMUA.mat", "w", userblock_size=512) as file:
        file["train_MUA"], file["test_MUA_reps"] = train.astype(np.float64), reps.astype(np.float64)
        file["test_MUA"] = np.nanmean(reps, axis=0)
        file["oracle"] = np.ones((1024, 1))
    with h5py.File(folder / "things_imgs.mat", "w", userblock_size=512) as file:
        write_matlab_cells(file, "train_imgs/things_path", [f"aardvark\\aardvark_{n:02d}b.jpg" for n in range(images)])
        write_matlab_cells(file, "test_imgs/things_path", [f"zebra\\zebra_{n:02d}s.jpg" for n in range(test)])
    return train, reps


def write_algonauts(folder, images=6):
    """One subject's folder; returns responses of the left and right hemisphere (5 and 4 vertices)."""
    split, masks = folder / "training_split", folder / "roi_masks"
    fmri, pictures = split / "training_fmri", split / "training_images"
    for one in (fmri, pictures, masks):
        one.mkdir(parents=True)
    for number in range(1, images + 1):
        (pictures / f"train-{number:04d}_nsd-{number * 7:05d}.png").write_bytes(b"picture %d" % number)
    left, right = signal(images, 5, 4), signal(images, 4, 5)
    np.save(fmri / "lh_training_fmri.npy", left)
    np.save(fmri / "rh_training_fmri.npy", right)
    np.save(masks / "mapping_prf-visualrois.npy", {0: "Unknown", 1: "V1v", 2: "V1d", 7: "hV4"}, allow_pickle=True)
    np.save(masks / "mapping_streams.npy", {0: "Unknown", 1: "early", 5: "ventral"}, allow_pickle=True)
    np.save(masks / "lh.prf-visualrois_challenge_space.npy", np.array([1, 2, 7, 0, 0]))
    np.save(masks / "rh.prf-visualrois_challenge_space.npy", np.array([0, 2, 0, 0]))
    np.save(masks / "lh.streams_challenge_space.npy", np.array([1, 1, 5, 5, 0]))
    np.save(masks / "rh.streams_challenge_space.npy", np.array([5, 1, 0, 5]))
    return left, right


def write_things(folder, train=10, test=25, repeats=4):
    """sub-01 of THINGS-fMRI by pandas and PyTables; returns (trials, voxels) and the table of trials."""
    folder.mkdir(parents=True, exist_ok=True)
    truth = np.concatenate([signal(train, 7, 6), signal(test, 7, 7)])
    rows, types, sessions = [], [], []
    for session in range(1, repeats + 1):
        shown = [*range(train, train + test), *range(session - 1, train, repeats)]
        rows += shown
        types += ["test" if one >= train else "train" for one in shown]
        sessions += [session] * len(shown)
    random = np.random.default_rng(8)
    responses = truth[rows] + 0.5 * random.normal(size=(len(rows), 7)) + np.array(sessions)[:, None]  # they drift
    table = pd.DataFrame(responses.T)
    table.insert(0, "voxel_id", range(7))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTables pickles names of columns that are numbers
        table.to_hdf(folder / "sub-01_ResponseData.h5", key="ResponseData", format="fixed")
    names = [f"dog_{one:02d}b.jpg" if one < train else f"cat_{one:02d}s.jpg" for one in rows]
    trials = pd.DataFrame({"trial_type": types, "session": sessions, "run": 1, "subject_id": "01", "stimulus": names})
    trials.to_csv(folder / "sub-01_StimulusMetadata.csv", index=False)
    pd.DataFrame(
        {
            "voxel_id": range(7),
            "nc_testset": [50.0, 40.0, 30.0, 20.0, 10.0, 0.0, 5.5],
            "V1": [1, 1, 0, 0, 0, 0, 0],
            "V2": 0,
            "V3": 0,
            "hV4": 0,
            "lLOC": [0, 0, 1, 0, 0, 0, 0],
            "rLOC": [0, 0, 0, 0, 0, 1, 0],
            "IT": [0, 0, 1, 0, 1, 0, 0],
        }
    ).to_csv(folder / "sub-01_VoxelMetadata.csv", index=False)
    return responses, trials


@dataclass
class Nsd:
    """What was written: numbers of the images (from 1) in each trial, betas in per cent (sessions, trials, x, y, z)."""

    image: np.ndarray
    shared: np.ndarray
    betas: np.ndarray
    labels: np.ndarray


def nsd_design(folder, subject=1, seed=9):
    """nsd_expdesign.mat of real size; returns the subject's images in each trial, and whether all saw them."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    order = random.permutation(np.repeat(np.arange(1, 10_001), 3))
    order[: 2 * TRIALS] = random.permutation(np.repeat(np.arange(951, 1451), 3))
    subjectim = np.stack([random.permutation(73_000)[:10_000] + 1 for _ in range(8)])
    design = {"masterordering": order[None].astype(float), "subjectim": subjectim.astype(float)}
    savemat(folder / "nsd_expdesign.mat", design)
    return subjectim[subject - 1][order - 1], order <= 1000


def write_nsd(folder, kind="hdf5", sessions=2, seed=9):
    """Sessions of subject 1 in a volume of 3 x 4 x 5 voxels; two of V1 (ventral, dorsal), one of hV4, one ventral."""
    image, shared = nsd_design(folder, seed=seed)
    labels = np.full((3, 4, 5), -1)
    labels[0, 1, 2], labels[2, 3, 4], labels[1, 0, 3], labels[1, 1, 1] = 1, 2, 7, 0
    streams = np.zeros((3, 4, 5), int)
    streams[0, 1, 2], streams[2, 0, 0] = 1, 5
    truth = signal(73_000, 60, 10)
    random = np.random.default_rng(11)
    betas = []
    for session in range(sessions):
        shown = image[session * TRIALS : (session + 1) * TRIALS]
        one = truth[shown - 1] + 0.7 * random.normal(size=(TRIALS, 60)) + 3 * session
        betas.append(np.round(one.reshape(TRIALS, 3, 4, 5) * 300) / 300)
        _write_session(folder, kind, session + 1, np.round(one.reshape(TRIALS, 3, 4, 5) * 300).astype(np.int16))
    for name, volume in (("prf-visualrois", labels), ("streams", streams)):
        if kind == "mgh":
            flat = volume.reshape(60, 1, 1).astype(np.float32)
            nibabel.save(nibabel.MGHImage(flat[:30], np.eye(4)), folder / f"lh.{name}.mgz")
            nibabel.save(nibabel.MGHImage(flat[30:], np.eye(4)), folder / f"rh.{name}.mgz")
        else:
            nibabel.save(nibabel.Nifti1Image(volume.astype(np.float32), np.eye(4)), folder / f"{name}.nii.gz")
    return Nsd(image[: sessions * TRIALS], shared[: sessions * TRIALS], np.array(betas), labels)


def _write_session(folder, kind, number, volumes):
    if kind == "hdf5":
        with h5py.File(folder / f"betas_session{number:02d}.hdf5", "w") as file:
            file["betas"] = volumes.transpose(0, 3, 2, 1)
    elif kind == "nifti":
        image = nibabel.Nifti1Image(volumes.transpose(1, 2, 3, 0), np.eye(4), dtype=np.int16)
        nibabel.save(image, folder / f"betas_session{number:02d}.nii.gz")
    else:
        flat = (volumes.reshape(TRIALS, 60).T / 300).astype(np.float32)[:, None, None]
        nibabel.save(nibabel.MGHImage(flat[:30], np.eye(4)), folder / f"lh.betas_session{number:02d}.mgh")
        nibabel.save(nibabel.MGHImage(flat[30:], np.eye(4)), folder / f"rh.betas_session{number:02d}.mgh")
