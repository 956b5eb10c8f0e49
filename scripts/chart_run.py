#!/usr/bin/env python3
"""Runs what the chart renders, so that chart and binary cannot drift apart: for every file of helm/ci the pod's process,
with the arguments, the environment and the files of the rendered objects. It must start, pass its probes, serve those who
may call and refuse those who may not, and be gone within the pod's grace period. Where the pods are on NATS there is a server, and two
pods where the chart has several: one leads, what is made by one is there by the other, and when the leader ends the other one
goes on. Then it holds the ranges that the chart checks against those of the binary.

    .tools/venv/bin/python scripts/chart_run.py target/debug/whatsapp-gateway

What is different from a pod: the files lie in a directory of their own, the ports are free ones, nobody answers for Meta,
secrets are made up here, and one server of NATS stands for three.
"""

import concurrent.futures
import contextlib
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

import chart_nats

ROOT = pathlib.Path(__file__).resolve().parent.parent
HELM, GRPCURL = ROOT / ".tools/bin/helm", ROOT / ".tools/bin/grpcurl"
BINARY = pathlib.Path(sys.argv[1]).resolve()
START_SECONDS_MAX = 60
# Longer than nobody leads when a leader ends: by a few renewals of its lease.
LEADERLESS_SECONDS_MAX = 15
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
    """Starts the processes of the pods, tries them, and stops them; says what was tried."""
    rendered = subprocess.run(
        [HELM, "template", "gw", ROOT / "helm", "--values", values], capture_output=True, text=True, check=True
    ).stdout
    objects = [item for item in yaml.safe_load_all(rendered) if item]
    workload = next(item for item in objects if item["kind"] in ("StatefulSet", "Deployment"))["spec"]
    spec = workload["template"]["spec"]
    container = next(container for container in spec["containers"] if container["name"] == "gateway")
    config, mounts = write_files(objects, spec, container, work)
    with contextlib.ExitStack() as stack:
        variables = dict(MOVED)
        if "[storage.nats]" in config:
            url = stack.enter_context(chart_nats.server(config, mounts, work))
            variables |= {"WHATSAPP_GATEWAY__STORAGE__NATS__URLS": url, "WHATSAPP_GATEWAY__STORAGE__NATS__REPLICAS": "1"}
        # Of a Deployment with an autoscaler it is not said how many.
        count = min(2, workload.get("replicas", 2))
        pods = [stack.enter_context(Pod(spec, container, variables, work, index)) for index in range(count)]
        for pod in pods:
            pod.wait_until_it_serves()
            check_probes(container, pod.ready)
            check_webhook(config, pod.ready)
            tried = check_calls(config, pod.ready, work)
        tried += f", {check_selftest(objects, config, pods[0].ready, work)}"
        if len(pods) > 1:
            tried += f", {check_replicas(pods, work)}"
        seconds = max(pod.stop() for pod in pods)
    return f"started {len(pods)}, {tried}, stopped in {seconds:.1f} of {spec['terminationGracePeriodSeconds']} s"


class Pod:
    """The process of a pod; it does not outlive the context."""

    def __init__(self, spec, container, variables, work, index):
        self.log = work / f"log-{index}"
        self.grace_seconds = spec["terminationGracePeriodSeconds"]
        environment = {}
        for item in container.get("env", []):
            source = item.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
            value = item.get("value", "127.0.0.1" if source == "status.podIP" else "stand-in")
            environment[item["name"]] = re.sub(r"\$\((\w+)\)", lambda match: environment[match[1]], value)
        for port in container["ports"]:
            if port["name"] == "peers":
                environment |= self.at_a_free_port(environment, port["containerPort"])
        arguments = [moved(argument, work) for argument in container["args"]]
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [BINARY, *arguments], env=environment | variables, stdout=subprocess.PIPE, stderr=log, text=True
            )
        self.ready = None

    @staticmethod
    def at_a_free_port(environment, port):
        """The port between pods, which is the same in all of them, and here they have one address."""
        advertised = environment["WHATSAPP_GATEWAY__PEERS__ADVERTISE"]
        if advertised != f"127.0.0.1:{port}":
            raise Failure(f"the others are told {advertised}, and the container has its port at {port}")
        free = chart_nats.free_port()
        return {"WHATSAPP_GATEWAY__PEERS__LISTEN": f"0.0.0.0:{free}", "WHATSAPP_GATEWAY__PEERS__ADVERTISE": f"127.0.0.1:{free}"}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def wait_until_it_serves(self):
        self.ready = json.loads(self.process.stdout.readline() or "null")
        if not self.ready:
            raise Failure(f"it did not start:\n{self.log.read_text()}")

    def metric(self, name):
        text = fetch("GET", self.ready["admin"], "/metrics")[1]
        if not (found := re.search(rf"^{name} (\S+)$", text, re.M)):
            raise Failure(f"there is no metric {name}")
        return float(found[1])

    def stop(self):
        """Tells it to end, as the kubelet does, and returns how many seconds that took."""
        began = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(self.grace_seconds)
        except subprocess.TimeoutExpired:
            code = "none within the grace period"
        if code != 0:
            raise Failure(f"exit code {code} after SIGTERM:\n{self.log.read_text()}")
        return time.monotonic() - began


