"""`deploy/nginx/mcsync.conf` in a real nginx, in front of two real APIs."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import httpx
import pytest

from mcsync.embedded import free_port
from tests.support.installation import Installation, until

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
CONFIGURATION = Path(__file__).resolve().parents[2] / "deploy/nginx/mcsync.conf"
SITE = "mcsync.example.com"

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        not (NGINX and shutil.which("openssl")), reason="nginx and openssl are not both installed"
    ),
]


class Proxy:
    """nginx with the project's file, its addresses, paths and upstreams replaced and nothing else."""

    def __init__(self, folder: Path, apis: list[str]) -> None:
        self.folder = folder
        self.port = free_port()
        self.certificate = folder / "fullchain.pem"
        subprocess.run(
            [
                "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                "-nodes", "-days", "2", "-subj", f"/CN={SITE}",
                "-addext", f"subjectAltName=DNS:{SITE},IP:127.0.0.1",
                "-keyout", str(folder / "privkey.pem"), "-out", str(self.certificate),
            ],
            check=True, capture_output=True,
        )  # fmt: skip
        text = CONFIGURATION.read_text()
        for there, here in (
            ("/etc/ssl/mcsync", str(folder)),
            ("/var/log/nginx", str(folder)),
            ("127.0.0.1:8000", apis[0].removeprefix("http://")),
            ("127.0.0.1:8001", apis[1].removeprefix("http://")),
            ("listen 80;", f"listen 127.0.0.1:{free_port()};"),
            ("    listen [::]:80;\n", ""),
            ("listen 443 ssl", f"listen 127.0.0.1:{self.port} ssl"),
            ("    listen [::]:443 ssl http2;\n", ""),
        ):
            assert there in text, there
            text = text.replace(there, here)
        (folder / "mcsync.conf").write_text(text)
        paths = "".join(
            f"{kind}_temp_path {folder}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (folder / "nginx.conf").write_text(
            # As root, its workers would become a user who cannot reach this folder.
            f"{'user root;' if os.getuid() == 0 else ''} daemon off; pid {folder}/pid; error_log {folder}/main.log;\n"
            f"events {{}}\nhttp {{ {paths} include {folder}/mcsync.conf; }}\n"
        )
        self.command = [
            str(NGINX), "-e", str(folder / "main.log"), "-p", str(folder), "-c", str(folder / "nginx.conf"),
        ]  # fmt: skip

    def __enter__(self) -> Self:
        tried = subprocess.run([*self.command, "-t"], capture_output=True, text=True, check=False)
        assert tried.returncode == 0, tried.stderr
        assert "[warn]" not in tried.stderr, tried.stderr
        self.process = subprocess.Popen(self.command)
        until(self._answers, "nginx answers", seconds=30)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(30)

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return client.get("/health/live").is_success
        except httpx.TransportError:
            return False

    def client(self, token: str | None = None) -> httpx.Client:
        return httpx.Client(
            base_url=f"https://127.0.0.1:{self.port}",
            headers={"Authorization": f"Bearer {token}"} if token else {},
            verify=ssl.create_default_context(cafile=str(self.certificate)),
            timeout=120,
        )

    def logs(self) -> str:
        return "".join(one.read_text() for one in self.folder.glob("*.log"))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with Installation(tmp_path_factory.mktemp("installed"), apis=2, workers=1) as one:
        yield one


@pytest.fixture
def proxy(installed: Installation, tmp_path: Path) -> Iterator[Proxy]:
    with Proxy(tmp_path, installed.urls) as one:
        yield one


def rows(count: int) -> bytes:
    lines = ["entityType,entityId,email,firstName,lastName"]
    lines += [f"employee,N-{n},nginx{n}@people.example,{'A' * 60},{'B' * 60}" for n in range(count)]
    return "\n".join(lines).encode()


def test_an_import_of_more_than_a_megabyte_arrives(installed: Installation, proxy: Proxy) -> None:
    body = rows(12_000)
    assert len(body) > 1_500_000
    with proxy.client(installed.token) as client:
        answer = client.post(
            "/mailchimp/contacts/import", content=body, headers={"Content-Type": "text/csv"}
        )
    assert answer.status_code == 200, answer.text
    assert answer.json()["received"] == 12_000


def test_a_body_that_is_too_large_is_refused_in_json(installed: Installation, proxy: Proxy) -> None:
    with proxy.client(installed.token) as client:
        for size in (3, 9):  # the first is refused by mcsync, the second by nginx
            answer = client.post(
                "/mailchimp/contacts/upsert",
                content=b'{"contacts": "' + b"x" * (size << 20) + b'"}',
                headers={"Content-Type": "application/json"},
            )
            assert answer.status_code == 413
            assert answer.headers["Content-Type"].startswith("application/problem+json")
            assert answer.json()["code"] == "too_large"


