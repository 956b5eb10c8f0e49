#!/usr/bin/env python3
"""Tries the images that scripts/image_test.sh has built: what is in them, and how they run the way a `restricted` pod does.
Prints a table of their sizes and times.

    scripts/image_check.py amd64 arm64 COMMIT      the machine's architecture, the others that were built (or ""), and what
                                                   all images were built from

Every container has a network of its own with nothing but loopback, so the ports are those of a pod and nothing leaves the
machine. Calls come from this side, through the container's network namespace.
"""

import contextlib
import gzip
import io
import json
import os
import pathlib
import re
import statistics
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import zlib

ROOT = pathlib.Path(__file__).resolve().parent.parent
GRPCURL = ROOT / ".tools/bin/grpcurl"
BINARY, SBOM, DATA = "usr/local/bin/whatsapp-gateway", "usr/share/sbom/whatsapp-gateway.cdx.json", "var/lib/whatsapp-gateway"
COMPRESSED_BYTES_MAX = 12_000_000
# What the real base takes more than the one that stands in for it: time zones, and the rest of its packages' data.
BASE_RESERVE = 1_000_000
# The test of the update is compiled first.
READY_SECONDS_MAX, TEST_SECONDS_MAX, STARTS = 60, 1800, 5
MACHINES = {"amd64": 62, "arm64": 183}
RESTRICTED = ["--read-only", "--read-only-tmpfs=false", "--cap-drop=all", "--security-opt=no-new-privileges", "--memory=256m",
              "--cpus=1"]
# The account of the simulator, as `dev` configures it.
ACCOUNT = {
    "WHATSAPP_ACCESS_TOKEN": "dev-access-token",
    "WHATSAPP_PHONE_NUMBER_ID": "106540352242922",
    "WHATSAPP_BUSINESS_ACCOUNT_ID": "102290129340398",
    "WHATSAPP_APP_ID": "1234567890",
    "WHATSAPP_APP_SECRET": "dev-app-secret",
    "WHATSAPP_VERIFY_TOKEN": "dev-verify-token",
    "WHATSAPP_GATEWAY__CLOUD_API__GRAPH_URL": "http://127.0.0.1:8081",
    "WHATSAPP_GATEWAY__CLOUD_API__API_URL": "http://127.0.0.1:8081",
    "WHATSAPP_GATEWAY__GRPC__INSECURE": "true",
}
SUCCESSOR = "successor::a_successor_takes_the_volume_over_under_load"
SERVICE = "whatsapp.gateway.v1.GatewayService"


def main():
    machine, others = sys.argv[1], sys.argv[2].split()
    rows = []
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        for target, architecture in [("gateway", machine), ("simulator", machine), *(("gateway", each) for each in others)]:
            image = Image(target, architecture, work)
            check_contents(image)
            rows.append(image.row())
        gateway = Image("gateway", machine, work)
        check_symbols(gateway, Image("symbols", machine, work))
        rows[0]["exec to ready"] = f"{start_time(gateway, work) * 1000:.0f} ms"
        meta = Container("meta", f"localhost/simulator:{machine}", "simulator", "--webhook-url", "http://127.0.0.1:8080/webhook",
                         options=["--network=none"])
        rows[0]["start to ready"] = f"{check_gateway(machine, work) * 1000:.0f} ms"
        check_successor(machine, work, meta)
        meta.stop()
        run("podman", "rm", "meta")
        check_simulator(machine, work)
        for architecture in others:
            check_emulated(Image("gateway", architecture, work), work)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join(str(row.get(column, "")) for column in columns) + " |")


class Failure(Exception):
    pass


def expect(condition, sentence):
    if not condition:
        raise Failure(sentence)


def run(*command, check=True, timeout=120, **options):
    result = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, **options)
    if check and result.returncode:
        raise Failure(f"{' '.join(map(str, command))}: exit code {result.returncode}\n{result.stdout}{result.stderr}")
    return result


