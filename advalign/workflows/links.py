"""Links from a report to the runs of the tracking store."""

from advalign.analysis.report import Tracking
from advalign.errors import printable
from advalign.files import Project
from advalign.tracking.store import open_store


def tracking_links(project: Project) -> Tracking:
    """The address of the MLflow UI and the experiment of the evaluations.

    Raises:
        StoreDown: the store cannot be reached or is not usable.
    """
    store = open_store(project)
    url = printable(store.uri).rstrip("/") if store.uri.startswith("http") else Tracking.url
    return Tracking(url, store.experiment_ids["evaluate"])
