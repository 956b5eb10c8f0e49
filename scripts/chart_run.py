#!/usr/bin/env python3
"""Runs what the chart renders, so that chart and binary cannot drift apart: for every file of helm/ci the pod's process,
with the arguments, the environment and the files of the rendered objects. It must start, pass its probes, serve those who
may call and refuse those who may not, and be gone within the pod's grace period. Then it holds the ranges that the chart
checks against those of the binary.

    .tools/venv/bin/python scripts/chart_run.py target/debug/whatsapp-gateway

What is different from a pod: the files lie in a directory of their own, the ports are free ones, nobody answers for Meta,
and secrets are made up here.
"""

import concurrent.futures
import hashlib
import http.client
import json
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
HELM, GRPCURL = ROOT / ".tools/bin/helm", ROOT / ".tools/bin/grpcurl"
BINARY = pathlib.Path(sys.argv[1]).resolve()
START_SECONDS_MAX = 60
# The hash of this token stands in the files of helm/ci.
TOKEN = "test"
# The public key of RFC 8037, appendix A.2.
JWKS = '{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}'
# Asked for by what the chart does not render: free ports, and no call to Meta from a test.
MOVED = {
    "WHATSAPP_GATEWAY__GRPC__LISTEN": "0.0.0.0:0",
    "WHATSAPP_GATEWAY__WEBHOOK__LISTEN": "0.0.0.0:0",
    "WHATSAPP_GATEWAY__ADMIN__LISTEN": "0.0.0.0:0",
    "WHATSAPP_GATEWAY__CLOUD_API__GRAPH_URL": "http://127.0.0.1:9",
    "WHATSAPP_GATEWAY__CLOUD_API__API_URL": "http://127.0.0.1:9",
}


def main():
    if not BINARY.exists():
        sys.exit(f"chart-run: there is no {BINARY}; run 'make cargo-test', which builds it")
    files = sorted((ROOT / "helm/ci").glob("*.yaml"))
    with tempfile.TemporaryDirectory() as work, concurrent.futures.ThreadPoolExecutor(len(files)) as pool:
        runs = {pool.submit(run, file, pathlib.Path(work) / file.stem): file.stem for file in files}
        failed = False
        for future in concurrent.futures.as_completed(runs):
            try:
                print(f"chart-run: {runs[future]}: {future.result()}")
            except Failure as failure:
                failed = True
                print(f"chart-run: FAILED: {runs[future]}: {failure}", file=sys.stderr)
        check_ranges(pathlib.Path(work) / "minimal")
    sys.exit(failed)


class Failure(Exception):
    pass


def run(values, work):
    """Starts the pod's process, tries it, and stops it; says what was tried."""
    rendered = subprocess.run(
        [HELM, "template", "gw", ROOT / "helm", "--values", values], capture_output=True, text=True, check=True
    ).stdout
    objects = [item for item in yaml.safe_load_all(rendered) if item]
    pod = next(item for item in objects if item["kind"] == "StatefulSet")["spec"]["template"]["spec"]
    container = next(container for container in pod["containers"] if container["name"] == "gateway")
    config = write_files(objects, pod, container, work)

    arguments = [moved(argument, work) for argument in container["args"]]
    environment = {item["name"]: item.get("value", "stand-in") for item in container.get("env", [])} | MOVED
    with open(work / "log", "w") as log:
        process = subprocess.Popen([BINARY, *arguments], env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        ready = json.loads(process.stdout.readline() or "null")
        if not ready:
            raise Failure(f"it did not start:\n{(work / 'log').read_text()}")
        check_probes(container, ready)
        check_webhook(config, ready)
        tried = f"{check_calls(config, ready, work)}, {check_selftest(objects, config, ready, work)}"
    finally:
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(pod["terminationGracePeriodSeconds"])
        except subprocess.TimeoutExpired:
            process.kill()
            code = "none within the grace period"
    if code != 0:
        raise Failure(f"exit code {code} after SIGTERM:\n{(work / 'log').read_text()}")
    seconds = time.monotonic() - began
    return f"started, {tried}, stopped in {seconds:.1f} of {pod['terminationGracePeriodSeconds']} s"


def moved(text, work):
    return re.sub(r"/(etc|var/lib)/whatsapp-gateway\b", lambda match: f"{work}{match[0]}", text)


def write_files(objects, pod, container, work):
    """What the container mounts, at the same paths below `work`. Returns the rendered configuration."""
    mounts = {mount["name"]: work / mount["mountPath"].lstrip("/") for mount in container["volumeMounts"]}
    maps = {item["metadata"]["name"]: item["data"] for item in objects if item["kind"] == "ConfigMap" and "data" in item}
    for path in mounts.values():
        path.mkdir(parents=True, exist_ok=True)
    own = next(volume["configMap"]["name"] for volume in pod["volumes"] if volume["name"] == "config")
    config = maps[own]["config.toml"]
    (mounts["config"] / "config.toml").write_text(moved(config, work))
    for name in re.findall(r'"/etc/whatsapp-gateway/secrets/([^"]+)"', config):
        # Each caller has a token of its own, which is the name of the file.
        is_hash = name.endswith("sha256")
        text = hashlib.sha256(name.encode()).hexdigest() if is_hash else JWKS if name.endswith("jwks") else "secret"
        (mounts["secrets"] / name).write_text(text + "\n")
    if "grpc-tls" in mounts:
        write_certificates(mounts["grpc-tls"], work, re.findall(r'identities = \["([^"]+)"', config))
    return config


def write_certificates(folder, work, identities):
    """A certificate for the port, and one for a client that has the first identity of the first caller."""

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=work, check=True, capture_output=True)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]
    openssl("req", "-x509", *key, "-subj", "/CN=authority", "-keyout", "ca.key", "-out", str(folder / "ca.crt"))
    client = identities[0] if identities else "dns:client"
    san = client.replace("dns:", "DNS:") if client.startswith("dns:") else f"URI:{client}"
    for name, out, alternative in (("tls", folder, "DNS:gateway,IP:127.0.0.1"), ("client", work, san)):
        openssl("req", "-x509", *key, "-subj", f"/CN={name}", "-addext", f"subjectAltName={alternative}",
                "-addext", "basicConstraints=critical,CA:FALSE", "-CA", str(folder / "ca.crt"), "-CAkey", "ca.key",
                "-keyout", str(out / f"{name}.key"), "-out", str(out / f"{name}.crt"))


