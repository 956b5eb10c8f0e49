#!/usr/bin/env bash
# Checks the chart: what it repeats from elsewhere is current, it renders for every file of helm/ci on the oldest and the
# newest Kubernetes to objects that their schemas allow, it passes its tests, and a policy linter finds nothing that is
# not explained here.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

tools=.tools/bin
python=.tools/venv/bin/python
chart=helm
kubernetes_versions=(1.29 1.37)
failures=0

# What the policy linter asks for and the chart does otherwise.
not_wanted=(
  # A throttled pod answers Meta late.
  --ignore-container-cpu-limit
  # A version or a digest does not move, and a pod starts although the registry is away.
  --ignore-test container-image-pull-policy
  # Nothing is written outside of the volume.
  --ignore-test container-ephemeral-storage-request-and-limit
  # The topology spread does it.
  --ignore-test deployment-has-host-podantiaffinity
)

main() {
  local values
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT

  check_versions
  check "what is written by scripts/chart_values.py" "$python" scripts/chart_values.py --check
  check_settings

  # Without values the chart lints but does not render: `helm lint` passes over `fail`.
  check "lint without values" "$tools/helm" lint --strict "$chart"
  for values in "$chart"/ci/*.yaml; do
    check "lint with $values" "$tools/helm" lint --strict "$chart" --values "$values"
    check_rendered "$(basename "$values" .yaml)" "$chart" --values "$values"
  done

  check "tests" "$tools/helm-unittest" --file 'tests/*_test.yaml' "$chart"

  for kubernetes in "${kubernetes_versions[@]}"; do
    check "the objects for Kubernetes $kubernetes" "$python" scripts/chart_objects.py "$kubernetes" "$work/$kubernetes"/*.yaml
  done
  check_refusals

  if [ "$failures" -gt 0 ]; then
    echo "chart: $failures checks failed" >&2
    exit 1
  fi
  echo "chart: all checks passed"
}

# The chart is released with the binary, so their versions are the same.
check_versions() {
  local cargo line
  cargo=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
  for line in "version: $cargo" "appVersion: $cargo" "      image: ghcr.io/whatsapp-gateway/whatsapp-gateway:$cargo"; do
    if ! grep -qx "$line" "$chart/Chart.yaml"; then
      failed "Chart.yaml does not have the line '$line', for the $cargo of Cargo.toml"
    fi
  done
}

# check_rendered NAME CHART ARG...: renders for each Kubernetes, into $work/KUBERNETES/NAME.yaml.
check_rendered() {
  local name=$1 kubernetes rendered word
  for kubernetes in "${kubernetes_versions[@]}"; do
    rendered=$work/$kubernetes/$name.yaml
    mkdir -p "$work/$kubernetes"
    if ! "$tools/helm" template gw "${@:2}" --namespace messaging --kube-version "$kubernetes.0" >"$rendered" 2>"$work/output"; then
      failed "render $name for Kubernetes $kubernetes"$'\n'"$(cat "$work/output")"
      rm "$rendered"
      return
    fi
    for word in 'kind: Secret$' subPath: hostPath: 'privileged: true'; do
      if grep -q "$word" "$rendered"; then
        failed "$name for Kubernetes $kubernetes has '$word'"
      fi
    done
  done
  check_policy "$name" "$rendered"
  check_files "$name" "$rendered"
}

# check_policy NAME RENDERED
check_policy() {
  local arguments=("${not_wanted[@]}")
  if ! grep -q '^kind: NetworkPolicy$' "$2"; then
    # Off by default, since only the user knows who calls from where.
    arguments+=(--ignore-test pod-networkpolicy)
  fi
  if ! grep -q 'runAsUser:' "$2"; then
    # The cluster chooses the ids.
    arguments+=(--ignore-test container-security-context-user-group-id)
  fi
  if grep -q '^  replicas: 1$' "$2"; then
    # One was asked for.
    arguments+=(--ignore-test deployment-replicas)
  fi
  check "kube-score of $1" "$tools/kube-score" score --exit-one-on-warning --output-format ci \
    --kubernetes-version "v${kubernetes_versions[0]}" "${arguments[@]}" "$2"
}

# check_files NAME RENDERED: what the chart makes of files/ is what they say, and promtool reads the rules.
check_files() {
  check "rules and dashboards of $1" "$python" - "$2" "$work/rules.yaml" <<'PYTHON'
import json, pathlib, sys, yaml

objects = [item for item in yaml.safe_load_all(open(sys.argv[1])) if item]
files = pathlib.Path("helm/files")
groups = [group for path in sorted(files.glob("rules/*.yaml")) for group in yaml.safe_load(path.read_text())["groups"]]
rules = next((item["spec"] for item in objects if item["kind"] == "PrometheusRule"), None)
assert rules in (None, {"groups": groups}), "the PrometheusRule is not what files/rules says"
pathlib.Path(sys.argv[2]).write_text(yaml.safe_dump(rules) if rules and groups else "")

dashboards = {path.name: json.loads(path.read_text()) for path in files.glob("dashboards/*.json")}
maps = [item.get("data", {}) for item in objects if item["kind"] == "ConfigMap"]
rendered = {name: json.loads(text) for data in maps for name, text in data.items() if name.endswith(".json")}
assert rendered in ({}, dashboards), "the dashboards are not what files/dashboards says"
PYTHON
  if [ -s "$work/rules.yaml" ]; then
    scripts/tools.sh promtool
    check "promtool on the rules of $1" "$tools/promtool" check rules "$work/rules.yaml"
  fi
}

# The tests of the chart have a refusal for each value; these are the ones that they cannot show.
check_refusals() {
  local output
  if output=$("$tools/helm" template gw "$chart" --values "$chart/ci/minimal.yaml" --kube-version 1.28.0 2>&1) ||
    [[ $output != *'which is incompatible with Kubernetes'* ]]; then
    failed "Kubernetes 1.28 is not refused: $output"
  fi
  if output=$("$tools/helm" template gw "$chart" --values "$chart/ci/minimal.yaml" \
    --set 'callers[0].tokenSha256[0]=canary-token' 2>&1) || [[ $output == *canary* ]]; then
    failed "what may be a token is shown: $output"
  fi
  if output=$("$tools/helm" template gw "$chart" --values "$chart/ci/cluster.yaml" \
    --set 'storage.nats.urls[0]=nats://gateway:canary@nats:4222' 2>&1) || [[ $output == *canary* ]]; then
    failed "what may be a password of NATS is shown: $output"
  fi
}

# The chart knows the settings of the binary, all of them and no others, and its defaults, given as values, come out
# again. Those of NATS and of the other pods have values of their own.
check_settings() {
  local settings rendered setting difference
  settings=$(awk '/^\[/ { is_left_out = $0 == "[storage.nats]" || $0 == "[peers]" } !is_left_out' src/config/default.toml |
    grep -E '^(\[[a-z_]+\]$|[a-z_]+ = )' | grep -vE '^(listen|backend|data_dir|(cert|key|client_ca)_file|client_auth) = ')
  # What a setting has behind its "=" is YAML as well.
  rendered=$(awk '
    BEGIN { print "config:" }
    /^\[/ { section = substr($0, 2, length($0) - 2); next }
    section != "" { print "  " section ":"; section = "" }
    { sub(" = ", ": "); print "    " $0 }
  ' <<<"$settings" | "$tools/helm" template gw "$chart" --values "$chart/ci/minimal.yaml" --set grpcTls.secretName=tls --values - | sed 's/^ *//')
  while IFS= read -r setting; do
    if ! grep -qxF -- "$setting" <<<"$rendered"; then
      failed "the chart with the defaults of src/config/default.toml does not have: $setting"
    fi
  done < <(grep ' = ' <<<"$settings")

  if ! difference=$(diff <(awk '/^\[/ { section = $0; next } { print section, $1 }' <<<"$settings" | sort) <(schema_settings | sort)); then
    failed "src/config/default.toml (<) and the schema's config (>) have different keys:"$'\n'"$difference"
  fi
  check "the settings of NATS and of the other pods" check_cluster_settings
}

