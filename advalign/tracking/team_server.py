"""What a team's server refuses beyond MLflow's own permissions (docs/team.md); it runs inside `mlflow server`.

MLflow 3.17 lets everybody with a login create experiments and registered models. Who creates an experiment may name any
folder or bucket for its artifacts, and the server writes to it; a tag does the same to a trace. MLflow calls
`authenticate` before every request, whichever route it takes: `authorization_function` in basic_auth.ini names it.
"""

import re

from flask import Response, g, request
from mlflow.protos.service_pb2 import CreateExperiment
from mlflow.server import auth
from mlflow.server.auth.permissions import RESOURCE_TYPE_EXPERIMENT
from mlflow.server.auth.requirements import Requirement
from mlflow.server.handlers import _get_request_message
from werkzeug.datastructures import Authorization

READS = ("GET", "HEAD", "OPTIONS")
API = r"/(?:ajax-)?api/\d\.\d/?mlflow/"  # one of MLflow's addresses lacks the slash
CREATE_EXPERIMENT = re.compile(rf"{API}experiments/create")

# What everybody may ask for by another method than GET: searches, and a change of the own password.
FOR_READERS = re.compile(
    rf"{API}(?:experiments/search|experiments/search-datasets|runs/search|logged-models/search"
    r"|registered-models/get-latest-versions|artifacts/presigned-download-url|datasets/search|issues/search"
    r"|traces/search|traces/batchGetInfos|traces/calculate-filter-correlation|traces/metrics|users/update-password)"
    r"|/graphql"
)
# What members may change. All else that MLflow 3.17 and later versions can do is for administrators.
FOR_MEMBERS = re.compile(
    rf"{API}(?:(?:experiments|runs|registered-models|model-versions|logged-models|artifacts)(?:/.*)?|upload-artifact)"
    r"|/(?:ajax-)?api/2\.0/mlflow-artifacts/.*"
)


def authenticate() -> Authorization | Response:
    """MLflow's basic authentication, and then this server's rules.

    Returns:
        Who asks; or the answer that ends the request: 401 of MLflow, or 403 with one sentence.
    """
    login = auth.authenticate_request_basic_auth()
    if isinstance(login, Response):
        return login
    if "advalign_refusal" not in g:  # MLflow asks several times in one request
        g.advalign_refusal = refusal(str(login.username))
    return Response(g.advalign_refusal, 403, mimetype="text/plain") if g.advalign_refusal else login


def refusal(user: str) -> str:
    """Why the current request is refused to a user; "" if it is not, and MLflow's own permissions decide."""
    if request.method in READS or FOR_READERS.fullmatch(request.path):
        return ""
    if not auth.store.get_user(user).is_admin:
        if not _is_member(user):
            return f"{user} may only read here: an administrator can give the role of a member."
        if not FOR_MEMBERS.fullmatch(request.path):
            return "Members work with experiments, runs and models: this is for administrators."
    if CREATE_EXPERIMENT.fullmatch(request.path):
        message = _get_request_message(CreateExperiment())  # type: ignore[no-untyped-call]
        if message.artifact_location:
            return "This server chooses where artifacts are stored: create the experiment without artifact_location."
    return ""


def _is_member(user: str) -> bool:
    """Whether a user has EDIT or MANAGE on all experiments, also on those to come."""
    every_experiment = (RESOURCE_TYPE_EXPERIMENT, "*")
    return bool(auth.authorize(user, every_experiment, [Requirement(*every_experiment, "update")]))
