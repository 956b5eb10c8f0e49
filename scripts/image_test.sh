#!/usr/bin/env bash
# Builds the images of the unchanged Dockerfile on a machine without Docker and without access to a registry of images, and
# tries them: what is in them (scripts/image_check.py), and how they run as `restricted` pods would.
#
#   scripts/image_test.sh            as `make image-test`; needs root on Debian and some 30 minutes
#
# The environment may say:
#   OTHERS=arm64                     an architecture to build and try beside the machine's own; qemu runs it
#   REBUILD=cold|warm|no             whether the second build, which must be the same to the bit, compiles everything
#                                    again (cold), only the gateway (warm, the default), or is left out
#   KEEP=FOLDER                      keep bases and caches in this folder, for the next run
#
# Bases that carry the real names stand in for those of the registries: Debian with the machine's own Rust toolchain, and
# a file system with the CA bundle and the user of distroless/static. Images, containers and caches lie in a folder of their
# own, which is removed; packages that were installed stay.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
suite=bookworm
rust_image=docker.io/library/rust:1.95-slim-bookworm
runtime_image=gcr.io/distroless/static-debian12:nonroot
machine=$(dpkg --print-architecture 2>/dev/null || true)
others=${OTHERS:-}
rebuild=${REBUILD:-warm}
revision=$(git -C "$root" rev-parse HEAD)
# The date of the commit; that of a build would make each one different.
epoch=$(git -C "$root" log -1 --format=%ct)

main() {
  install_packages
  work=${KEEP:-$(mktemp -d /var/tmp/image-test.XXXXXX)}
  mkdir -p "$work/tmp" "$work/logs"
  : >"$work/logs/seconds"
  trap clean EXIT
  isolate
  if ! buildah inspect --type image "$rust_image" >/dev/null 2>&1; then
    timed 'bases' make_bases
  fi

  use_runtime "$machine"
  timed "gateway, $machine" build gateway "$machine"
  if [ "$rebuild" != no ]; then
    timed "gateway, $machine, again ($rebuild)" build_again
  fi
  timed "symbols, $machine" build symbols "$machine"
  timed "simulator, $machine" build simulator "$machine"
  local architecture
  for architecture in $others; do
    use_runtime "$architecture"
    timed "gateway, $architecture" build gateway "$architecture"
  done

  say 'trying the images'
  "$root/scripts/tools.sh" grpcurl
  python3 "$root/scripts/image_check.py" "$machine" "$others" "$revision"
  say "all is well; seconds: $(tr '\n' ';' <"$work/logs/seconds")"
}

install_packages() {
  local package command missing=()
  while read -r package command; do
    if ! command -v "$command" >/dev/null; then
      missing+=("$package")
    fi
  done <<END
buildah buildah
podman podman
runc runc
skopeo skopeo
mmdebstrap mmdebstrap
python3 python3
curl curl
END
  if [ -n "$others" ] && ! command -v qemu-aarch64-static >/dev/null; then
    missing+=(qemu-user-static)
  fi
  command -v rustup >/dev/null || fail 'rustup is not installed; the builder gets the toolchain of this machine: https://rustup.rs'
  [ "$(id -u)" -eq 0 ] || fail 'building and running containers here takes root'
  [ "${#missing[@]}" -eq 0 ] && return
  command -v apt-get >/dev/null || fail "install ${missing[*]}: this is not Debian"
  say "installing ${missing[*]}"
  { apt-get update -q && apt-get install -y -q --no-install-recommends "${missing[@]}"; } >"${TMPDIR:-/tmp}/image-test-apt.log" 2>&1 \
    || fail "apt-get could not install them: see ${TMPDIR:-/tmp}/image-test-apt.log"
}

