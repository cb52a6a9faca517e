"""data/participants: every trial of every participant, as the importer verified it, and the images they clicked on.

```
data/participants/trials.parquet    one row per trial, sorted by image and then by row of the source
data/participants/images.parquet    one row per image, sorted by name
```
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from advalign import inputs
from advalign.errors import DataError
from advalign.files import Project
from advalign.inputs import content_digest, digests

TRIALS, IMAGES = "trials.parquet", "images.parquet"
IMAGE, PARTICIPANT, X, Y, CATCH, MOBILE, ROW = "image", "participant", "x", "y", "catch", "mobile", "row"

TRIALS_SCHEMA = pa.schema(
    [
        (IMAGE, pa.string()),  # file name of the image with its suffix, without folders; the same in images.parquet
        (PARTICIPANT, pa.string()),
        (X, pa.list_(pa.float32())),  # in pixels of the image as it is stored, column 0 the left one; in order of time
        (Y, pa.list_(pa.float32())),  # row 0 the top one
        (CATCH, pa.float32()),  # share of catch trials that the participant passed; null: the source does not say
        (MOBILE, pa.bool_()),  # null: the source does not say
        (ROW, pa.int64()),  # of the source, from 1 without its header: who came first, and where to look
    ]
)
IMAGES_SCHEMA = pa.schema(
    [
        (IMAGE, pa.string()),
        ("sha256", pa.string()),  # of the image file's bytes: what joins maps with stimuli
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("label", pa.int32()),  # class index; -1: unknown
    ]
)


def inside(
    x: NDArray[Any], y: NDArray[Any], width: int | NDArray[np.int64], height: int | NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Whether clicks lie on a pixel of their image.

    Args:
        x, y: (C,) coordinates in pixels; pixel 0 spans -0.5 .. 0.5. What is not a number lies nowhere.
        width, height: of the image, or (C,) of each click's image.

    Returns:
        (C,) bool.
    """
    across: NDArray[np.bool_] = (x >= -0.5) & (x < width - 0.5)
    return across & (y >= -0.5) & (y < height - 0.5)


def has_participants(project: Project) -> bool:
    """Whether trials of single participants were imported."""
    return (project.participants / TRIALS).exists()


def say_if_changed(project: Project) -> None:
    """Say on standard error where the files are not those that data.dvc names: a pipeline takes any content for new.

    Raises:
        DataError: a file cannot be read.
    """
    inputs.say_if_changed(project.root, [project.participants / name for name in (TRIALS, IMAGES)], project.digests)


def trials_digest(project: Project) -> str:
    """SHA-256 of the content of both files; of nothing, where there are none."""
    files = [project.participants / name for name in (TRIALS, IMAGES)] if has_participants(project) else []
    return content_digest(project.data, digests(files, project.digests))


def read_images(project: Project) -> pd.DataFrame:
    """The images of data/participants, in the columns of `IMAGES_SCHEMA`.

    Raises:
        DataError: missing, or not such a table.
    """
    path = project.participants / IMAGES
    with _open(path, IMAGES_SCHEMA) as file, _readable(path):
        images: pd.DataFrame = file.read().to_pandas()
        return images


def read_trials(project: Project) -> Iterator[pd.DataFrame]:
    """The trials, one table per image in order of its name; memory is bounded by a row group.

    Raises:
        DataError: missing, not such a table, or not sorted by image.
    """
    path = project.participants / TRIALS
    held: list[pd.DataFrame] = []
    before = ""
    with _open(path, TRIALS_SCHEMA) as file:
        for number in range(file.num_row_groups):
            with _readable(path):
                group = file.read_row_group(number).to_pandas()
            for image, trials in group.groupby(IMAGE, sort=False):
                if held and image != held[0][IMAGE].iloc[0]:
                    yield pd.concat(held, ignore_index=True) if len(held) > 1 else held[0].reset_index(drop=True)
                    before, held = str(held[0][IMAGE].iloc[0]), []
                if str(image) < before:
                    raise DataError(f"{path} is not sorted by image: import it again")
                held.append(trials)
    if held:
        yield pd.concat(held, ignore_index=True)


def read_trials_of(project: Project, images: Collection[str]) -> pd.DataFrame:
    """The trials of some images, in one table in the file's order; only the row groups that hold them are read.

    Raises:
        DataError: missing, or not such a table.
    """
    path = project.participants / TRIALS
    with _open(path, TRIALS_SCHEMA), _readable(path):
        found: pd.DataFrame = pq.read_table(path, filters=[(IMAGE, "in", list(images))]).to_pandas()
        return found


def _open(path: Path, schema: pa.Schema) -> pq.ParquetFile:
    if not path.exists():
        raise DataError(f"{path} is missing: import trials with `advalign data import clicks`")
    with _readable(path):
        file = pq.ParquetFile(path)
    if not file.schema_arrow.equals(schema):
        raise DataError(f"{path} has other columns than {', '.join(schema.names)}: import it again")
    return file


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Name a file whose bytes make no table: Arrow's errors do not, and some are of Python's own kinds."""
    try:
        yield
    except (OSError, pa.ArrowException, ValueError, OverflowError) as error:
        raise DataError(f"{path} cannot be read ({' '.join(str(error).split())}): import it again") from None
