"""An MLflow server on PostgreSQL with basic authentication, which can be killed and started again on its port."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import requests

from tests.conftest import REPOSITORY
from tests.team.processes import free_port, tied_to_us

PAGE = REPOSITORY / "docs" / "team.md"
ADMIN, ADMIN_PASSWORD = "admin", "first-of-all"
SECRET_KEY = "of-the-tests-alone"
MEMBER, MEMBER_PASSWORD = "ada", "lovelace-1815"
READER, READER_PASSWORD = "mary", "somerville-1780"  # has no role
GRANTS = {"experiment": "EDIT", "run": "MANAGE", "registered_model": "MANAGE"}  # as docs/team.md has them


def block(language: str) -> str:
    """The block of docs/team.md in a language."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return str(found)


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

    @property
    def settings(self) -> dict[str, str]:
        """The variables of mlflow.env."""
        lines = [line for line in (self.folder / "mlflow.env").read_text().splitlines() if not line.startswith("#")]
        return {name: value.strip('"') for name, _, value in (line.partition("=") for line in lines)}

    def start(self) -> None:
        """Start it as docs/team.md says, and wait until it answers."""
        self.write_settings()
        command = [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", "--workers", "2"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        command += ["--host", "127.0.0.1", "--port", str(self.port)]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                tied_to_us(command, "TERM"),
                cwd=self.folder,
                env={**kept, **self.settings},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        while not self.answers():
            if self.process.poll() is not None:
                raise RuntimeError(f"MLflow did not start: {(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.2)

    def write_settings(self) -> None:
        """Write the page's files into the folder, with this server's addresses and passwords."""
        database = urlsplit(self.database)
        host = f"{database.hostname}:{database.port}"
        ours = {
            "/srv/mlflow": str(self.folder),
            "mlflow@127.0.0.1:5432/mlflow_users": f"{database.username}@{host}{urlsplit(self.users).path}",
            "mlflow@127.0.0.1:5432/mlflow": f"{database.username}@{host}{database.path}",
            "127.0.0.1:5432:*:mlflow:PASSWORD": f"{host}:*:{database.username}:{database.password}",
            "ADMIN-PASSWORD": ADMIN_PASSWORD,
            "SECRET-KEY": SECRET_KEY,
            "127.0.0.1:5000": f"127.0.0.1:{self.port}",
        }
        for name, language in {"pgpass": "pgpass", "basic_auth.ini": "ini", "mlflow.env": "env"}.items():
            text = block(language)
            for page, value in ours.items():
                text = text.replace(page, value)
            (self.folder / name).write_text(text)
            (self.folder / name).chmod(0o600)

    def answers(self) -> bool:
        """Whether it is up."""
        try:
            return requests.get(f"{self.uri}/health", timeout=5).status_code == 200
        except requests.RequestException:
            return False

    def kill(self) -> None:
        """SIGKILL to it and all its workers."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def add_member(self) -> None:
        """Create the role and the users of these tests, as docs/team.md says."""
        role = self._ask("3.0/mlflow/roles/create", {"workspace": "default", "name": "member"})["role"]["id"]
        for kind, permission in GRANTS.items():
            grant = {"role_id": role, "resource_type": kind, "resource_pattern": "*", "permission": permission}
            self._ask("3.0/mlflow/roles/permissions/add", grant)
        for user, password in ((MEMBER, MEMBER_PASSWORD), (READER, READER_PASSWORD)):
            self._ask("2.0/mlflow/users/create", {"username": user, "password": password})
        self._ask("3.0/mlflow/roles/assign", {"username": MEMBER, "role_id": role})

    def _ask(self, path: str, body: dict[str, object]) -> dict[str, dict[str, object]]:
        answer = requests.post(f"{self.uri}/api/{path}", json=body, auth=(ADMIN, ADMIN_PASSWORD), timeout=60)
        answer.raise_for_status()
        found: dict[str, dict[str, object]] = answer.json()
        return found
