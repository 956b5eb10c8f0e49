#!/usr/bin/env bash
# Fetches the tools that the checks run into .tools, at the versions of scripts/tool-versions.env and of
# scripts/requirements.txt.
#
#   scripts/tools.sh                 every tool
#   scripts/tools.sh grpcurl buf     only these
#
# A tool that is already there at its pinned version is left alone, so a second run needs no network.
# Two runs at once are safe: each builds in a directory of its own and moves the finished binary into place.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tools=$root/.tools
attempts_max=3

# shellcheck source=scripts/tool-versions.env
source "$root/scripts/tool-versions.env"

main() {
  mkdir -p "$tools/bin" "$tools/stamps"
  work=$(mktemp -d "$tools/work.XXXXXX")
  trap 'rm -rf "$work"' EXIT

  if [ $# -eq 0 ]; then
    set -- grpcurl buf cargo-deny helm helm-unittest kube-score promtool nats-server crds venv
  fi
  for tool in "$@"; do
    case $tool in
      grpcurl) ensure grpcurl "$GRPCURL_VERSION" ;;
      buf) ensure buf "$BUF_VERSION" ;;
      cargo-deny) ensure cargo-deny "$CARGO_DENY_VERSION" ;;
      helm) ensure helm "$HELM_VERSION-kubernetes-1.$HELM_KUBERNETES_MINOR" ;;
      helm-unittest) ensure helm-unittest "$HELM_UNITTEST_VERSION-helm-$HELM_VERSION-kubernetes-1.$HELM_KUBERNETES_MINOR" ;;
      kube-score) ensure kube-score "$KUBE_SCORE_VERSION" ;;
      promtool) ensure promtool "$PROMTOOL_VERSION" ;;
      nats-server) ensure nats-server "$NATS_SERVER_VERSION" ;;
      crds) ensure_folder crds "$CRD_FILES" ;;
      venv) ensure_folder venv "$(python3 --version) $(cat "$root/scripts/requirements.txt")" ;;
      *) fail "unknown tool '$tool'; the words of this list are known" ;;
    esac
  done
}

# ensure TOOL STAMP: calls fetch_TOOL unless the binary and its stamp are there.
ensure() {
  local tool=$1 stamp=$tools/stamps/$1-$2
  if [ -x "$tools/bin/$tool" ] && [ -f "$stamp" ]; then
    return
  fi
  say "fetching $tool $2"
  "fetch_$tool"
  # The old stamps go first: a binary without a stamp is fetched again, a stamp without its binary would lie.
  rm -f "$tools/stamps/$tool"-*
  mv -f "$work/$tool" "$tools/bin/$tool"
  touch "$stamp"
  say "$tool $2 is in .tools/bin"
}

# ensure_folder NAME CONTENT: calls fetch_NAME with a new directory, unless .tools/NAME was made of the same content.
# .tools/NAME is a symbolic link, so that it changes at once.
ensure_folder() {
  local name=$1 stamp folder
  stamp=$tools/stamps/$1-$(sha256sum <<<"$2" | cut -c -16)
  if [ -e "$tools/$name" ] && [ -f "$stamp" ]; then
    return
  fi
  say "fetching $name"
  folder=$(mktemp -d "$(realpath "$tools")/$name.XXXXXX")
  "fetch_$name" "$folder"
  rm -f "$tools/stamps/$name"-*
  ln -s "${folder##*/}" "$work/$name"
  mv -fT "$work/$name" "$tools/$name"
  touch "$stamp"
  say "$name is in .tools/$name"
}

fetch_grpcurl() {
  go_install "-X main.version=v$GRPCURL_VERSION" "github.com/fullstorydev/grpcurl/cmd/grpcurl@v$GRPCURL_VERSION"
}

fetch_helm() {
  local ldflags="-X helm.sh/helm/v3/internal/version.version=v$HELM_VERSION" variable
  for variable in helm.sh/helm/v3/pkg/chartutil.k8sVersion helm.sh/helm/v3/pkg/lint/rules.k8sVersion; do
    ldflags+=" -X ${variable}Major=1 -X ${variable}Minor=$HELM_KUBERNETES_MINOR"
  done
  go_install "$ldflags" "helm.sh/helm/v3/cmd/helm@v$HELM_VERSION"
}

# Its go.mod replaces a module, so `go install` refuses it: it is built as a dependency, with the same replacement and with
# the Helm that the rest of the checks use.
fetch_helm-unittest() {
  local module=github.com/helm-unittest/helm-unittest variable=helm.sh/helm/v3/pkg/chartutil.k8sVersion
  mkdir "$work/unittest"
  cd "$work/unittest"
  in_go mod init helm-unittest
  in_go mod edit -replace "github.com/vmware-labs/yaml-jsonpath=$HELM_UNITTEST_JSONPATH"
  in_go get -tool "$module/cmd/helm-unittest@v$HELM_UNITTEST_VERSION"
  in_go mod edit -require "helm.sh/helm/v3@v$HELM_VERSION"
  in_go build -trimpath -o "$work/helm-unittest" \
    -ldflags "-s -w -X ${variable}Major=1 -X ${variable}Minor=$HELM_KUBERNETES_MINOR" "$module/cmd/helm-unittest"
  cd "$root"
}