def test_a_run_is_seen_while_it_goes_on(installed: Installation, proxy: Proxy) -> None:
    # The worker is suspended: the stream can only show `queued`, and does so before the run can end.
    made = installed.mutate("contacts.upsert", contacts=[
        {"entityType": "vendor", "entityId": "S-1", "email": "stream@people.example"},
    ])  # fmt: skip
    assert made
    audience = installed.query("connection.listAudiences")["items"][0]["audienceId"]
    segment = installed.mutate(
        "segments.create", name="Streamed", segmentType="vendor", audienceId=audience
    )
    installed.workers[0].send(signal.SIGSTOP)
    try:
        run = installed.mutate("segments.sync", id=segment["id"])
        seen: list[str] = []
        with (
            proxy.client(installed.token) as client,
            client.stream(
                "GET", "/mailchimp/segments/watchRun", params={"id": run["id"]}
            ) as stream,
        ):
            for line in stream.iter_lines():
                if line.startswith("data: "):
                    seen.append(json.loads(line[6:])["status"])
                    if len(seen) == 1:
                        installed.workers[0].send(signal.SIGCONT)
    finally:
        installed.workers[0].send(signal.SIGCONT)
    assert seen[0] == "queued"
    assert seen[-1] == "succeeded"


def test_the_secret_of_a_webhook_is_in_no_log(installed: Installation, proxy: Proxy) -> None:
    secret = "s3cretOfTheWebhookPath"
    with proxy.client() as client:
        for sender in ("mailchimp", "mandrill"):
            client.post(f"/webhooks/{sender}/{secret}", data={"type": "subscribe"})
    for api in installed.apis:
        assert secret not in api.log.read_text()
    # Nor where no API answers: nginx quotes the path in what it says about that.
    port = free_port()
    text = (proxy.folder / "mcsync.conf").read_text()
    for url in installed.urls:
        text = text.replace(url.removeprefix("http://"), f"127.0.0.1:{port}")
    (proxy.folder / "mcsync.conf").write_text(text)
    subprocess.run([*proxy.command, "-s", "reload"], check=True, capture_output=True)

    def refused() -> bool:
        with proxy.client() as client:
            return client.get("/health/live").status_code == 503

    until(refused, "nginx has the new upstreams", seconds=30)

    answers: list[httpx.Response] = []

    def webhook_refused() -> bool:
        # a worker of nginx that is on its way out may answer with the upstreams of before
        with proxy.client() as client:
            answers.append(client.post(f"/webhooks/mailchimp/{secret}", data={"type": "subscribe"}))
        return answers[-1].status_code == 503

    until(webhook_refused, "the webhook finds no API", seconds=30)
    answer = answers[-1]
    assert answer.json()["code"] == "unavailable"
    assert answer.headers["Retry-After"] == "5"
    logged = proxy.logs()
    assert secret not in logged
    assert re.search(r'"POST /webhooks/mailchimp/- HTTP/1\.1" 503 ', logged)


def test_nobody_notices_that_one_api_after_the_other_restarts(
    installed: Installation, proxy: Proxy
) -> None:
    # Only reads: a write that is on its way while its API closes an idle connection is answered with 503,
    # because it must not be sent twice.
    stop = threading.Event()

    def reads() -> Counter[int]:
        seen: Counter[int] = Counter()
        with proxy.client(installed.token) as client:
            while not stop.is_set():
                seen[client.get("/mailchimp/segments/list?limit=1").status_code] += 1
        return seen

    with ThreadPoolExecutor(3) as readers:
        reading = [readers.submit(reads) for _ in range(3)]
        try:
            for number in (0, 1, 0, 1):
                installed.restart_api(number)
        finally:
            stop.set()
    seen = sum((one.result() for one in reading), Counter())
    assert set(seen) == {200}
    assert seen[200] > 100


def test_what_a_client_claims_to_be_goes_no_further(installed: Installation, proxy: Proxy) -> None:
    with proxy.client(installed.token) as client:
        answer = client.get(
            "/mailchimp/segments/list?limit=1",
            headers={"X-Forwarded-For": "203.0.113.9", "X-Request-Id": "claims-0001"},
        )
    assert answer.status_code == 200
    assert answer.headers["X-Request-Id"] == "claims-0001"
    until(lambda: "claims-0001" in proxy.logs(), "the access line is written", seconds=10)
    (line,) = [one for one in proxy.logs().splitlines() if "claims-0001" in one]
    assert line.startswith("127.0.0.1 ")
    assert '"GET /mailchimp/segments/list ' in line
    for api in installed.apis:
        assert "203.0.113.9" not in api.log.read_text()
