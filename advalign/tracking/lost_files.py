"""Files that a store names and no longer has: artifacts lie beside the database, and can be deleted past it.

That a run or a version is in the database says nothing about its files. So whoever finds it there asks for the files,
and puts back what is gone.
"""

from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from mlflow.entities.model_registry import ModelVersion

from advalign.models.checkpoints import CARD, WEIGHTS
from advalign.models.predictors import FILES
from advalign.tracking.registry.packaging import AnyCard, log_again
from advalign.tracking.registry.registered import PREDICTOR_TAG, model_id_of
from advalign.tracking.store import Store


def put_back_artifacts(store: Store, run_id: str, names: Iterable[str], make: Callable[[Path], None]) -> bool:
    """Log a run's files again if one of them is gone.

    Args:
        store, run_id: of a finished run.
        names: of the files that the run was given, relative to its artifacts.
        make: writes these files into a folder; called only where one is gone.

    Returns:
        Whether they were logged again.
    """
    wanted = [PurePosixPath(name) for name in names]
    folders = {str(name.parent) for name in wanted}
    there = {
        PurePosixPath(one.path)
        for folder in folders
        for one in store.client.list_artifacts(run_id, None if folder == "." else folder)
    }
    if there.issuperset(wanted):
        return False
    with TemporaryDirectory() as folder:
        make(Path(folder))
        store.client.log_artifacts(run_id, folder)
    return True


def has_files(store: Store, version: ModelVersion) -> bool:
    """Whether the checkpoint or the predictor of a version is where the store says it is."""
    model, listed = model_id_of(version), store.client.list_logged_model_artifacts
    files = [one.path for place in listed(model, "artifacts") for one in listed(model, place.path)]
    wanted = FILES if PREDICTOR_TAG in version.tags else (CARD, WEIGHTS)
    return {PurePosixPath(file).name for file in files}.issuperset(wanted)


def put_back_version(store: Store, version: ModelVersion, card: AnyCard, folder: Path) -> bool:
    """Log a version's model again, in its old place, if its checkpoint or predictor is gone.

    Args:
        store, version: its tags name the content.
        card, folder: the checkpoint or predictor with that content.

    Returns:
        Whether it was logged again.
    """
    if has_files(store, version):
        return False
    log_again(store.client, card, folder, str(version.run_id), model_id_of(version))
    return True
