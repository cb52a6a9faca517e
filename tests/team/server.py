"""An MLflow server on PostgreSQL with basic authentication, which can be killed and started again on its port."""

import base64
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from tests.team.processes import free_port, tied_to_us

ADMIN, ADMIN_PASSWORD = "admin", "first-of-all"
MEMBER, MEMBER_PASSWORD = "ada", "lovelace-1815"
GRANTS = {"experiment": "EDIT", "run": "MANAGE", "registered_model": "MANAGE"}  # as docs/team.md has them


@dataclass
class Server:
    """The server of one test session.

    Attributes:
        folder: of its settings, log and artifacts.
        database, users: addresses of its databases.
    """

    folder: Path
    database: str
    users: str
    port: int = field(default_factory=free_port)
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def uri(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def member(self) -> dict[str, str | None]:
        """The environment of somebody who works with it."""
        return {
            "MLFLOW_TRACKING_URI": self.uri,
            "MLFLOW_TRACKING_USERNAME": MEMBER,
            "MLFLOW_TRACKING_PASSWORD": MEMBER_PASSWORD,
        }

    def start(self) -> None:
        """Start it and wait until it answers."""
        settings = self.folder / "basic_auth.ini"
        settings.write_text(
            f"[mlflow]\ndefault_permission = READ\ndatabase_uri = {self.users}\nadmin_username = {ADMIN}\n"
            f"admin_password = {ADMIN_PASSWORD}\nauth_cache_ttl_seconds = 60\n"
            "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        )
        command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", self.database]
        command += ["--artifacts-destination", str(self.folder / "artifacts"), "--app-name", "basic-auth"]
        command += ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "2"]
        lean = {
            "MLFLOW_AUTH_CONFIG_PATH": str(settings),
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_FLASK_SERVER_SECRET_KEY": "of-the-tests",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                tied_to_us(command, "TERM"),
                cwd=self.folder,
                env={**kept, **lean},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        while not self.answers():
            if self.process.poll() is not None:
                raise RuntimeError(f"MLflow did not start: {(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.2)

    def answers(self) -> bool:
        """Whether it is up."""
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    def kill(self) -> None:
        """SIGKILL to it and all its workers."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def add_member(self) -> None:
        """Create the user of these tests and what it may do, as docs/team.md says."""
        self._ask("2.0/mlflow/users/create", {"username": MEMBER, "password": MEMBER_PASSWORD})
        role = self._ask("3.0/mlflow/roles/create", {"workspace": "default", "name": "member"})["role"]["id"]
        for kind, permission in GRANTS.items():
            grant = {"role_id": role, "resource_type": kind, "resource_pattern": "*", "permission": permission}
            self._ask("3.0/mlflow/roles/permissions/add", grant)
        self._ask("3.0/mlflow/roles/assign", {"username": MEMBER, "role_id": role})

    def _ask(self, path: str, body: dict[str, object]) -> dict[str, dict[str, object]]:
        login = base64.b64encode(f"{ADMIN}:{ADMIN_PASSWORD}".encode()).decode()
        headers = {"Content-Type": "application/json", "Authorization": f"Basic {login}"}
        request = urllib.request.Request(f"{self.uri}/api/{path}", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request) as response:
            found: dict[str, dict[str, object]] = json.load(response)
            return found
