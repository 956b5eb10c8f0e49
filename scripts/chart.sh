#!/usr/bin/env bash
# Checks the chart: it lints, it renders for every file of helm/ci on the oldest and the newest Kubernetes, what it
# renders keeps its promises, and it refuses what it must with a sentence that names the value and the remedy.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

helm=.tools/bin/helm
chart=helm
kubernetes_versions=(1.29.0 1.36.0)
failures=0

main() {
  local values kubernetes rendered context

  check_versions
  # Without values the chart lints but does not render: `helm lint` passes over `fail`.
  check "lint without values" "$helm" lint --strict "$chart"
  for values in "$chart"/ci/*.yaml; do
    check "lint with $values" "$helm" lint --strict "$chart" --values "$values"
    for kubernetes in "${kubernetes_versions[@]}"; do
      check "render $values for Kubernetes $kubernetes" render "$values" --kube-version "$kubernetes"
    done
  done

  for values in "$chart"/ci/*.yaml; do
    rendered=$(render_flat "$values")
    context=$values
    has 'replicas: 1'
    has 'runAsNonRoot: true'
    has 'seccompProfile:' 'type: RuntimeDefault'
    has 'allowPrivilegeEscalation: false'
    has 'readOnlyRootFilesystem: true'
    has 'capabilities:' 'drop:' '- ALL'
    has 'automountServiceAccountToken: false'
    has 'clusterIP: None'
    has_not 'kind: Secret'
    has_not 'subPath'
    has_not 'privileged: true'
    has_not 'hostPath'
  done

  rendered=$(render_flat "$chart/ci/minimal.yaml")
  context="the minimal chart"
  has 'image: ghcr.io/whatsapp-gateway/whatsapp-gateway:0.1.0'
  has 'terminationGracePeriodSeconds: 35'
  has 'accessModes:' '- ReadWriteOncePod'
  has 'appProtocol: kubernetes.io/h2c'
  has 'runAsUser: 65532'
  has_not 'kind: Ingress'

  rendered=$(render_flat "$chart/ci/full.yaml")
  context="the full chart"
  has 'image: registry.example.com/team/whatsapp-gateway@sha256:0123'
  has 'terminationGracePeriodSeconds: 145'
  has '- path: /hooks/whatsapp' 'pathType: Exact' 'backend:' 'service:' 'name: whatsapp-webhook'
  has_not 'runAsUser'

  rendered=$(render_flat "$chart/ci/minimal.yaml" --set persistence.existingClaim=old-log)
  context="the chart with a claim of the user's"
  has 'claimName: old-log'
  has_not 'volumeClaimTemplates'

  check_settings

  # The schema speaks first where it knows the value, the templates where it is switched off or silent.
  refuses "at '/replicaCount': maximum: got 2, want 1" --set replicaCount=2
  refuses 'set replicaCount to 1' --set replicaCount=2 --skip-schema-validation
  refuses 'set existingSecret to its name' --set existingSecret=
  refuses 'apps is empty: add the Meta app' --set-json 'apps=[]'
  refuses 'apps names the app 1 twice' --set-json 'apps=[{"id":"1"},{"id":"1"}]'
  refuses 'wabas is empty: add the WhatsApp Business Account' --set-json 'wabas=[]'
  refuses 'belongs to the app 77, which is not in apps' --set-string 'wabas[0].appId=77'
  refuses 'names the phone number id 106540352242922 twice' --set-string 'wabas[0].phoneNumberIds[1]=106540352242922'
  refuses 'callers is empty, so nobody could call' --set-json 'callers=[]'
  refuses 'the caller orders has no token' --set-json 'callers=[{"name":"orders","methods":["*"]}]'
  refuses "missing property 'methods'" --set-json 'callers=[{"name":"orders"}]'
  refuses 'the caller orders has identities, but no client certificates are asked for' --set 'callers[0].identities[0]=dns:a.example'
  refuses 'grpcTls.secretName is empty' --set grpcTls.clientCaKey=ca.crt
  refuses 'grpcTls.clientCaKey is empty' --set grpcTls.secretName=tls --set grpcTls.clientAuth=required
  refuses "at '/callers/0/identities/0'" --set 'callers[0].identities[0]=orders.example.com'
  refuses 'ingress.host is empty' --set ingress.enabled=true
  refuses "at '/apps/0/id': got number, want string" --set 'apps[0].id=1234567890'
  refuses "at '/callers/0/tokenSha256/0'" --set 'callers[0].tokenSha256[0]=my-token'
  refuses "additional properties 'replicas' not allowed" --set replicas=1
  refuses "additional properties 'listen' not allowed" --set config.grpc.listen=0.0.0.0:1
  refuses "additional properties 'tokens' not allowed" --set 'callers[0].tokens=x'
  refuses "at '/callers/0/name': 'not' failed" --set 'callers[0].name=local'
  refuses "at '/config/shutdown/drain'" --set 'config.shutdown.drain=1 h'
  refuses 'which is incompatible with Kubernetes' --kube-version 1.28.0

  if [ "$failures" -gt 0 ]; then
    echo "chart: $failures checks failed" >&2
    exit 1
  fi
  echo "chart: all checks passed"
}

# The chart is released with the binary, so their versions are the same.
check_versions() {
  local cargo key
  cargo=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
  for key in version appVersion; do
    if ! grep -qx "$key: $cargo" "$chart/Chart.yaml"; then
      failed "$key of Chart.yaml is not the $cargo of Cargo.toml"
    fi
  done
}

# The chart knows the settings of the binary, all of them and no others, and its defaults, given as values, come out
# again.
check_settings() {
  local settings rendered context setting difference
  settings=$(grep -E '^(\[[a-z_]+\]$|[a-z_]+ = )' src/config/default.toml | grep -vE '^(listen|backend|data_dir|(cert|key|client_ca)_file|client_auth) = ')
  # What a setting has behind its "=" is YAML as well.
  rendered=$(awk '
    BEGIN { print "config:" }
    /^\[/ { section = substr($0, 2, length($0) - 2); next }
    section != "" { print "  " section ":"; section = "" }
    { sub(" = ", ": "); print "    " $0 }
  ' <<<"$settings" | render_flat "$chart/ci/minimal.yaml" --values -)
  context="the chart with the defaults of src/config/default.toml"
  while IFS= read -r setting; do
    has "$setting"
  done < <(grep ' = ' <<<"$settings")

  if ! difference=$(diff <(awk '/^\[/ { section = $0; next } { print section, $1 }' <<<"$settings" | sort) <(schema_settings | sort)); then
    failed "src/config/default.toml (<) and the schema's config (>) have different keys:"$'\n'"$difference"
  fi
}

# "[section] key" for everything under config in the schema.
schema_settings() {
  python3 -c '
import json, sys
for section, schema in json.load(sys.stdin)["properties"]["config"]["properties"].items():
    for key in schema["properties"]:
        print(f"[{section}] {key}")
' <"$chart/values.schema.json"
}

# render VALUES [ARG...]
render() {
  "$helm" template gw "$chart" --values "$@"
}

# check NAME COMMAND...: the command must succeed; its output is shown when it does not.
check() {
  local output
  if ! output=$("${@:2}" 2>&1); then
    failed "$1"$'\n'"$output"
  fi
}

# refuses SENTENCE ARG...: the minimal values together with the arguments must be refused with the sentence.
refuses() {
  local output
  if output=$(render "$chart/ci/minimal.yaml" "${@:2}" 2>&1); then
    failed "not refused: ${*:2}"
  elif [[ $output != *"$1"* ]]; then
    failed "refused ${*:2}, but not with '$1':"$'\n'"$output"
  fi
}

# render_flat VALUES [ARG...]: without indentation, so that a run of lines is a substring.
render_flat() {
  render "$@" | sed 's/^ *//'
}

# has LINE...: $rendered has these lines one after the other, whatever their indentation; the last may go on.
has() {
  if ! contains "$@"; then
    failed "$context does not have: $*"
  fi
}

has_not() {
  if contains "$@"; then
    failed "$context has: $*"
  fi
}

contains() {
  local pattern
  printf -v pattern '\n%s' "$@"
  [[ $'\n'$rendered == *"$pattern"* ]]
}

failed() {
  failures=$((failures + 1))
  printf 'chart: FAILED: %s\n' "$1" >&2
}

main