class Image:
    """An image as a registry would have it: layers of compressed tar, the later ones on top."""

    def __init__(self, target, architecture, work):
        self.name, self.target, self.architecture = f"localhost/{target}:{architecture}", target, architecture
        folder = work / f"{target}-{architecture}"
        if not folder.exists():
            run("skopeo", "copy", "--dest-compress", f"containers-storage:{self.name}", f"dir:{folder}")
        self.config = json.loads(run("podman", "image", "inspect", self.name).stdout)[0]
        manifest = json.loads((folder / "manifest.json").read_text())
        self.layers = [(folder / layer["digest"].split(":")[1]).read_bytes() for layer in manifest["layers"]]
        self.plain = [gzip.decompress(layer) for layer in self.layers]
        self.files = {}
        for index, layer in enumerate(self.plain):
            with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
                self.files |= {member.name.strip("./"): (index, member) for member in archive}

    def read(self, path):
        index, member = self.files[path]
        with tarfile.open(fileobj=io.BytesIO(self.plain[index])) as archive:
            return archive.extractfile(member).read()

    def row(self):
        return {
            "image": f"{self.target}, {self.architecture}",
            "compressed": f"{sum(map(len, self.layers)) / 1e6:.2f} MB",
            "uncompressed": f"{sum(map(len, self.plain)) / 1e6:.2f} MB",
            "binary": f"{self.files[BINARY][1].size / 1e6:.2f} MB",
            "layers": " + ".join(f"{len(layer) / 1e6:.2f}" for layer in self.layers),
        }


def check_contents(image):
    config = image.config["Config"]
    expect(image.config["Architecture"] == image.architecture, f"{image.name} is for {image.config['Architecture']}")
    expect(config["User"] == "65532:65532", f"the user of {image.name} is {config['User']}")
    expect(config["Entrypoint"] == [f"/{BINARY}"], f"the entry point of {image.name} is {config['Entrypoint']}")
    expect(image.config.get("Healthcheck", {}).get("Test"), f"{image.name} has no health check")
    labels = {key.removeprefix("org.opencontainers.image."): value for key, value in config["Labels"].items()}
    for key, value in {"title": "whatsapp-gateway", "version": "0.0.0-test", "revision": sys.argv[3], "description": None,
                       "licenses": None, "source": None, "base.name": "gcr.io/distroless/static-debian12:nonroot",
                       "base.digest": None}.items():
        expect(labels.get(key) if value is None else labels.get(key) == value, f"{image.name}: label {key}: {labels}")

    executables = [name for name, (_, file) in image.files.items() if file.isfile() and file.mode & 0o111]
    expect(executables == [BINARY], f"{image.name} can execute {executables}; a shell among them is one too many")
    expect(image.files[DATA][1].uid == 65532, f"/{DATA} belongs to {image.files[DATA][1].uid}")
    size = sum(map(len, image.layers))
    # What is only tried out may be larger.
    expect(image.target == "simulator" or size <= COMPRESSED_BYTES_MAX - BASE_RESERVE, f"{image.name} has {size} bytes, compressed")

    binary = Elf(image.read(BINARY))
    expect(binary.machine == MACHINES[image.architecture], f"the binary of {image.name} is for machine {binary.machine}")
    expect(not binary.is_dynamic, f"the binary of {image.name} asks for an interpreter: it is not static")
    for path in b"/usr/local/", b"/build/target", b"/root/":
        expect(path not in binary.data, f"the binary of {image.name} names {path.decode()}, a path of its build")
    expect(b"mimalloc" in binary.data, f"the binary of {image.name} has no mimalloc")
    audit = json.loads(zlib.decompress(binary.section(".dep-v0")))
    crates = {(crate["name"], crate["version"]) for crate in audit["packages"] if crate.get("kind") != "build"}
    sbom = json.loads(image.read(SBOM))
    listed = {(part["name"], part["version"]) for part in sbom["components"]} | {("whatsapp-gateway", crates_version(crates))}
    expect("tonic" in {name for name, _ in crates}, f"the auditable section of {image.name} does not name tonic")
    expect(crates <= listed, f"the SBOM of {image.name} does not list {crates - listed}, which the binary has")
    bare = [part["name"] for part in sbom["components"] if not (part.get("licenses") and part.get("hashes"))]
    expect(sbom["bomFormat"] == "CycloneDX" and not bare, f"the SBOM of {image.name} has no licence or hash for {bare}")
    say(f"{image.name}: {len(crates)} crates in the binary, {len(listed)} parts in the SBOM, no shell, static, UID 65532")