def port_of(address):
    return int(address.rsplit(":", 1)[1])


def check_probes(container, ready):
    for probe in "startupProbe", "livenessProbe", "readinessProbe":
        path = container[probe]["httpGet"]["path"]
        deadline = time.monotonic() + START_SECONDS_MAX
        while (status := request("GET", ready["admin"], path)) != 200:
            if time.monotonic() > deadline:
                raise Failure(f"the {probe} {path} answers {status}")
            time.sleep(0.1)


def check_webhook(config, ready):
    path = re.search(r'^path = "(.*)"$', config, re.M)[1]
    for wanted, where in ((401, path), (404, path + "x")):
        status = request("POST", ready["webhook"], where, "{}")
        if status != wanted:
            raise Failure(f"an unsigned webhook to {where} is answered {status}, not {wanted}")


def request(method, address, path, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port_of(address), timeout=10)
    try:
        connection.request(method, path, body)
        return connection.getresponse().status
    finally:
        connection.close()


def check_calls(config, ready, work):
    """Health, and a call by each credential that the configuration has, and by none. Says which."""
    tls = work / "etc/whatsapp-gateway/tls"
    transport = ["-plaintext"]
    if tls.exists():
        transport = ["-cacert", tls / "ca.crt", "-servername", "gateway"]
    certificate = ["-cert", work / "client.crt", "-key", work / "client.key"]
    needs_certificate = 'client_auth = "required"' in config
    if needs_certificate:
        without = grpcurl(transport, ready, "grpc.health.v1.Health/Check")
        if without.returncode == 0:
            raise Failure("a client without a certificate is connected")
        transport += certificate

    health = grpcurl(transport, ready, "grpc.health.v1.Health/Check")
    if '"SERVING"' not in health.stdout:
        raise Failure(f"health: {health.stdout}{health.stderr}")
    tried = ["health"]
    callers = re.split(r"^\[\[callers\]\]$", config, flags=re.M)[1:]
    for caller in callers:
        name = re.search(r'name = "(.*)"', caller)[1]
        credentials = {}
        if hashlib.sha256(TOKEN.encode()).hexdigest() in caller.lower():
            credentials["token"] = ["-H", f"authorization: Bearer {TOKEN}"]
        if file := re.search(r'token_sha256_file = ".*/secrets/(.*)"', caller):
            credentials["token of a file"] = ["-H", f"authorization: Bearer {file[1]}"]
        if "identities = " in caller and caller is callers[0] and tls.exists():
            credentials["certificate"] = [] if needs_certificate else certificate
        if name == "anonymous":
            credentials["no credential"] = []
        for kind, arguments in credentials.items():
            answer = grpcurl([*transport, *arguments], ready, "whatsapp.gateway.v1.GatewayService/WhoAmI")
            if f'"{name}"' not in answer.stdout:
                raise Failure(f"WhoAmI of {name} by {kind}: {answer.stdout}{answer.stderr}")
            tried.append(f"{name} by {kind}")
    is_open = "insecure = true" in config and (not callers or 'name = "anonymous"' in config)
    if not is_open and not needs_certificate:
        answer = grpcurl(transport, ready, "whatsapp.gateway.v1.GatewayService/WhoAmI")
        if "Unauthenticated" not in answer.stderr:
            raise Failure(f"WhoAmI without a credential: {answer.stdout}{answer.stderr}")
        tried.append("nobody without")
    return ", ".join(tried)


