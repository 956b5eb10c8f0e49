"""A nats-server for scripts/chart_run.py: as strict as the values of a chart say, with credentials and certificates that
are made up here."""

import base64
import contextlib
import itertools
import json
import pathlib
import random
import re
import socket
import subprocess
import time

SERVER = pathlib.Path(__file__).resolve().parent.parent / ".tools/bin/nats-server"
START_SECONDS_MAX = 30
# Below those that the system gives out.
PORTS = itertools.count(random.randrange(20_000, 30_000))
# What the names of keys begin with: N, A, U and O of "nkeys".
ACCOUNT, USER, OPERATOR, SEED = 0 << 3, 20 << 3, 14 << 3, 18 << 3


@contextlib.contextmanager
def server(config, folders, work):
    """Starts a server for a gateway with this configuration, and writes what the gateway mounts of it into `folders`
    ({"nats-credentials": path, "nats-tls": path}). Yields its URL."""
    work = work / "nats"
    work.mkdir()
    settings = dict(re.findall(r'^(\w+) = "?([^"\n]*)"?$', config.split("[storage.nats]\n")[1].split("\n\n")[0], re.M))
    lines = ['listen: "127.0.0.1:-1"', f'ports_file_dir: "{work}"', "server_name: nats-0", "max_payload: 8MB",
             f'jetstream {{ store_dir: "{work}/store", max_file_store: 1TB }}']
    name = {key: pathlib.Path(path).name for key, path in settings.items() if key.endswith("_file")}
    if "credentials_file" in settings:
        lines += by_credentials_file(folders["nats-credentials"] / name["credentials_file"], work)
    elif "user" in settings:
        (folders["nats-credentials"] / name["password_file"]).write_text("right\n")
        lines.append(f'authorization {{ user: "{settings["user"]}", password: "right" }}')
    if "ca_file" in settings:
        authority = make_authority(folders["nats-tls"] / name["ca_file"], work)
        certify(authority, "DNS:nats,IP:127.0.0.1", work / "server.crt", work / "server.key")
        lines.append(f'tls {{ cert_file: "{work}/server.crt", key_file: "{work}/server.key", ca_file: "{authority[0]}", '
                     f'verify: {json.dumps("cert_file" in settings)} }}')
        if "cert_file" in settings:
            certify(authority, "DNS:gateway", *(folders["nats-tls"] / name[key] for key in ("cert_file", "key_file")))
    (work / "nats.conf").write_text("\n".join(lines) + "\n")
    with open(work / "log", "w") as log:
        process = subprocess.Popen([SERVER, "-c", work / "nats.conf"], stdout=log, stderr=log)
    try:
        port = port_of(process, work)
        yield f"{'tls' if 'ca_file' in settings else 'nats'}://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def port_of(process, work):
    """The port that it took, when it listens."""
    ports = work / f"nats-server_{process.pid}.ports"
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline and process.poll() is None:
        # It may be half written.
        with contextlib.suppress(OSError, ValueError):
            return int(json.loads(ports.read_text())["nats"][0].rsplit(":", 1)[1])
        time.sleep(0.05)
    raise RuntimeError(f"nats-server does not listen:\n{(work / 'log').read_text()}")


def free_port():
    """A port that nobody is given who asks the system for any, and each only once."""
    for port in PORTS:
        with contextlib.suppress(OSError), socket.socket() as listener:
            listener.bind(("127.0.0.1", port))
            return port


def openssl(*arguments):
    return subprocess.run(["openssl", *arguments], check=True, capture_output=True).stdout


NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]


def make_authority(certificate, work):
    """An authority whose certificate clients shall have there. Returns the paths of certificate and key."""
    key = work / "authority.key"
    openssl("req", "-x509", *NEW_KEY, "-subj", "/CN=authority", "-keyout", key, "-out", certificate)
    return certificate, key


def certify(authority, names, certificate, key):
    openssl("req", "-x509", *NEW_KEY, "-subj", f"/CN={certificate.stem}", "-addext", f"subjectAltName={names}",
            "-addext", "basicConstraints=critical,CA:FALSE", "-CA", authority[0], "-CAkey", authority[1],
            "-keyout", key, "-out", certificate)


def by_credentials_file(path, work):
    """What nsc would make: an operator, its system account, an account and a user, whose file is written. Returns the lines
    of the server's configuration."""
    operator, system, account, user = (
        Key(kind, work / f"{name}.pem")
        for kind, name in ((OPERATOR, "operator"), (ACCOUNT, "system"), (ACCOUNT, "account"), (USER, "user"))
    )
    no_limits = {"subs": -1, "data": -1, "payload": -1}
    of_account = no_limits | {"imports": -1, "exports": -1, "wildcards": True, "conn": -1, "leaf": -1}
    jetstream = {"mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1}
    accounts = {
        system.name: operator.sign(system, {"type": "account", "limits": of_account}),
        account.name: operator.sign(account, {"type": "account", "limits": of_account | jetstream}),
    }
    token = account.sign(user, {"type": "user", "pub": {}, "sub": {}} | no_limits)
    path.write_text(f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
                    f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n")
    preload = ", ".join(f"{name}: {token}" for name, token in accounts.items())
    return [f"operator: {operator.sign(operator, {'type': 'operator'})}", "resolver: MEMORY",
            f"system_account: {system.name}", f"resolver_preload: {{ {preload} }}"]


class Key:
    """A key of NATS: Ed25519, with names in base 32 that begin with what it is for and end with a checksum."""

    def __init__(self, kind, path):
        self.path = path
        openssl("genpkey", "-algorithm", "ed25519", "-out", path)
        private, public = (openssl("pkey", "-in", path, *part, "-outform", "DER")[-32:] for part in ([], ["-pubout"]))
        self.name = spelled(bytes([kind]) + public)
        self.seed = spelled(bytes([SEED | kind >> 5, (kind & 31) << 3]) + private)

    def sign(self, subject, claims):
        header = {"typ": "JWT", "alg": "ed25519-nkey"}
        claims = {"iss": self.name, "sub": subject.name, "name": "test", "iat": int(time.time()),
                  "jti": subject.name, "nats": claims | {"version": 2}}
        text = ".".join(coded(json.dumps(part).encode()) for part in (header, claims))
        signed = self.path.with_suffix(".txt")
        signed.write_text(text)
        signature = openssl("pkeyutl", "-sign", "-rawin", "-inkey", self.path, "-in", signed)
        return f"{text}.{coded(signature)}"


def coded(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def spelled(data):
    checksum = 0
    for byte in data:
        checksum ^= byte << 8
        for _ in range(8):
            checksum = (checksum << 1 ^ (0x1021 if checksum & 0x8000 else 0)) & 0xFFFF
    return base64.b32encode(data + checksum.to_bytes(2, "little")).decode().rstrip("=")