# The files of ci on NATS have every key of [storage.nats] and [peers] that the binary has, and no other; and the chart has the
# defaults of the binary.
check_cluster_settings() {
  local keys
  keys=$(for values in "$chart"/ci/*.yaml; do rendered_on_nats "$values"; done | sed 's/ = .*//' | sort -u)
  diff <(settings_on_nats <src/config/default.toml | sed 's/ = .*//' | sort) - <<<"$keys" || return 1
  diff <(settings_on_nats <src/config/default.toml | grep -E " (prefix|replicas) = " | sort) \
    <(rendered_on_nats "$chart/ci/cluster.yaml" | grep -E " (prefix|replicas) = " | sort)
}

# rendered_on_nats VALUES: what the ConfigMap and the variables set of the two sections.
rendered_on_nats() {
  "$tools/helm" template gw "$chart" --values "$1" |
    sed 's/^    //; s/.* WHATSAPP_GATEWAY__PEERS__ADVERTISE$/[peers]\nadvertise = its own/' | settings_on_nats
}

# "[section] key = value" for each key of the two sections.
settings_on_nats() {
  awk '/^\[/ { section = $1 } /^[a-z_]+ = / && (section == "[storage.nats]" || section == "[peers]") { print section, $0 }'
}

# "[section] key" for everything under config in the schema.
schema_settings() {
  "$python" -c '
import json, sys
for section, schema in json.load(sys.stdin)["properties"]["config"]["properties"].items():
    for key in schema["properties"]:
        print(f"[{section}] {key}")
' <"$chart/values.schema.json"
}

# check NAME COMMAND...: the command must succeed; its output is shown when it does not.
check() {
  local output
  if ! output=$("${@:2}" 2>&1); then
    failed "$1"$'\n'"$output"
  fi
}

failed() {
  failures=$((failures + 1))
  printf 'chart: FAILED: %s\n' "$1" >&2
}

main