def check_symbols(image, symbols):
    binary, debug = Elf(image.read(BINARY)), Elf(symbols.read("whatsapp-gateway.debug"))
    expect(".symtab" not in binary.sections, "the binary has symbols")
    expect(".symtab" in debug.sections, "the target symbols has no symbols")
    expect(binary.section(".note.gnu.build-id") == debug.section(".note.gnu.build-id"), "the symbols are those of another binary")


def crates_version(crates):
    return next(version for name, version in crates if name == "whatsapp-gateway")


class Elf:
    """As much of a 64-bit little-endian ELF file as is asked for here."""

    def __init__(self, data):
        self.data = data
        self.machine, = struct.unpack_from("<H", data, 18)
        programs, sections = struct.unpack_from("<QQ", data, 32)
        program_size, program_count, section_size, section_count, names = struct.unpack_from("<5H", data, 54)
        kinds = [struct.unpack_from("<I", data, programs + index * program_size)[0] for index in range(program_count)]
        self.is_dynamic = 3 in kinds  # PT_INTERP
        heads = [struct.unpack_from("<I4xQ8xQQ", data, sections + index * section_size) for index in range(section_count)]
        texts = heads[names][2]
        self.sections = {}
        for name, _, offset, size in heads:
            end = data.index(b"\0", texts + name)
            self.sections[data[texts + name:end].decode()] = data[offset:offset + size]

    def section(self, name):
        expect(name in self.sections, f"the binary has no section {name}")
        return self.sections[name]


def extracted(image, work):
    path = work / f"binary-{image.architecture}"
    if not path.exists():
        path.write_bytes(image.read(BINARY))
        path.chmod(0o755)
    return path


