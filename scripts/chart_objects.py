#!/usr/bin/env python3
"""Checks rendered objects against the schemas of their kinds, strictly: a key that a kind does not have is an error, and
so is a kind that nothing here knows. What Kubernetes itself has is in the package kubernetes-validate; custom resources
are checked against the definitions in .tools/crds, which scripts/tools.sh takes from the projects' own Go modules.
Not checked: rules in CEL, which only an API server evaluates.

    .tools/venv/bin/python scripts/chart_objects.py 1.29 rendered.yaml...
"""

import collections
import functools
import pathlib
import sys

import jsonschema
import kubernetes_validate
import kubernetes_validate.utils
import yaml

CRDS = pathlib.Path(__file__).resolve().parent.parent / ".tools/crds"

# It reads the same large file for every object.
kubernetes_validate.utils.schema_contents = functools.cache(kubernetes_validate.utils.schema_contents)


class Loader(yaml.CSafeLoader):
    """YAML in which a key may stand only once."""


def mapping(loader, node):
    keys = [loader.construct_object(key) for key, _ in node.value]
    for key, count in collections.Counter(keys).items():
        if count > 1:
            raise yaml.constructor.ConstructorError(None, None, f"the key {key} stands {count} times", node.start_mark)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)


def main():
    version, paths = sys.argv[1], sys.argv[2:]
    custom = custom_validators()
    counts = collections.Counter()
    for path in paths:
        identities = set()
        for item in yaml.load_all(pathlib.Path(path).read_text(), Loader):
            if item is None:
                continue
            name = f"{item['kind']} {item['metadata']['name']}"
            if name in identities:
                sys.exit(f"{path}: {name} is there twice")
            identities.add(name)
            try:
                validate(item, version, custom)
            except (jsonschema.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
                where = "/".join(str(part) for part in getattr(error, "absolute_path", []))
                sys.exit(f"{path}: {name} is wrong for Kubernetes {version}: {where}: {error.message}")
            for pod in pods(item):
                if problem := not_restricted(pod):
                    sys.exit(f"{path}: {name} does not keep to the restricted pod security standard: {problem}")
            counts[item["kind"]] += 1
        if not identities:
            sys.exit(f"{path} has no objects")
    print(f"Kubernetes {version}: " + ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())))


def validate(item, version, custom):
    validator = custom.get((item["apiVersion"], item["kind"]))
    if validator:
        validator.validate(item)
    else:
        kubernetes_validate.validate(item, version, strict=True)


def pods(item):
    """The specs of the pods that an object is or makes."""
    if item["kind"] == "Pod":
        yield item["spec"]
    elif item["kind"] in ("Deployment", "StatefulSet"):
        yield item["spec"]["template"]["spec"]


def not_restricted(pod):
    """What of the pod security standard `restricted`, and of a root that cannot be written, is missing."""
    whole = pod.get("securityContext", {})
    if any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")):
        return "it uses what is the host's"
    if any(volume.keys() & {"hostPath", "nfs", "gcePersistentDisk"} for volume in pod.get("volumes", [])):
        return "it mounts what is the host's"
    if pod.get("automountServiceAccountToken") is not False:
        return "it has a token of its service account"
    if not whole.get("runAsNonRoot") or whole.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        return "its securityContext lacks runAsNonRoot or seccompProfile"
    for container in pod["containers"] + pod.get("initContainers", []):
        own = container.get("securityContext", {})
        wanted = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
        if {key: own.get(key) for key in wanted} != wanted or own.get("privileged"):
            return f"the container {container['name']} has {own}"
    return None


def custom_validators():
    """{(apiVersion, kind): validator} for every served version of the definitions."""
    validators = {}
    for path in CRDS.glob("*.yaml"):
        spec = yaml.safe_load(path.read_text())["spec"]
        for version in spec["versions"]:
            if version["served"]:
                schema = closed(version["schema"]["openAPIV3Schema"])
                # The definition leaves it to the API server.
                schema["properties"]["metadata"] = {"type": "object"}
                key = f"{spec['group']}/{version['name']}", spec["names"]["kind"]
                validators[key] = jsonschema.Draft202012Validator(schema)
    return validators


def closed(schema):
    """The OpenAPI schema as a JSON schema that allows no key which it does not have."""
    schema = dict(schema)
    if schema.pop("x-kubernetes-int-or-string", False):
        # Its anyOf says the same.
        return {"type": ["integer", "string"]}
    if isinstance(schema.get("type"), str) and schema.pop("nullable", False):
        schema["type"] = [schema["type"], "null"]
    for name in "items", "additionalProperties":
        if isinstance(schema.get(name), dict):
            schema[name] = closed(schema[name])
    if "properties" in schema:
        schema["properties"] = {name: closed(value) for name, value in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema.setdefault("additionalProperties", False)
    return schema


main()
