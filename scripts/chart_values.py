#!/usr/bin/env python3
"""Writes what the chart repeats from elsewhere: the table of its values in helm/README.md, from the comments of
helm/values.yaml, and helm/templates/_gateway.tpl, the ranges and methods that the gateway knows. Checks that values.yaml,
the schema and the templates know the same values.

    .tools/venv/bin/python scripts/chart_values.py           write
    .tools/venv/bin/python scripts/chart_values.py --check   change nothing; fail if something is stale
"""

import json
import pathlib
import re
import sys

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
CHART = ROOT / "helm"
README, GATEWAY = CHART / "README.md", CHART / "templates/_gateway.tpl"
VALUES = (CHART / "values.yaml").read_text()
DEFAULTS_TOML = (ROOT / "src/config/default.toml").read_text()
RIGHTS = (ROOT / "src/domain/rights.rs").read_text()
BEGIN, END = "<!-- values: written by scripts/chart_values.py -->", "<!-- end of values -->"
REMEDY = "run 'make chart-docs'"


def main():
    problems = lint()
    for path, text in ((README, readme()), (GATEWAY, gateway())):
        if path.exists() and path.read_text() == text:
            continue
        if "--check" in sys.argv:
            problems.append(f"{path.relative_to(ROOT)} is stale: {REMEDY}")
        else:
            path.write_text(text)
    for problem in problems:
        print(f"chart-values: {problem}", file=sys.stderr)
    sys.exit(bool(problems))


def readme():
    """README.md with the table between its markers anew."""
    text = README.read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    rows = ["| value | default | what it is |", "| --- | --- | --- |"]
    for path, default, description in entries():
        cells = f"`{path}`", f"`{json.dumps(default)}`" if default is not None else "", description
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return f"{before}{BEGIN}\n" + "\n".join(rows) + f"\n{END}{after}"


def entries():
    """(path, default or None for a group, description) for every key of values.yaml."""
    defaults = yaml.safe_load(VALUES)
    parents, comment, in_example = [], [], False
    for line in VALUES.splitlines():
        if not line.strip():
            comment, in_example = [], False
        elif match := re.match(r"( *)#( ?)(.*)", line):
            # An example follows its key, and goes on while it is indented.
            in_example = match[3].startswith("- ") or in_example and match[3].startswith("  ")
            if not in_example:
                comment.append(match[3])
        elif match := re.match(r"( *)([A-Za-z0-9_]+):", line):
            depth = len(match[1]) // 2
            parents[depth:] = [match[2]]
            value = defaults
            for key in parents:
                value = value[key]
            is_group = isinstance(value, dict) and value
            if comment or not is_group:
                yield ".".join(parents), None if is_group else value, describe(comment)
            comment = []


def describe(comment):
    """The lines of a comment as one cell: definitions begin a line of their own, commands are left out."""
    parts = []
    for line in comment:
        if not line.startswith("  "):
            parts.append(line)
        elif match := re.match(r"  (\w+) {2,}(.*)", line):
            parts.append(f"<br>`{match[1]}`: {match[2]}")
        elif line.startswith("    ") and parts and parts[-1].startswith("<br>"):
            parts[-1] += " " + line.strip()
    return " ".join(parts).replace(" <br>", "<br>")


def gateway():
    lines = [
        "{{/*",
        "What the gateway accepts. Written by scripts/chart_values.py from src/config/default.toml and src/domain/rights.rs.",
        "*/}}",
        "",
        "{{/* The least, the greatest and the default of each duration and size under config; no greatest is empty. */}}",
        '{{- define "whatsapp-gateway.ranges" -}}',
    ]
    lines += [f"{key}: {json.dumps(range_)}" for key, range_ in ranges()]
    lines += [
        "{{- end }}",
        "",
        "{{/* The methods that callers may be allowed, and what else each of them needs. */}}",
        '{{- define "whatsapp-gateway.methods" -}}',
    ]
    methods = re.findall(r'^    \("([A-Za-z/]+)", Concern::([A-Za-z]+)\),$', RIGHTS, re.M)
    if not methods:
        sys.exit("chart-values: found no METHODS in src/domain/rights.rs")
    lines += [f"{name}: {concern}" for name, concern in methods]
    return "\n".join(lines) + "\n{{- end }}\n"