@contextlib.contextmanager
def bare(command, work):
    """The process of a binary outside of a container, with an empty log; and how long it took to be ready."""
    with tempfile.TemporaryDirectory(dir=work) as data:
        listen = {f"WHATSAPP_GATEWAY__{port}__LISTEN": "127.0.0.1:0" for port in ("GRPC", "WEBHOOK", "ADMIN")}
        environment = ACCOUNT | listen | {"WHATSAPP_GATEWAY__STORAGE__DATA_DIR": data, "WHATSAPP_GATEWAY__SHUTDOWN__DELAY": "0 s"}
        began = time.monotonic()
        process = subprocess.Popen([*command, "serve"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = process.stdout.readline()
        took = time.monotonic() - began
        try:
            expect('"ready":true' in line, f"{command} did not start: {process.stderr.read() if not line else line}")
            yield json.loads(line), took
        finally:
            process.terminate()
            process.communicate(timeout=READY_SECONDS_MAX)
        expect(process.returncode == 0, f"{command}: exit code {process.returncode} after SIGTERM")


def start_time(image, work):
    times = []
    for _ in range(STARTS):
        with bare([extracted(image, work)], work) as (_, took):
            times.append(took)
    return statistics.median(times)


def check_emulated(image, work):
    """The binary of another architecture under qemu: it starts, says that it serves, and stops."""
    with bare(["qemu-aarch64-static", extracted(image, work)], work) as (ready, took):
        health = run(GRPCURL, "-plaintext", "-max-time", "20", ready["grpc"], "grpc.health.v1.Health/Check")
        expect("SERVING" in health.stdout, health.stdout)
        expect("WhoAmI" in run(GRPCURL, "-plaintext", "-max-time", "20", ready["grpc"], "describe", SERVICE).stdout, "reflection")
    say(f"{image.name}: under qemu ready after {took:.1f} s, healthy, reflection answered, exit code 0 after SIGTERM")


class Container:
    def __init__(self, name, image, *arguments, options=(), environment=None):
        self.name = name
        variables = [f"--env={key}={value}" for key, value in (environment or {}).items()]
        run("podman", "create", "--name", name, *RESTRICTED, *options, *variables, image, *arguments)
        began = time.monotonic()
        run("podman", "start", name)
        log = pathlib.Path(run("podman", "inspect", "--format", "{{.HostConfig.LogConfig.Path}}", name).stdout.strip())
        self.ready = wait_for(lambda: re.search(r'stdout F (\{.*"ready":true.*\})', log.read_text()), f"{name} does not start", log)
        self.took = time.monotonic() - began
        self.pid = self.inspect("{{.State.Pid}}")

    def inspect(self, template):
        return run("podman", "inspect", "--format", template, self.name).stdout.strip()

    def inside(self, *command, **options):
        """Runs a command of this side in the network of the container."""
        return run("nsenter", "-t", self.pid, "-n", *command, **options)

    def grpcurl(self, method, request="{}", **options):
        return self.inside(GRPCURL, "-plaintext", "-max-time", "20", "-d", request, "127.0.0.1:50051", method, **options).stdout

    def check_restricted(self):
        status = dict(line.split(":\t", 1) for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines())
        wanted = {"Uid": "65532", "Gid": "65532", "CapEff": "0" * 16, "CapBnd": "0" * 16, "NoNewPrivs": "1", "Seccomp": "2"}
        for key, value in wanted.items():
            expect(set(status[key].split()) == {value}, f"{self.name}: {key} is {status[key]}, not {value}")
        mounts = [line.split() for line in pathlib.Path(f"/proc/{self.pid}/mounts").read_text().splitlines()]
        root = next(mount for mount in mounts if mount[1] == "/")
        expect("ro" in root[3].split(","), f"{self.name}: the root is mounted {root[3]}")

    def stop(self):
        """SIGTERM, as the kubelet sends it. Returns the seconds until the end; the exit code must be 0."""
        began = time.monotonic()
        run("podman", "kill", "--signal", "TERM", self.name)
        code = run("podman", "wait", "--interval=10ms", self.name, timeout=READY_SECONDS_MAX).stdout.strip()
        seconds = time.monotonic() - began
        expect(code == "0", f"{self.name}: exit code {code} after SIGTERM\n{run('podman', 'logs', self.name).stderr}")
        return seconds


def wait_for(condition, sentence, log=None):
    deadline = time.monotonic() + READY_SECONDS_MAX
    while not (found := condition()):
        expect(time.monotonic() < deadline, sentence + (f"\n{log.read_text()}" if log else ""))
        time.sleep(0.01)
    return found


def data_volume(work, name):
    """A folder for the data, which belongs to the user as the volume of a pod with an fsGroup does."""
    folder = work / name
    folder.mkdir()
    os.chown(folder, 65532, 65532)
    return f"--volume={folder}:/{DATA}"


def check_gateway(machine, work):
    """The image as it is shipped, in the network of a simulated Meta. Returns how long the start took."""
    gateway = Container("gateway", f"localhost/gateway:{machine}", environment=ACCOUNT,
                        options=["--network=container:meta", data_volume(work, "gateway-data")])
    gateway.check_restricted()
    wait_for(lambda: "SERVING" in gateway.grpcurl("grpc.health.v1.Health/Check", check=False), "health is not SERVING")
    run("podman", "exec", "gateway", f"/{BINARY}", "healthcheck")
    run("podman", "healthcheck", "run", "gateway")
    run("podman", "exec", "gateway", f"/{BINARY}", "selftest", "--grpc-address", "127.0.0.1:50051", "--allow-anonymous")

    # A user writes, the event comes, and the answer goes out.
    stream = subprocess.Popen(
        ["nsenter", "-t", gateway.pid, "-n", GRPCURL, "-plaintext", "-d", '{"position": "POSITION_EARLIEST"}',
         "127.0.0.1:50051", f"{SERVICE}/SubscribeEvents"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    gateway.inside("curl", "-sf", "127.0.0.1:8081/_simulator/messages", "-d", '{"from": "16505551234", "text": "Open?"}')
    answer = gateway.grpcurl(f"{SERVICE}/SendMessage", '{"recipient": {"phone_number": "+16505551234"}, "text": {"body": "Yes."}}')
    expect("SEND_STATE_ACCEPTED" in answer, answer)
    seconds = gateway.stop()
    events, end = stream.communicate(timeout=20)
    expect('"whatsapp.message.received"' in events and '"closing"' in events, f"the stream before the end: {events}{end}")
    say(f"gateway: restricted, healthy, an event came and a message went; SIGTERM: exit code 0 after {seconds:.1f} s, "
        "and the stream was told to resume")
    run("podman", "rm", "gateway")
    return gateway.took


def check_successor(machine, work, meta):
    """A rolling update under load: the test of two processes, which starts containers over one volume instead, in the network of
    `meta`. A volume that is new belongs to the user because the folder in the image does."""
    starts, command = work / "starts", work / "gateway-in-container"
    # The test calls it as the binary: serve --config FILE. The secrets lie beside the file.
    command.write_text(f"""#!/bin/sh
folder=$(dirname "$3")
chmod 755 "$folder"
echo "$@" >>{starts}
exec podman run --rm --network=container:{meta.name} {" ".join(RESTRICTED)} \
  --env='WHATSAPP_GATEWAY__*' --env=WHATSAPP_GATEWAY__STORAGE__DATA_DIR=/{DATA} \
  --volume="$folder:$folder:ro" --volume=successor:/{DATA} localhost/gateway:{machine} "$@"
""")
    command.chmod(0o755)
    host = re.search("host: (.*)", run("rustc", "-vV", cwd=ROOT).stdout)[1].upper().replace("-", "_")
    environment = os.environ | {"GATEWAY_BINARY": str(command), f"CARGO_TARGET_{host}_RUNNER": f"nsenter -t {meta.pid} -n"}
    result = run("cargo", "test", "--locked", "--test", "it", "--", "--nocapture", "--exact", SUCCESSOR,
                 cwd=ROOT, env=environment, timeout=TEST_SECONDS_MAX)
    expect("1 passed" in result.stdout, f"no test {SUCCESSOR} was run: {result.stdout}")
    expect(len(starts.read_text().splitlines()) == 2, f"the test started not two containers: {starts.read_text()}")
    # The test leaves the second one running.
    run("podman", "volume", "rm", "--force", "successor")
    say(f"two containers over one volume, under load: {re.search('drained in .*', result.stderr)[0]}")


def check_simulator(machine, work):
    """The image for trying out: the lines of the README's session, each with the outcome that stands there."""
    image = f"localhost/simulator:{machine}"
    simulator = Container("simulator", image, options=["--network=none", data_volume(work, "simulator-data")])
    simulator.check_restricted()
    session = list(commands((ROOT / "README.md").read_text()))
    expect(len(session) > 15, f"the README has a session of {len(session)} lines only")
    for command, expected in session:
        script = f"S={SERVICE}\nset -o pipefail\n{command}"
        environment = os.environ | {"PATH": f"{GRPCURL.parent}:{os.environ['PATH']}"}

        def outcome():
            result = simulator.inside("bash", "-c", script, check=False, env=environment)
            if expected[0] == "ERROR:":
                return result.stderr.split("\n")[:2] == expected[:2]
            # What the simulator does later, such as to approve a template, may not have happened yet.
            return result.returncode == 0 and f'"{first_name(expected)}":' in result.stdout

        wait_for(outcome, f"the simulator does not answer as the README says: {command}")
    seconds = simulator.stop()
    say(f"simulator: restricted, {len(session)} lines of the README answered as they stand there; SIGTERM: {seconds:.1f} s")
    run("podman", "rm", "simulator")


def first_name(lines):
    """What of an answer is the same in every run."""
    return next(match[1] for line in lines if (match := re.search(r'"([A-Za-z_]+)":', line)))


def commands(readme):
    """(command, lines of the answer) for each call of the README's session that stands on a line of its own. Not those that
    name an id of the run they were pasted from, nor the one that needs a gateway with another configuration."""
    section = readme[readme.index("\n## A conversation"):readme.index("\n## How to use it")]
    for block in re.findall(r"```console\n(.*?)```", section, re.S):
        assignments = ""
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, _, answer = part.partition("\n")
            if re.match(r"[A-Z]+=\$\(", command):
                assignments += command + "\n"
            elif re.match("grpcurl|curl", command) and "WINDOW_CLOSED" not in answer and "media_id" not in command:
                yield assignments + command, [line for line in answer.split("\n") if line != "…"]


def say(text):
    print(f"image-test: {text}", file=sys.stderr)


try:
    main()
except Failure as failure:
    sys.exit(f"image-test: FAILED: {failure}")
