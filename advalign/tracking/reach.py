"""Whether a store answers: asked before MLflow is, which tries again for minutes and says nothing."""

import math
import os
from queue import Empty, SimpleQueue
from threading import Thread

import sqlalchemy
from mlflow.store.db.utils import create_sqlalchemy_engine
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from advalign.errors import InputError, printable, shown
from advalign.progress import waiting
from advalign.tracking.database import StoreDown

VARIABLE = "ADVALIGN_STORE_SECONDS"
SECONDS = 10.0  # without the variable


def reach(uri: str) -> None:
    """Wait until a store answers; a line says so where that takes long.

    It is asked in another thread: the drivers of databases have no common limit of time.

    Args:
        uri: of a tracking server, or of a database.

    Raises:
        Exception: what the store's library raises where the store refuses.
        StoreDown: it has not answered after as many seconds as `ADVALIGN_STORE_SECONDS` says.
        InputError: the variable is not a number of seconds.
    """
    limit = _limit()
    answer: SimpleQueue[Exception | None] = SimpleQueue()
    Thread(target=_ask, args=(uri, limit, answer), daemon=True).start()
    with waiting(f"the tracking store {uri} has not answered yet; {limit:g} seconds are the limit"):
        try:
            error = answer.get(timeout=limit)
        except Empty:
            mend = f"start it, set {VARIABLE} to more seconds, or unset MLFLOW_TRACKING_URI"
            raise StoreDown(printable(f"tracking store {uri} does not answer in {limit:g} seconds: {mend}")) from None
    if isinstance(error, ImportError):
        mend = "install the driver of this database, or fix the address"
        raise StoreDown(printable(f"tracking store {uri} cannot be used: {error}: {mend}")) from error
    if error is not None:
        raise error


def _limit() -> float:
    text = os.environ.get(VARIABLE) or str(SECONDS)
    try:
        limit = float(text)
    except ValueError:
        limit = math.nan
    if not 0 < limit < math.inf:
        raise InputError(f"{VARIABLE}: expected a number of seconds such as 10, got {shown(text)}")
    return limit


def _ask(uri: str, limit: float, answer: "SimpleQueue[Exception | None]") -> None:
    try:
        if uri.startswith("http"):
            login = get_default_host_creds(uri)  # type: ignore[no-untyped-call]
            http_request(login, "/health", "GET", timeout=limit, max_retries=1)  # type: ignore[no-untyped-call]
        else:
            engine = create_sqlalchemy_engine(uri)  # type: ignore[no-untyped-call]
            sqlalchemy.inspect(engine)
            engine.dispose()
    except Exception as error:  # noqa: BLE001  raised in the thread that waits
        answer.put(error)
    else:
        answer.put(None)
