"""Brain responses to images: `data/responses/NAME.h5`, one file per data set, with where they come from.

A file holds either trials (`betas`, trials x units) or, where only those exist, matrices of dissimilarity. Its
provenance is printed wherever a number from it is: what was measured in a brain, simulated, or predicted by a model of
one is never mixed up. It is sealed. docs/neural.md has the format.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from advalign.data.hdf5 import dataset, open_hdf5, values
from advalign.data.response_format import (
    IMPORT,
    SPLITS,
    TABLES,
    check_parts,
    check_provenance,
    check_version,
    read_sources,
    read_table,
)
from advalign.errors import InputError, shown, unknown_name
from advalign.files import Project, sha256
from advalign.inputs import say_if_changed
from advalign.names import check_name
from advalign.seals import need_whole_once

AT_ONCE = 64 << 20  # bytes of responses that are read together
IMPORTED = f"{IMPORT} with --replace writes it again, and takes what other software wrote (layout arrays)"
MADE = "make it again with `dvc repro -f simulate`, `advalign guidance study` or `advalign neural predict --replace`"
"""What to do where a store is damaged."""


@dataclass(frozen=True)
class ResponseStore:
    """An open data set: its tables, and access to the responses, which are read when they are asked for.

    Attributes:
        path: the file.
        provenance: measured, simulated or predicted.
        normalisation: what was done to the responses, such as "z-scored within session".
        description: in a sentence.
        sources: name of each file that it was made from -> SHA-256.
        images: id, sha256 ("" where the image file is not known), label (-1: unknown); a row per image.
        units: roi, subject, noise_ceiling (share of the variance of responses, averaged over repeats, that is not
            noise; NaN: unknown); a row per unit (voxel, vertex, site).
        trials: image (row of `images`), repeat, session, split (value of `SPLITS`); a row per trial, none for matrices.
        matrices: subject, roi; a row per matrix of dissimilarity, none for trials.
    """

    path: Path
    provenance: str
    normalisation: str
    description: str
    sources: dict[str, str]
    images: pd.DataFrame
    units: pd.DataFrame
    trials: pd.DataFrame
    matrices: pd.DataFrame

    @classmethod
    def open(cls, path: Path) -> "ResponseStore":
        """Open a file and check that it is whole, and that its parts fit together.

        Raises:
            DataError: missing, damaged, not written by `writing_responses`, of another version, of unknown provenance,
                or its parts do not fit.
        """
        with open_hdf5(path, "a response store") as file:
            need_whole_once(path, MADE if path.parent.parent.name == "outputs" else IMPORTED)
            about = dict(file.attrs)
            check_version(about.get("version"), path)
            provenance = check_provenance(about.get("provenance"), str(path))
            tables = {name: read_table(file, name) for name in TABLES}
            check_parts(file, tables)
        normalisation, description = (str(about.get(key, "")) for key in ("normalisation", "description"))
        return cls(path, provenance, normalisation, description, read_sources(about.get("sources"), path), **tables)

    @property
    def areas(self) -> dict[tuple[str, str], int]:
        """Subject and area -> units, or matrices, in the order in which they first appear."""
        table = self.units if len(self.units) else self.matrices
        return dict(Counter(zip(table["subject"].tolist(), table["roi"].tolist(), strict=True)))

    @property
    def rois(self) -> list[str]:
        """Areas, in the order in which they first appear."""
        return list(dict.fromkeys(roi for _, roi in self.areas))

    @property
    def subjects(self) -> list[str]:
        """Subjects, in the order in which they first appear."""
        return list(dict.fromkeys(subject for subject, _ in self.areas))

    def mask(self, roi: str | None = None, subject: str | None = None) -> NDArray[np.bool_]:
        """Which units are of an area and a subject; None: all.

        Raises:
            InputError: there is no such area or subject, or no unit of both.
        """
        return self._rows(self.units, roi, subject, "unit")

    def read(
        self, units: NDArray[np.bool_] | None = None, trials: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        """Responses of some trials in some units, all in memory.

        Args:
            units: (U,) mask; None: all.
            trials: (T,) mask; None: all.

        Returns:
            (trials, units) float32; NaN where a unit has no response in a trial (another subject's, say).
        """
        blocks = [block for _, block in self.blocks(units, trials)]
        wanted = len(self.units) if units is None else int(units.sum())
        return np.concatenate(blocks) if blocks else np.empty((0, wanted), np.float32)

    def blocks(
        self, units: NDArray[np.bool_] | None = None, trials: NDArray[np.bool_] | None = None
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """The same as `read`, in blocks of at most `AT_ONCE` bytes: (rows of `trials`, (rows, units) float32).

        Raises:
            InputError: the file holds matrices of dissimilarity, no trials.
        """
        if not len(self.trials):
            raise InputError(f"{self.path} holds dissimilarities, no responses: name a data set with trials")
        chosen = np.flatnonzero(np.ones(len(self.units), bool) if units is None else units)
        wanted = np.ones(len(self.trials), bool) if trials is None else trials
        if not len(chosen):
            return
        first, last = int(chosen[0]), int(chosen[-1]) + 1
        step = max(1, AT_ONCE // (4 * (last - first)))
        with open_hdf5(self.path, "a response store") as file:
            betas = dataset(file, "betas")
            for start in range(0, len(wanted), step):
                rows = np.flatnonzero(wanted[start : start + step])
                if len(rows):
                    block = values(betas, (slice(start, start + step), slice(first, last)))
                    yield rows + start, block[np.ix_(rows, chosen - first)]

    def mean_responses(
        self, roi: str, subject: str | None = None, split: str | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Responses to each image, averaged over its repeats, in memory that does not grow with the trials.

        An image is left out where a unit of the area has no response to it: subjects who saw different images have
        averages together for the images that all of them saw.

        Args:
            roi: area.
            subject: None: the units of all subjects side by side.
            split: of `SPLITS`; None: all trials.

        Returns:
            (rows of `images` (N,), (N, units) float32), in the order of `images`.

        Raises:
            InputError: no such area, subject or split, or no image has a response in every unit.
        """
        units = self.mask(roi, subject)
        if split is not None and split not in SPLITS:
            raise unknown_name("split", split, SPLITS)
        trials = None if split is None else (self.trials["split"] == SPLITS.index(split)).to_numpy()
        image = self.trials["image"].to_numpy()
        seen = np.unique(image if trials is None else image[trials])
        total = np.zeros((len(seen), int(units.sum())))
        count = np.zeros(total.shape, np.int32)
        for rows, block in self.blocks(units, trials):
            place = np.searchsorted(seen, image[rows])
            there = ~np.isnan(block)
            np.add.at(total, place, np.where(there, block, 0))
            np.add.at(count, place, there)
        complete = (count > 0).all(axis=1)
        if not complete.any():
            some = f" of split {split}" if split else ""
            mend = "name one subject" if subject is None and len(self.subjects) > 1 else "name another area or split"
            raise InputError(f"{self.path}: no image{some} has a response in every unit of {shown(roi)}: {mend}")
        return seen[complete], (total[complete] / count[complete]).astype(np.float32)

    def rdms(self, roi: str, subject: str | None = None) -> NDArray[np.float32]:
        """Matrices of dissimilarity of an area: (matrices, pairs) float32 in the order of SciPy's `squareform`.

        Raises:
            InputError: no such area or subject, or the file holds trials.
        """
        if not len(self.matrices):
            raise InputError(f"{self.path} holds trials, no dissimilarities: name a data set of dissimilarities")
        wanted = self._rows(self.matrices, roi, subject, "matrix")
        with open_hdf5(self.path, "a response store") as file:
            return values(dataset(file, "rdms/values"))[wanted]

    def _rows(self, table: pd.DataFrame, roi: str | None, subject: str | None, what: str) -> NDArray[np.bool_]:
        found = np.ones(len(table), bool)
        for column, kind, wanted in (("roi", "area", roi), ("subject", "subject", subject)):
            if wanted is None:
                continue
            if wanted not in set(table[column]):
                raise unknown_name(f"{kind} of {self.path.stem}", wanted, set(table[column]))
            found &= (table[column] == wanted).to_numpy()
        if not found.any():
            raise InputError(f"{self.path}: no {what} of area {shown(roi)} and subject {shown(subject)}: name others")
        return found


def response_file(project: Project, name: str) -> Path:
    """`data/responses/NAME.h5`, which may not be there yet.

    Raises:
        InputError: not a name.
    """
    return project.data / "responses" / f"{check_name(name, 'set of responses')}.h5"


def response_files(project: Project, *, made: bool = True) -> list[Path]:
    """The stores of data/responses, and those of outputs/responses where what stages `made` counts too, by name."""
    folders = [project.data / "responses", *([project.root / "outputs" / "responses"] if made else [])]
    return [path for folder in folders for path in sorted(folder.glob("*.h5"))]


def need_responses(project: Project, name: str) -> Path:
    """`data/responses/NAME.h5`, or else `outputs/responses/NAME.h5`, which a stage of the experiment has made.

    It is said on standard error where the file in data/ is not the one that data.dvc names.

    Raises:
        InputError: not a name, or nothing is called so; offers the nearest names.
    """
    path = response_file(project, name)
    made = project.root / "outputs" / "responses" / path.name
    if not path.exists() and made.exists():
        return made
    if not path.exists():
        there = {file.stem for file in response_files(project)}
        raise InputError(f"{unknown_name('set of responses', name, there)}: import it with {IMPORT}")
    say_if_changed(project.root, [path], project.digests)
    return path


def responses_digest(path: Path) -> str:
    """SHA-256 of the file, in hexadecimal: what is computed from the responses is only reused with the same."""
    return sha256(path)
