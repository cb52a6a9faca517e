"""data/ as an evaluation reads it: its files by content, and whether they are those of a version."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from advalign.data.sets.base import ImageSet
from advalign.errors import DataError
from advalign.files import Project
from advalign.inputs import Tracked, content_digest, digests, tracked


@dataclass(frozen=True)
class DataRead:
    """Files below data/ that image sets, labels and ceilings come from.

    Attributes:
        folder: data/.
        files: of all image sets.
        sha256: digest of their names and content.
        version: of data/; files that are not what data.dvc says, and frozen sets that are of other data, are `changed`.
        stale: whether a frozen set is of other data.
    """

    folder: Path
    files: tuple[Path, ...]
    sha256: str
    version: Tracked
    stale: bool

    @property
    def warnings(self) -> list[str]:
        """A sentence each on data that is of no version, and on frozen sets of other data."""
        told = [self.version.warning] if self.version.warning and not self.stale else []
        frozen = "outputs/stimuli were frozen from other data than data/ holds: `dvc repro stimuli` freezes them again"
        return [*told, *([frozen] if self.stale else [])]

    def check_unchanged(self, remembered: Path) -> None:
        """Refuse results of files that changed while they were in use.

        Args:
            remembered: as `inputs.digests`.

        Raises:
            DataError: a file changed.
        """
        if content_digest(self.folder, digests(self.files, remembered)) != self.sha256:
            raise DataError(f"{self.folder} was changed during the evaluation: evaluate again")


def read_data(project: Project, image_sets: Iterable[ImageSet], remembered: Path | None) -> DataRead:
    """Look at the files that image sets come from.

    Args:
        project: of the sets.
        image_sets: opened.
        remembered: as `inputs.digests`; None: every file is read, for a decision.

    Raises:
        DataError: a file cannot be read.
    """
    sets = list(image_sets)
    files = sorted({path for one in sets for path in one.reads(project)})
    found = digests(files, remembered)
    version = tracked(project.root, found, remembered)
    stale = any(one.is_stale(project, remembered) for one in sets)
    if stale:
        version = replace(version, changed=(*version.changed, project.stimuli))
    return DataRead(project.data, tuple(files), content_digest(project.data, found), version, stale)
