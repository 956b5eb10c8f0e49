#!/bin/sh
# What the Dockerfile runs in its build stages.
#
#   image_build.sh setup amd64|arm64      installs what compiles for the architecture
#   image_build.sh build [CARGO FLAGS]    leaves in /image the files of the image, out of the sources in the working directory,
#                                         and in /symbols what was taken off the binary
set -eu

environment=/usr/local/etc/image-build

setup() {
  case "$1" in
    amd64) cpu=x86_64 ;;
    arm64) cpu=aarch64 ;;
    *)
      echo "the image is made for amd64 and arm64, not for '$1'" >&2
      exit 1
      ;;
  esac
  target=$cpu-unknown-linux-musl
  gnu=$cpu-linux-gnu

  dpkg --add-architecture "$1"
  apt-get update
  apt-get install --yes --no-install-recommends "musl-dev:$1"
  if ! command -v "$gnu-gcc"; then
    apt-get install --yes --no-install-recommends "gcc-$(echo "$gnu" | tr _ -)"
  fi
  rm -rf /var/lib/apt/lists/*
  rustup target add "$target"

  # Debian's wrapper of this kind knows the machine's own architecture only.
  printf '#!/bin/sh\nexec %s-gcc "$@" -specs /usr/lib/%s-linux-musl/musl-gcc.specs\n' "$gnu" "$cpu" > /usr/local/bin/musl-cc
  chmod +x /usr/local/bin/musl-cc
  underscored=$(echo "$target" | tr - _)
  cat > "$environment" <<END
target=$target
gnu=$gnu
export CC_$underscored=musl-cc AR_$underscored=$gnu-ar
export CARGO_TARGET_$(echo "$underscored" | tr '[:lower:]' '[:upper:]')_LINKER=$gnu-gcc
END
}

build() {
  # shellcheck source=/dev/null
  . "$environment"
  binary=/image/usr/local/bin/whatsapp-gateway
  sbom=/image/usr/share/sbom/whatsapp-gateway.cdx.json
  mkdir -p "$(dirname "$binary")" "$(dirname "$sbom")" /image/var/lib/whatsapp-gateway /symbols

  # Paths of this machine and names of registries stay out of the binary: two builds in two places are the same.
  cargo fetch --locked --target "$target"
  rust_paths="--remap-path-prefix=$PWD=."
  c_paths="-ffile-prefix-map=$PWD=."
  for sources in "$CARGO_HOME"/registry/src/*; do
    rust_paths="$rust_paths --remap-path-prefix=$sources=crates"
    c_paths="$c_paths -ffile-prefix-map=$sources=crates"
  done
  export RUSTFLAGS="$rust_paths" CFLAGS="$c_paths"

  # cargo judges by dates, and those of another checkout may be older than what the cache holds of it.
  touch build.rs src/lib.rs src/main.rs
  cargo auditable build --release --locked --target "$target" "$@"
  "$gnu-objcopy" --only-keep-debug "target/$target/release/whatsapp-gateway" /symbols/whatsapp-gateway.debug
  "$gnu-objcopy" --strip-all "target/$target/release/whatsapp-gateway" "$binary"
  if "$gnu-readelf" --dynamic "$binary" | grep NEEDED; then
    echo "the binary is not static" >&2
    exit 1
  fi

  cargo cyclonedx --quiet --format json --spec-version 1.5 --target "$target" --no-build-deps "$@" --override-filename sbom
  mv sbom.json "$sbom"
}

command=$1
shift
"$command" "$@"
