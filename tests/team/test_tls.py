"""The web server with TLS before the team's server: nginx with the lines that docs/team.md has."""

import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import mlflow
import pytest
import requests
import urllib3

from advalign.files import Project, sha256
from advalign.models.checkpoints import CARD, WEIGHTS
from advalign.tracking.registry.registered import find_version
from advalign.tracking.store import open_store
from tests.team.conftest import NAME as TRAINED
from tests.team.processes import Process, command_line, free_port, tied_to_us
from tests.team.server import ADMIN, ADMIN_PASSWORD, MEMBER, MEMBER_PASSWORD, block

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("team")]

NAME = "mlflow.example.org"
LOGIN = (MEMBER, MEMBER_PASSWORD)


def found_here() -> None:
    """Let the page's name lead to this machine, for this process."""
    resolve = socket.getaddrinfo
    socket.getaddrinfo = lambda host, *more, **named: resolve("127.0.0.1" if host == NAME else host, *more, **named)


def advalign_over_tls(*words: str) -> None:
    """What the program `advalign` does with these words, where the page's name leads to this machine."""
    found_here()
    command_line(*words)


@pytest.fixture(scope="module")
def nginx() -> str:
    """The program."""
    found = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if found is None:
        pytest.skip("nginx is not installed")
    return found


@pytest.fixture(scope="module")
def proxy(nginx, session_server, tmp_path_factory):
    """Address of the web server, and its certificate, which nobody has signed but itself."""
    folder, port = tmp_path_factory.mktemp("nginx"), free_port()
    certificate, key = folder / "mlflow.pem", folder / "mlflow.key"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={NAME}"]
    made += ["-addext", f"subjectAltName=DNS:{NAME}", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(made, check=True, capture_output=True)
    page = block("nginx").replace("listen 443", f"listen 127.0.0.1:{port}").replace("5000", str(session_server.port))
    page = page.replace("/etc/ssl/mlflow.pem", str(certificate)).replace("/etc/ssl/mlflow.key", str(key))
    own = [f"{what}_temp_path {folder / what};" for what in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")]
    text = f"daemon off;\npid {folder / 'pid'};\nevents {{}}\nhttp {{ access_log off;\n{' '.join(own)}\n{page}}}\n"
    (folder / "nginx.conf").write_text(text)
    command = tied_to_us([nginx, "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")], "TERM")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        while not _listens(port):
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.05)
        yield f"https://{NAME}:{port}", certificate
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def _listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def far_member(proxy, server, monkeypatch) -> dict[str, str | None]:
    """This process and, by what is returned, others work with the server over TLS."""
    monkeypatch.setattr(socket, "getaddrinfo", socket.getaddrinfo)  # undone at the end
    found_here()
    variables = {**server.member, "MLFLOW_TRACKING_URI": proxy[0], "MLFLOW_TRACKING_SERVER_CERT_PATH": str(proxy[1])}
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))
    return variables


def test_a_member_logs_uploads_registers_and_promotes_over_tls(root, far_member, tmp_path):
    published = Process(root, far_member, advalign_over_tls, "publish")
    assert published.wait() == 0, published.errors()
    store = open_store(Project(root))
    assert store.uri.startswith(f"https://{NAME}")
    folder = Project(root).runs / TRAINED  # other tests register versions of the same name
    version = find_version(store, TRAINED, sha256(folder / WEIGHTS), sha256(folder / CARD))
    assert version is not None
    words = ("registry", "promote", version.name, "--force", "--reason", "a test")
    promoted = Process(root, far_member, advalign_over_tls, *words)
    assert promoted.wait() == 0, promoted.errors()

    weights = tmp_path / "weights"
    weights.write_bytes(bytes(range(256)) * 4 * 1024 * 24)  # 24 MB; nginx refuses more than 1 MB by itself
    run = store.client.create_run(store.experiment_ids["train"]).info.run_id
    store.client.log_artifact(run, str(weights))
    back = mlflow.artifacts.download_artifacts(run_id=run, artifact_path="weights", dst_path=str(tmp_path / "back"))
    assert Path(back).read_bytes() == weights.read_bytes()


def test_a_certificate_that_nobody_vouches_for_is_one_line(root, far_member):
    unknown = {**far_member, "MLFLOW_TRACKING_SERVER_CERT_PATH": None}
    refused = Process(root, unknown, advalign_over_tls, "publish")
    assert refused.wait() == 2
    assert refused.errors().strip() == (
        f"advalign: error: tracking server {far_member['MLFLOW_TRACKING_URI']} has a certificate that no known "
        "authority signed: name the authority's certificate in MLFLOW_TRACKING_SERVER_CERT_PATH"
    )


def test_a_browser_works_from_the_pages_own_address_alone(proxy, far_member):
    address, certificate = proxy
    search = {"url": f"{address}/ajax-api/2.0/mlflow/runs/search", "json": {"experiment_ids": ["0"]}, "auth": LOGIN}
    codes = {}
    for origin in (f"https://{NAME}", "https://elsewhere.example.org"):
        codes[origin] = requests.post(**search, headers={"Origin": origin}, verify=certificate, timeout=60).status_code
    assert codes == {f"https://{NAME}": 200, "https://elsewhere.example.org": 403}
    assert requests.get(address, auth=LOGIN, verify=certificate, timeout=60).status_code == 200


def test_the_server_answers_to_its_names_alone(proxy, far_member, server):
    address, certificate = proxy
    for host, code in ((NAME, 200), ("elsewhere.example.org", 403)):
        path = f"{address}/api/2.0/mlflow/experiments/get?experiment_id=0"
        answer = requests.get(path, auth=LOGIN, headers={"Host": host}, verify=certificate, timeout=60)
        assert answer.status_code == code, answer.text


def test_the_server_knows_who_asks_and_over_what(proxy, far_member, server):
    """The client is at 127.0.0.2 and claims to be another; an answer that names an address names that of the proxy."""
    address, certificate = proxy
    pool = urllib3.PoolManager(ca_certs=str(certificate), source_address=("127.0.0.2", 0))
    headers = {**urllib3.make_headers(basic_auth=f"{ADMIN}:{ADMIN_PASSWORD}"), "X-Forwarded-For": "10.9.8.7"}
    asked = f"{address}/api/2.0//mlflow/experiments/get"
    moved = pool.request("GET", asked, headers=headers, redirect=False, retries=False)
    assert moved.status == 308
    assert moved.headers["Location"] == f"https://{NAME}/api/2.0/mlflow/experiments/get"
    log = (server.folder / "log").read_text()
    assert "127.0.0.2:0 - " in log
    assert "10.9.8.7" not in log
