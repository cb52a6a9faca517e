"""Publishing predictors of responses: each gets a run, and a version of a registered model."""

from functools import partial
from pathlib import Path

from advalign.files import Project, sha256
from advalign.models.predictors import PREDICTOR, read_predictor_card, registered_name
from advalign.tracking.locks import exclusive
from advalign.tracking.lost_files import put_back_artifacts, put_back_version
from advalign.tracking.registry.predictors import (
    RUN_FILES,
    copy_files,
    find_predictor,
    predictor_run,
    register_predictor,
)
from advalign.tracking.results import PURPOSE, Published
from advalign.tracking.store import Store, store_errors


def publish_predictor(project: Project, store: Store, folder: Path, done: Published) -> None:
    """Give a predictor a finished run and a registered version where they are missing, and put back lost files.

    Raises:
        DataError: the predictor is damaged.
        StoreDown: the store does not answer, or refuses.
    """
    card = read_predictor_card(folder)
    name = registered_name(card.name)
    with store_errors(store.uri), exclusive(store.uri, PURPOSE):
        run_id, new = predictor_run(project, store, card, folder)
        mended = not new and put_back_artifacts(store, run_id, RUN_FILES, partial(copy_files, folder))
        done.note(f"run {name}", new, mended)
        version = find_predictor(store, card.name, sha256(folder / PREDICTOR))
        mended = version is not None and put_back_version(store, version, card, folder)
        done.note(f"version {name}", version is None, mended)
        if version is None:
            register_predictor(store, card, folder, run_id)
