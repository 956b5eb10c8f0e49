#!/usr/bin/env bash
# Checks with the binary itself the configuration that the chart writes for every file of helm/ci.
#
#   scripts/chart-config.sh target/debug/whatsapp-gateway
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

helm=.tools/bin/helm
binary=$1
mounted=/etc/whatsapp-gateway/secrets

if [ ! -x "$binary" ]; then
  echo "chart-config: there is no $binary; run 'make cargo-test', which builds it" >&2
  exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/secrets" "$work/tls"
# A certificate that is its own authority is enough to be read.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=gateway -days 1 \
  -keyout "$work/tls/tls.key" -out "$work/tls/tls.crt" 2>"$work/output"
cp "$work/tls/tls.crt" "$work/tls/ca.crt"
line=0

for values in helm/ci/*.yaml; do
  # The file is the block under its name, without the four spaces of its indentation and with our paths.
  "$helm" template gw helm --values "$values" --show-only templates/configmap.yaml |
    sed -e '1,/^  config.toml: |$/d' -e 's/^    //' -e "s#$mounted#$work/secrets#g" \
      -e "s#/etc/whatsapp-gateway/tls#$work/tls#g" >"$work/config.toml"
  # One word for each secret; of hashes, each caller needs its own.
  grep -o "$work/secrets/[^\"]*" "$work/config.toml" | while IFS= read -r secret; do
    case $secret in
      *sha256) line=$((line + 1)) && printf '%064d\n' "$line" >"$secret" ;;
      *) echo secret >"$secret" ;;
    esac
  done
  if ! env -i "$binary" check-config --config "$work/config.toml" >"$work/output" 2>&1; then
    echo "chart-config: FAILED: the binary refuses what the chart writes for $values" >&2
    cat "$work/output" "$work/config.toml" >&2
    exit 1
  fi
  echo "chart-config: the binary accepts $values"
done
