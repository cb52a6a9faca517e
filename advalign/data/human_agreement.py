"""Ceilings and floors of single images (stage `maps`, outputs/maps/agreement.parquet) for the stimuli."""

import pandas as pd
import pyarrow.parquet as pq

from advalign import seals
from advalign.data.human_maps.make import AGREEMENT, MEND
from advalign.errors import DataError
from advalign.files import Project

CEILINGS = {"spearman_ceiling": "ceiling", "spearman_corrected": "ceiling_corrected", "spearman_floor": "floor"}
"""Columns of agreement.parquet -> the same of a manifest."""
READ = ["sha256", "participants", *CEILINGS]


def with_agreement(manifest: pd.DataFrame, project: Project) -> pd.DataFrame:
    """A manifest with the columns ceiling, ceiling_corrected and floor: Spearman's rho, NaN where there are no trials.

    They are joined by the image's SHA-256. The manifest is returned as it is where no ceiling of its images is known.

    Raises:
        DataError: agreement.parquet is damaged, or is no such table.
    """
    path = project.human_maps / AGREEMENT
    if not path.exists():
        return manifest
    seals.need_whole(path, MEND)
    lacking = [column for column in READ if column not in pq.read_schema(path).names]
    if lacking:
        raise DataError(f"{path} lacks {', '.join(lacking)}: {MEND}")
    found = pd.read_parquet(path, columns=READ)
    largest = found.sort_values("participants", ascending=False, kind="stable")
    by_image = largest.drop_duplicates("sha256").set_index("sha256")  # one image under two names: the one more saw
    known = by_image[[*CEILINGS]].rename(columns=CEILINGS).astype(float).reindex(manifest["sha256"])
    if known.isna().to_numpy().all():
        return manifest
    return manifest.assign(**{column: known[column].to_numpy() for column in CEILINGS.values()})