def moved(text, work):
    return re.sub(r"/(etc|var/lib)/whatsapp-gateway\b", lambda match: f"{work}{match[0]}", text)


def write_files(objects, pod, container, work):
    """What the container mounts, at the same paths below `work`. Returns the rendered configuration, and the paths."""
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
    return config, mounts


def write_certificates(folder, work, identities):
    """A certificate for the port, and one for a client that has the first identity of the first caller."""
    authority = chart_nats.make_authority(folder / "ca.crt", work)
    client = identities[0] if identities else "dns:client"
    san = client.replace("dns:", "DNS:") if client.startswith("dns:") else f"URI:{client}"
    chart_nats.certify(authority, "DNS:gateway,IP:127.0.0.1", folder / "tls.crt", folder / "tls.key")
    chart_nats.certify(authority, san, work / "client.crt", work / "client.key")


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
    return fetch(method, address, path, body)[0]


def fetch(method, address, path, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port_of(address), timeout=10)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def check_calls(config, ready, work):
    """Health, and a call by each credential that the configuration has, and by none. Says which."""
    transport = transport_of(work)
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
        if "identities = " in caller and caller is callers[0] and "-plaintext" not in transport:
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


def transport_of(work):
    tls = work / "etc/whatsapp-gateway/tls"
    return ["-cacert", tls / "ca.crt", "-servername", "gateway"] if tls.exists() else ["-plaintext"]


def check_replicas(pods, work):
    """One leads; what is made by a call to one is there for a call to another; and when the leader ends, the other pod leads,
    and no call to it fails meanwhile. Says so."""
    leader, follower = sorted(pods, key=lambda pod: -pod.metric("whatsapp_gateway_leads"))
    if [pod.metric("whatsapp_gateway_leads") for pod in (leader, follower)] != [1, 0]:
        raise Failure("not exactly one pod leads")
    if follower.metric("whatsapp_gateway_leader_settings_differ") != 0:
        raise Failure(f"pods of one release have different settings:\n{follower.log.read_text()}")
    transport = [*transport_of(work), "-H", f"authorization: Bearer {TOKEN}"]

    def call(pod, method, request):
        method = f"whatsapp.gateway.v1.SubscriptionService/{method}Subscription"
        answer = grpcurl([*transport, "-d", json.dumps(request)], pod.ready, method)
        if answer.returncode != 0 or '"shared"' not in answer.stdout:
            raise Failure(f"{method}: {answer.stdout}{answer.stderr}\n{pod.log.read_text()}")

    call(follower, "Create", {"subscription": {"name": "shared"}})
    for pod in leader, follower:
        call(pod, "Get", {"name": "shared"})

    leader.process.send_signal(signal.SIGTERM)
    slowest, calls, deadline = 0, 0, time.monotonic() + leader.grace_seconds + LEADERLESS_SECONDS_MAX
    while follower.metric("whatsapp_gateway_leads") != 1:
        if time.monotonic() > deadline:
            raise Failure(f"nobody leads after the leader has ended:\n{follower.log.read_text()}")
        began = time.monotonic()
        call(follower, "Get", {"name": "shared"})
        slowest, calls = max(slowest, time.monotonic() - began), calls + 1
    call(follower, "Get", {"name": "shared"})
    return f"another leads in its turn ({calls} calls meanwhile, the slowest took {slowest:.1f} s)"


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
