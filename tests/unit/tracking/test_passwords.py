"""No error shows a password, however its address is written and whatever fails."""

import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import quote

import pytest
from sqlalchemy.exc import ArgumentError

from advalign.errors import InputError, printable
from advalign.files import Project
from advalign.tracking.store import StoreDown, open_store, store_errors

# each has words that no message has
PASSWORDS = (
    *("qzx7@wvk8/jhd9", "Qzub4dor&wvk3#?", "qzla/wvsh:cjl@nqx", "qzit's 'wvkted\" hjqe", "qzk100%/wvre?"),
    *("qzübvgwheim", "[qzack]wvk@", "qzkw wvkx\tjhqz", "qzxw"),
)


def pieces(password: str) -> set[str]:
    """What must not be shown: the password, encoded or not, and every part of it that is a word."""
    forms = (password, quote(password), quote(password, safe=""))
    return {*forms, *(part for form in forms for part in re.split(r"[^\w]+", form) if len(part) > 3)}


def addresses(password: str) -> list[str]:
    """Of servers and databases that are not there, with the password as people write it."""
    kinds = ("http://ada:{}@127.0.0.1:1", "postgresql://ada:{}@127.0.0.1:1/mlflow", "nonsense://ada:{}@127.0.0.1/x")
    kinds += ("postgresql://127.0.0.1:1/mlflow?user=ada&password={}",)
    return [kind.format(form) for kind in kinds for form in (password, quote(password, safe=""))]


@pytest.mark.parametrize("password", PASSWORDS)
def test_a_store_that_cannot_be_used_hides_it(tmp_path, monkeypatch, caplog, capfd, password):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for address in addresses(password):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        with pytest.raises(StoreDown) as raised:
            open_store(Project(tmp_path))
        printed = capfd.readouterr()
        shown = f"{raised.value} {caplog.text} {printed.out} {printed.err}"
        assert not [piece for piece in pieces(password) if piece in shown], (address, shown)


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("kind", [RuntimeError, ArgumentError])
def test_what_a_library_says_of_an_address_is_hidden(password, kind):
    for form in (password, quote(password)):
        if re.search(r"\s", form):
            continue  # refused before any library gets it
        said = f"Could not parse 'postgresql://ada:{form}@db.example.org/mlflow', really"
        assert printable(said) == "Could not parse 'postgresql://***@db.example.org/mlflow', really"
    if kind is ArgumentError:
        encoded = f"postgresql://ada:{quote(password, safe='')}@db.example.org/mlflow"
        with pytest.raises(StoreDown) as raised, store_errors(encoded):
            raise kind(f"Could not parse {encoded}")
        assert str(raised.value).count("postgresql://***@db.example.org/mlflow") == 2


def test_an_address_without_a_login_stays():
    for address in ("sqlite:////home/ada@lab/mlflow.db", "https://mlflow.example.org:5000", "models:/m@champion"):
        assert printable(address) == address


def test_a_login_that_would_be_taken_apart_elsewhere_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://ada:p@ss/word@127.0.0.1:1/mlflow")
    with pytest.raises(InputError, match="login that cannot be read: percent-encode special characters"):
        open_store(Project(tmp_path))


class Refusing(BaseHTTPRequestHandler):
    """A tracking server that knows nobody, and answers with what it was asked."""

    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 500)
        self.end_headers()
        self.wfile.write(f"http://{self.headers['Authorization']}".encode())

    def log_message(self, *_):
        """Print nothing."""


@pytest.fixture
def refusing():
    """Port of such a server."""
    server = HTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize("words", [("doctor",), ("--debug", "publish"), ("ui",)])
def test_no_command_prints_it(tmp_path, refusing, words):
    """All of what a process prints, tracebacks and the libraries' logs included."""
    (tmp_path / "params.yaml").write_text("{}\n")
    password = "qzx7@wvk8/jhd9"
    for host in (f"http://ada:{quote(password, safe='')}@127.0.0.1:{refusing}", *addresses(password)[:2]):
        environment = {**os.environ, "MLFLOW_TRACKING_URI": host, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
        command = [sys.executable, "-m", "advalign.cli.main", *words]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        shown = done.stdout + done.stderr
        assert done.returncode in (1, 2), shown
        assert "tracking" in shown.lower(), shown
        assert ("Traceback" in shown) == ("--debug" in words), shown
        assert not [piece for piece in pieces(password) if piece in shown], shown
