"""The project's folders, and files that are either the old or the new one, never half of it."""

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from advalign.errors import DataError, InputError
from advalign.names import check_name
from advalign.regular_files import open_file

MAIN = "main"
"""The experiment at the root of a repository; the others are called like their folder in experiments/."""
EXPERIMENTS = "experiments"


@dataclass(frozen=True)
class Project:
    """An experiment: its paths, relative to its root (the folder with params.yaml)."""

    root: Path

    @classmethod
    def find(cls, start: Path | None = None) -> "Project":
        """Find the experiment that a folder is in: the nearest parent with a params.yaml.

        Raises:
            InputError: there is none, or its folder has a name that no experiment can have.
        """
        start = (start or Path.cwd()).resolve()
        for folder in (start, *start.parents):
            if os.path.lexists(folder / "params.yaml"):  # also what is no file: `load_settings` tells of it
                found = cls(folder)
                if found.home != folder and check_name(folder.name, "experiment") == MAIN:
                    raise InputError(f"{folder}: {MAIN!r} names the experiment at {found.home}: rename the folder")
                return found
        raise InputError(f"{start} is not inside a project: no params.yaml here or above; change into one first")

    @property
    def home(self) -> Path:
        """The repository's root: what all experiments share lies there, registry/ and the tracking store.

        An experiment in HOME/experiments/NAME shares what HOME has, unless it has a registry/ of its own; any other
        project is its own home.
        """
        above = self.root.parent.parent
        shares = self.root.parent.name == EXPERIMENTS and (above / "registry").is_dir()
        return above if shares and not (self.root / "registry").is_dir() else self.root

    @property
    def experiment(self) -> str:
        """The experiment's name: "main" at the repository's root, otherwise that of the folder in experiments/."""
        return MAIN if self.home == self.root else self.root.name

    @property
    def data(self) -> Path:
        """Pixels, human maps and labels, versioned by data.dvc."""
        return self.root / "data"

    @property
    def participants(self) -> Path:
        """Trials of single participants, from which human maps are made (`data.participants`)."""
        return self.data / "participants"

    @property
    def human_maps(self) -> Path:
        """What the trials come to: cleaning, agreement among people, pictures."""
        return self.root / "outputs" / "maps"

    @property
    def stimuli(self) -> Path:
        """The frozen stimulus set."""
        return self.root / "outputs" / "stimuli"

    @property
    def checkpoints(self) -> Path:
        """Models that the pipeline trained; the train stage owns this folder."""
        return self.root / "outputs" / "checkpoints"

    @property
    def runs(self) -> Path:
        """Models that were trained by hand."""
        return self.root / "outputs" / "runs"

    @property
    def fetched(self) -> Path:
        """Models of the zoo, as checkpoints."""
        return self.root / "outputs" / "zoo"

    @property
    def handed(self) -> Path:
        """What was evaluated in Python (`advalign.evaluate`): card and weights, without the code that they are of."""
        return self.root / "outputs" / "handed"

    @property
    def resume(self) -> Path:
        """States of running trainings."""
        return self.root / "outputs" / "resume"

    @property
    def digests(self) -> Path:
        """Remembered digests of input files; may be removed at any time."""
        return self.root / "outputs" / ".digests.db"

    @property
    def evaluations(self) -> Path:
        """One table per protocol and model."""
        return self.root / "outputs" / "evaluations"

    @property
    def decisions(self) -> Path:
        """Decisions on promotions, one file each: of all experiments, since they share the registry."""
        return self.home / "outputs" / "decisions"

    @property
    def comparison(self) -> Path:
        """Statistics, figures and report."""
        return self.root / "outputs" / "comparison"

    @property
    def zoo(self) -> Path:
        """The declared models."""
        return self.home / "registry" / "zoo.yaml"

    @property
    def trainings(self) -> Path:
        """How the published models are trained."""
        return self.home / "registry" / "trainings.yaml"

    @property
    def gates(self) -> Path:
        """What a promotion demands."""
        return self.home / "registry" / "gates.yaml"

    def need_data(self, path: Path) -> Path:
        """Return a path below data/ that exists.

        Raises:
            DataError: the path does not exist; says how to get the data.
        """
        if not path.exists():
            shown = path.relative_to(self.root) if path.is_relative_to(self.root) else path
            mend = (
                "`dvc pull data.dvc` gets the data, `advalign data import` imports your own, `advalign data sample` "
                "draws the sample"
            )
            if self.home != self.root and not (self.root / "data.dvc").is_file():
                mend = "`advalign data import` imports your own copies, `dvc add data` tracks them (README.md)"
            raise DataError(f"{shown} is missing: {mend}")
        return path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; if the block succeeds, move it over `path`, else remove it.

    A killed process leaves the old file; its temporary file is left over and harmless.

    Raises:
        OSError: the disk does not take the file, whichever library wrote it; names `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:12]}.tmp")  # process numbers repeat between machines
    try:
        yield temporary
        temporary.replace(path)
    except Exception as error:
        told = _of_the_disk(error)
        if told is None:
            raise
        if told.errno is not None:  # otherwise its text is all that it says
            told.filename = told.filename or str(path)  # writing to a full disk names no file
        raise told from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder to write to; if the block succeeds, it takes the place of `folder`, else it is removed.

    A killed process leaves the old folder or the new one, or (between two moves) the old one under its hidden name.

    Raises:
        OSError: the folder cannot be made.
    """
    hidden = f".{folder.name}.{uuid4().hex[:12]}"
    temporary, old = folder.with_name(f"{hidden}.tmp"), folder.with_name(f"{hidden}.old")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if folder.exists():
            folder.rename(old)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _of_the_disk(error: Exception) -> OSError | None:
    """The error of the disk that another error stands for; None for an error of another kind."""
    if isinstance(error, OSError):
        return error
    if number := re.search(r"\(os error (\d+)\)", str(error)):  # safetensors
        return OSError(int(number[1]), os.strerror(int(number[1])))
    if "inline_container.cc" in str(error):  # torch.save, which hides why it cannot write
        hidden = error.__context__
        return hidden if isinstance(hidden, OSError) else OSError(errno.EIO, "not written whole (is the disk full?)")
    return None


def remove_leftovers(path: Path) -> None:
    """Remove the temporary files that killed processes left, of a file that only one process writes."""
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):
        leftover.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whatever the locale, and move it into place."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        OSError: the file cannot be read.
        InputError: no regular file.
    """
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