def ranges():
    """("section.key", [least, greatest, default]) for every duration and size of default.toml, from its comment."""
    section, comment = "", ""
    for line in DEFAULTS_TOML.splitlines():
        if match := re.match(r"\[([a-z_.]+)\]$", line):
            section, comment = match[1], ""
        elif line.startswith("#"):
            comment += " " + line[1:].strip()
        elif match := re.match(r'([a-z_]+) = "([0-9.]+ [A-Za-z]+)"$', line):
            key = f"{section}.{match[1]}"
            unit = r"[0-9.]+ [A-Za-z]+"
            if bounds := re.search(rf"({unit}) to ({unit})\b(?!.* to [0-9])", comment):
                yield key, [bounds[1], bounds[2], match[2]]
            elif least := re.search(rf"At least ({unit})", comment):
                yield key, [least[1], "", match[2]]
            else:
                sys.exit(f"chart-values: the comment of {key} in src/config/default.toml names no range, such as 1 s to 1 h")
            comment = ""
        else:
            comment = ""


def lint():
    """What values.yaml, the schema and the templates do not agree on."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load(VALUES)
    problems = [*differences("", values, schema, schema), *untested_sentences()]
    templates = "\n".join(path.read_text() for path in sorted((CHART / "templates").rglob("*.*")))
    used = set(re.findall(r"\.Values\.([A-Za-z0-9_.]*[A-Za-z0-9_])", templates))
    for key in values:
        if not any(path == key or path.startswith(key + ".") for path in used):
            problems.append(f"no template uses the value {key}")
    for path in sorted(used):
        value = values
        for key in path.split("."):
            # Below config stands what the user gives, and the schema knows.
            if path.startswith("config.") or not isinstance(value, dict):
                break
            if key not in value:
                problems.append(f"a template uses .Values.{path}, which values.yaml does not have")
                break
            value = value[key]
    return problems


def untested_sentences():
    """Refusals of the templates of which no test knows a part without values in it."""
    suites = "\n".join(path.read_text() for path in sorted((CHART / "tests").rglob("*_test.yaml")))
    patterns = re.findall(r"errorPattern: ['\"](.*?)['\"]}", suites)
    patterns = [re.sub(r"\\(.)", r"\1", pattern).replace("''", "'") for pattern in patterns]
    for path in sorted((CHART / "templates").glob("_validate*.tpl")):
        for sentence in re.findall(r'print[f]? "- (.*?[^\\])"', path.read_text()):
            parts = [part.strip(" .") for part in re.split(r"%[a-z]|\\n", sentence.replace('\\"', '"'))]
            if not any(len(part) > 10 and part in pattern or len(pattern) > 10 and pattern in part for part in parts for pattern in patterns):
                yield f"no test of helm/tests is refused with: {sentence}"


def differences(path, value, node, schema):
    """Keys that only one of values.yaml and the schema has, and objects that are not closed."""
    while "$ref" in node:
        node = schema["$defs"][node["$ref"].removeprefix("#/$defs/")]
    known = node.get("properties")
    if not isinstance(value, dict) or known is None:
        return
    if path != "global" and node.get("additionalProperties") is not False:
        yield f"the schema of {path or 'the values'} is not closed"
    for key in value.keys() - known.keys():
        yield f"the schema does not have {path}.{key}"
    # All of these are optional, and none has a default.
    if not path.startswith("config") and not path.startswith("probes.") and path != "extraPodSpec" and path != "affinity":
        for key in known.keys() - value.keys():
            yield f"values.yaml does not have {path}.{key}"
    for key in value.keys() & known.keys():
        yield from differences(f"{path}.{key}".strip("."), value[key], known[key], schema)


main()