fetch_kube-score() {
  go_install "-X main.version=$KUBE_SCORE_VERSION" "github.com/zegl/kube-score/cmd/kube-score@v$KUBE_SCORE_VERSION"
}

fetch_nats-server() {
  go_install "" "github.com/nats-io/nats-server/v2@v$NATS_SERVER_VERSION"
}

# Go compares each module with its public checksum database, as for the tools.
fetch_crds() {
  local file module
  for file in $CRD_FILES; do
    module=$(grep -o '^[^@]*@[^/]*' <<<"$file")
    in_go mod download "$module"
    cp "$(go env GOMODCACHE)/$file" "$1/"
  done
}

# pip compares what it fetches with the hashes of the file.
fetch_venv() {
  need python3 "Python 3.9 or later with venv"
  retry python3 -m venv "$1"
  retry "$1/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: \
    --requirement "$root/scripts/requirements.txt"
}

fetch_cargo-deny() {
  need cargo "Rust, https://rustup.rs"
  # Not built for speed, which would take twice as long.
  retry env CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
    cargo install --quiet --locked --root "$work/cargo" --target-dir "$work/target" "cargo-deny@$CARGO_DENY_VERSION"
  mv "$work/cargo/bin/cargo-deny" "$work/cargo-deny"
}

# `go install` refuses a module whose go.mod replaces or excludes another, as that of Prometheus does. Of a dependency such
# lines count for nothing, so it is built as one. The tag leaves service discovery out, which is most of the build.
fetch_promtool() {
  local module=github.com/prometheus/prometheus minor=${PROMTOOL_VERSION#*.}
  local version=v0.$((${PROMTOOL_VERSION%%.*} * 100 + ${minor%%.*})).${minor#*.}
  mkdir "$work/prometheus"
  cd "$work/prometheus"
  in_go mod init promtool
  in_go get -tool "$module/cmd/promtool@$version"
  in_go build -trimpath -tags remove_all_sd -o "$work/promtool" \
    -ldflags "-s -w -X github.com/prometheus/common/version.Version=$PROMTOOL_VERSION" "$module/cmd/promtool"
  cd "$root"
}

# The npm package `@bufbuild/buf` depends on one package for each platform, which holds the real binary.
# Install scripts stay off: all that the one of this package does is to check that binary.
fetch_buf() {
  local integrity binary
  need npm "Node.js with npm, https://nodejs.org"
  retry npm install --prefix "$work/npm" --no-save --ignore-scripts --no-audit --no-fund --loglevel error "@bufbuild/buf@$BUF_VERSION"

  case $(uname -sm) in
    'Linux x86_64') integrity=$BUF_INTEGRITY_LINUX_X64 ;;
    'Linux aarch64') integrity=$BUF_INTEGRITY_LINUX_ARM64 ;;
    *) integrity= ;;
  esac
  if ! grep -qF -- "$integrity" "$work/npm/node_modules/.package-lock.json"; then
    fail "the buf $BUF_VERSION that npm delivered is not the one in scripts/tool-versions.env"
  fi
  for binary in "$work"/npm/node_modules/@bufbuild/buf-*/bin/buf; do
    if [ -f "$binary" ]; then
      mv "$binary" "$work/buf"
      chmod +x "$work/buf"
      return
    fi
  done
  fail "the npm registry has no buf $BUF_VERSION for $(uname -sm)"
}

# go_install LDFLAGS PACKAGE@VERSION: leaves the binary in $work.
go_install() {
  in_go install -trimpath -ldflags "-s -w $1" "$2"
}

# in_go ARGUMENTS...: runs go. The caller's own Go settings must not decide what is built, and no other toolchain is to
# be downloaded.
in_go() {
  need go "Go 1.26 or later, https://go.dev/dl"
  retry env GOBIN="$work" GOTOOLCHAIN=local GOFLAGS=-mod=mod GOWORK=off CGO_ENABLED=0 go "$@"
}

# retry COMMAND...: for downloads. Waits 2, then 4 seconds.
retry() {
  local attempt
  for ((attempt = 1; ; attempt++)); do
    if "$@" >"$work/log" 2>&1; then
      return
    fi
    tail -n 20 "$work/log" >&2
    if [ "$attempt" -ge "$attempts_max" ]; then
      fail "gave up after $attempts_max attempts: $*"
    fi
    say "attempt $attempt of $attempts_max failed; trying again"
    sleep $((attempt * 2))
  done
}

# need COMMAND WHAT: stops with what to install.
need() {
  if ! command -v "$1" >/dev/null; then
    fail "'$1' is not installed. The tests need $2. Only running the gateway (make dev) does without."
  fi
}

say() {
  printf 'tools: %s\n' "$*" >&2
}

fail() {
  say "$*"
  exit 1
}

main "$@"