def grpcurl(arguments, ready, method):
    address = f"127.0.0.1:{port_of(ready['grpc'])}"
    return subprocess.run(
        [GRPCURL, "-max-time", "20", *arguments, address, method], capture_output=True, text=True, check=False
    )


def check_selftest(objects, config, ready, work):
    """Runs the pod of `helm test` likewise, as soon as the binary has the command. Says so."""
    pods = [item for item in objects if item["kind"] == "Pod" and item["metadata"]["name"].endswith("-selftest")]
    if not pods or subprocess.run([BINARY, "selftest", "--help"], capture_output=True, check=False).returncode:
        return "no selftest"
    arguments = [moved(argument, work) for argument in pods[0]["spec"]["containers"][0]["args"]]
    arguments[arguments.index("--grpc-address") + 1] = f"127.0.0.1:{port_of(ready['grpc'])}"
    if "--token-file" in arguments:
        path = pathlib.Path(arguments[arguments.index("--token-file") + 1])
        path.parent.mkdir(parents=True)
        path.write_text(TOKEN if "token_sha256 = " in config else re.search(r'token_sha256_file = ".*/(.*)"', config)[1])
    for option, name in (("--cert-file", "client.crt"), ("--key-file", "client.key")):
        if option in arguments:
            path = pathlib.Path(arguments[arguments.index(option) + 1])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes((work / name).read_bytes())
    result = subprocess.run([BINARY, *arguments], env={}, capture_output=True, text=True, timeout=60, check=False)
    if result.returncode != 0:
        raise Failure(f"selftest: {arguments}\n{result.stdout}{result.stderr}")
    return "selftest"


def check_ranges(work):
    """The binary takes both ends of each range of the chart, and nothing beyond them."""
    template = (ROOT / "helm/templates/_gateway.tpl").read_text()
    ranges = {key: json.loads(range_) for key, range_ in re.findall(r"^([a-z_]+\.[a-z_]+): (\[.*\])$", template, re.M)}
    if not ranges:
        raise Failure("there are no ranges in _gateway.tpl")
    ends = {"least": {}, "greatest": {}, "less": {}, "more": {}}
    for key, (least, greatest, _) in ranges.items():
        ends["least"][key] = least
        if amount(least):
            ends["less"][key] = plain(least, -1)
        if greatest:
            ends["greatest"][key] = greatest
            ends["more"][key] = plain(greatest, 1)
    for key, schema in numbers():
        ends["least"][key], ends["less"][key] = str(schema["minimum"]), str(schema["minimum"] - 1)
        ends["greatest"][key], ends["more"][key] = str(schema["maximum"]), str(schema["maximum"] + 1)
    for end, settings in ends.items():
        environment = {f"WHATSAPP_GATEWAY__{key.replace('.', '__').upper()}": value for key, value in settings.items()}
        result = subprocess.run(
            [BINARY, "check-config", "--config", work / "etc/whatsapp-gateway/config.toml"],
            env=environment, capture_output=True, text=True, check=False,
        )
        if end in ("least", "greatest") and result.returncode != 0:
            sys.exit(f"chart-run: the binary refuses what the chart takes for the {end}:\n{result.stderr}")
        for key in settings if end in ("less", "more") else ():
            if key not in result.stderr:
                sys.exit(f"chart-run: the binary takes {key} = {settings[key]}, which the chart refuses:\n{result.stderr}")
    print(f"chart-run: the binary has the {len(ranges)} ranges of the templates and the {len(list(numbers()))} of the schema")


def numbers():
    """("section.key", schema) for every number under config."""
    schema = json.loads((ROOT / "helm/values.schema.json").read_text())
    for section, table in schema["properties"]["config"]["properties"].items():
        for key, value in table["properties"].items():
            if value.get("type") in ("integer", "number"):
                yield f"{section}.{key}", value


UNITS = {"ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "day": 86_400_000, "days": 86_400_000,
         "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def amount(text):
    number, unit = text.split()
    return int(float(number) * UNITS[unit])


def plain(text, more):
    return f"{amount(text) + more} {'B' if text.endswith('B') else 'ms'}"


main()
