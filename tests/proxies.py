"""nginx and Caddy in front of a server, with the configuration that docs/operating.md gives to operators."""

import getpass
import os
import signal
import socket
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.documents import ROOT, code_blocks
from tests.needs import CADDY, NGINX
from tests.ports import free_port

OPERATING = ROOT / "docs/operating.md"
SITE = "board.example.com"
DEADLINE = 20.0


class Proxy:
    """A proxy program on ports of its own; `url` is where the site is reached through it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.plain_port = free_port()
        self.url = f"https://localhost:{self.port}"
        self.certificate, self.key = make_certificate(folder)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, command: list[str]) -> None:
        log = (self.folder / "proxy.log").open("wb")
        env = {**os.environ, "XDG_DATA_HOME": str(self.folder), "XDG_CONFIG_HOME": str(self.folder)}
        self.process = subprocess.Popen(command, cwd=self.folder, env=env, stdout=log, stderr=log)
        deadline = time.monotonic() + DEADLINE
        while not answers(self.port):
            assert self.process.poll() is None and time.monotonic() < deadline, self.output()
            time.sleep(0.05)

    def output(self) -> str:
        return "\n".join(path.read_text() for path in self.folder.glob("*.log"))

    def __exit__(self, *exc: object) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(DEADLINE)


class Nginx(Proxy):
    def __init__(
        self, folder: Path, upstream_port: int, site: str | None = None, *, http2: bool = True
    ) -> None:
        super().__init__(folder)
        self._protocol = " http2" if http2 else ""
        self._site = self.adapted(site or code_blocks(OPERATING, "nginx")[0], upstream_port)

    def adapted(self, site: str, upstream_port: int) -> str:
        """The site's text with this test's names and ports, and nothing else changed."""
        for documented, here in {
            "127.0.0.1:8000": f"127.0.0.1:{upstream_port}",
            "listen 80;": f"listen 127.0.0.1:{self.plain_port};",
            "listen 443 ssl http2;": f"listen 127.0.0.1:{self.port} ssl{self._protocol};",
            f"server_name {SITE};": "server_name localhost;",
            f"/etc/letsencrypt/live/{SITE}/fullchain.pem": str(self.certificate),
            f"/etc/letsencrypt/live/{SITE}/privkey.pem": str(self.key),
        }.items():
            assert documented in site, f"docs/operating.md has no {documented!r}"
            site = site.replace(documented, here)
        return site

    def __enter__(self) -> "Nginx":
        user = f"user {getpass.getuser()};" if os.geteuid() == 0 else ""
        temporary = "".join(
            f"{kind}_temp_path {self.folder}/{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        config = self.folder / "nginx.conf"
        config.write_text(
            f"{user}\ndaemon off;\npid {self.folder}/nginx.pid;\nerror_log {self.folder}/error.log;\n"
            "events { worker_connections 1024; }\n"
            # As in Debian's nginx.conf, which compresses what it is not told to leave alone.
            f"http {{ access_log off; gzip on;\n{temporary}{self._site}}}\n"
        )
        assert NGINX
        self.start([NGINX, "-p", str(self.folder), "-c", str(config)])
        return self


class Caddy(Proxy):
    def __init__(self, folder: Path, upstream_port: int) -> None:
        super().__init__(folder)
        site = code_blocks(OPERATING, "caddy")[0]
        assert f"{SITE} {{" in site and "127.0.0.1:8000" in site
        self._site = site.replace(
            f"{SITE} {{", f"https://localhost:{self.port} {{\n\ttls {self.certificate} {self.key}"
        ).replace("127.0.0.1:8000", f"127.0.0.1:{upstream_port}")

    def __enter__(self) -> "Caddy":
        config = self.folder / "Caddyfile"
        config.write_text(f"{{\n\tadmin off\n\tauto_https off\n}}\n{self._site}")
        assert CADDY
        self.start([CADDY, "run", "--config", str(config), "--adapter", "caddyfile"])
        return self


def answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for localhost that signs itself; its file and its key's."""
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / "certificate.pem", folder / "key.pem"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return certificate_file, key_file