# Storage, caches and the state of podman of our own. runc, since crun refuses hybrid cgroups; limits that need no
# CAP_SYS_RESOURCE. static_dir is where podman would have it by itself: what ends a container is told of the storage alone.
isolate() {
  local files
  files=$(ulimit -Hn)
  cat >"$work/storage.conf" <<END
[storage]
driver = "overlay"
graphroot = "$work/storage"
runroot = "$work/run"
END
  cat >"$work/containers.conf" <<END
[containers]
default_ulimits = ["nofile=$files:$files", "nproc=4096:4096"]
log_driver = "k8s-file"
[network]
network_config_dir = "$work/networks"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
static_dir = "$work/storage/libpod"
tmp_dir = "$work/run/libpod"
volume_path = "$work/volumes"
END
  export CONTAINERS_STORAGE_CONF=$work/storage.conf CONTAINERS_CONF=$work/containers.conf
  # Where buildah has the cache mounts of RUN.
  export TMPDIR=$work/tmp BUILDAH_ISOLATION=chroot
}

make_bases() {
  local container toolchain variable
  write_apt_settings
  mmdebstrap --quiet --variant=minbase --aptopt="$work/apt.conf" --include=ca-certificates,gcc,libc6-dev \
    "$suite" "$work/debian.tar" "$work/sources.list" 2>"$work/logs/mmdebstrap"

  # The toolchain as rustup has it in the image of Rust. Its name is a version, so that targets can be added to it.
  toolchain=$work/rust/rustup/toolchains/$(cd "$root" && rustc -vV | awk '/^host: /{host=$2} /^release: /{print $2 "-" host}')
  mkdir -p "$toolchain" "$work/rust/cargo/bin"
  tar -C "$(cd "$root" && rustc --print sysroot)" --exclude=./share/doc --exclude=./lib/rustlib/src -c . | tar -C "$toolchain" -x
  cp -L "$(command -v rustup)" "$work/rust/cargo/bin/rustup"
  for variable in cargo rustc rustdoc; do
    ln -sf rustup "$work/rust/cargo/bin/$variable"
  done
  printf 'version = "12"\nprofile = "minimal"\ndefault_toolchain = "%s"\n' "${toolchain##*/}" >"$work/rust/rustup/settings.toml"
  # Where this machine gets crates from, if it says so.
  if [ -f "${CARGO_HOME:-$HOME/.cargo}/config.toml" ]; then
    cp "${CARGO_HOME:-$HOME/.cargo}/config.toml" "$work/rust/cargo/"
  fi

  container=$(buildah from scratch)
  buildah add --quiet "$container" "$work/debian.tar" / >/dev/null
  buildah add --quiet "$container" "$work/rust" /usr/local >/dev/null
  buildah config --env RUSTUP_HOME=/usr/local/rustup --env CARGO_HOME=/usr/local/cargo \
    --env PATH=/usr/local/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
  while IFS= read -r variable; do
    buildah config --env "$variable" "$container"
  done < <(env | grep -E '^(CARGO_(REGISTR|SOURCE_|NET_|HTTP_)|RUSTUP_(DIST_SERVER|UPDATE_ROOT)=)' || true)
  commit "$container" "$rust_image"
  rm -r "$work/rust"

  mkdir -p "$work/runtime/etc/ssl/certs" "$work/runtime/home/nonroot"
  tar -C "$work/runtime" -xf "$work/debian.tar" ./etc/ssl/certs/ca-certificates.crt
  rm "$work/debian.tar"
  printf '%s\n' 'root:x:0:0:root:/root:/sbin/nologin' 'nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin' \
    >"$work/runtime/etc/passwd"
}

# The mirror of Debian and the settings for downloads that apt has here.
write_apt_settings() {
  # shellcheck disable=SC2016 # the variables are those of apt
  apt-get indextargets --format '$(ORIGIN) $(CODENAME) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' \
    | awk -v suite="$suite" '$1 == "Debian" && index($2, suite) == 1 && $3 == "main" { print "deb", $4, $2, "main" }' \
    | sort -u >"$work/sources.list"
  if ! grep -q " $suite main" "$work/sources.list"; then
    echo "deb http://deb.debian.org/debian $suite main" >"$work/sources.list"
  fi
  apt-config dump | grep -E '^Acquire::(Check-|http|https)' >"$work/apt.conf" || true
}

# use_runtime ARCHITECTURE: makes the base of the images one of this architecture.
use_runtime() {
  local container
  container=$(buildah from scratch)
  buildah add --quiet "$container" "$work/runtime" / >/dev/null
  buildah config --arch "$1" --os linux --user 65532:65532 "$container"
  commit "$container" "$runtime_image"
  runtime_digest=$(podman image inspect --format '{{.Digest}}' "$runtime_image")
}

# commit CONTAINER NAME
commit() {
  buildah commit --quiet --timestamp "$epoch" "$1" "$2" >/dev/null
  buildah rm "$1" >/dev/null
}

# build TARGET ARCHITECTURE [ARGUMENTS...]: an image named TARGET:ARCHITECTURE. The build alone sees the CA bundle of this
# machine.
build() {
  local target=$1 architecture=$2 log=$work/logs/build-$1-$2
  shift 2
  if ! buildah build --format docker --layers --pull-never --target "$target" --platform "linux/$architecture" \
    --build-arg BUILDPLATFORM="linux/$machine" \
    --timestamp "$epoch" --build-arg SOURCE_DATE_EPOCH="$epoch" \
    --build-arg RUNTIME_DIGEST="$runtime_digest" \
    --build-arg VERSION=0.0.0-test --build-arg REVISION="$revision" \
    --volume "${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}:/etc/ssl/certs/ca-certificates.crt:ro" \
    --tag "localhost/$target:$architecture" "$@" "${context:-$root}" >"$log" 2>&1; then
    tail -n 40 "$log" >&2
    fail "the build of $target for $architecture failed; the lines above are the last of its output"
  fi
}

# Builds the gateway again from a copy of the sources in another place; cold, without any cache. The file that nothing reads
# is one more source to buildah, which would take the layer of the first build otherwise.
build_again() {
  local context=$work/context first arguments=()
  first=$(podman image inspect --format '{{.Id}}' "localhost/gateway:$machine")
  rm -rf "$context"
  mkdir "$context"
  git -C "$root" ls-files --cached --others --exclude-standard -z | (cd "$root" && xargs -0 tar -c) | tar -C "$context" -x
  touch "$context/src/again"
  if [ "$rebuild" = cold ]; then
    arguments=(--no-cache)
    TMPDIR=$(mktemp -d "$work/tmp/cold.XXXXXX")
  fi
  build gateway "$machine" ${arguments[@]+"${arguments[@]}"}
  if [ "$TMPDIR" != "$work/tmp" ]; then
    rm -rf "$TMPDIR"
    TMPDIR=$work/tmp
  fi
  grep -q 'Compiling whatsapp-gateway' "$work/logs/build-gateway-$machine" \
    || fail 'the second build compiled nothing, so it proves nothing'
  if [ "$first" != "$(podman image inspect --format '{{.Id}}' "localhost/gateway:$machine")" ]; then
    fail "two builds of the gateway are two images: $first is not $(podman image inspect --format '{{.Id}}' "localhost/gateway:$machine")"
  fi
}

# timed WHAT COMMAND...: runs the command and notes how long it took.
timed() {
  local what=$1 began=$SECONDS
  shift
  say "$what"
  "$@"
  echo "$((SECONDS - began)) $what" >>"$work/logs/seconds"
}

clean() {
  local code=$?
  # Those in its network first.
  podman rm --depend --force --time 0 meta >/dev/null 2>&1 || true
  podman rm --all --force --time 0 >/dev/null 2>&1 || true
  podman volume rm --all --force >/dev/null 2>&1 || true
  buildah rm --all >/dev/null 2>&1 || true
  if [ -n "${KEEP:-}" ]; then
    say "bases, images and caches stay in $work"
  else
    umount --recursive "$work/storage" 2>/dev/null || true
    rm -rf "$work"
  fi
  exit "$code"
}

say() {
  printf 'image-test: %s\n' "$*" >&2
}

fail() {
  say "$*"
  exit 1
}

main
