# The image: one static binary on a base that has certificates and a user, and no shell.
#
# Builds unchanged with BuildKit and with buildah 1.28 or later, for amd64 and arm64 (`--platform`; the other
# architecture is emulated). The tags below move when their images are patched. A release replaces each by what
# `crane digest` prints for it, so that the image can be built again:
#   --build-arg RUST_IMAGE=docker.io/library/rust:1.95-slim-bookworm@sha256:…
ARG RUST_IMAGE=docker.io/library/rust:1.95-slim-bookworm
ARG RUNTIME_IMAGE=gcr.io/distroless/static-debian12:nonroot

FROM ${RUST_IMAGE} AS build
WORKDIR /build

# musl-gcc compiles SQLite, the allocator and the cryptography for the static target.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends musl-tools \
 && rm -rf /var/lib/apt/lists/*

# amd64 or arm64; set by the builder.
ARG TARGETARCH
RUN case "$TARGETARCH" in \
      amd64) echo x86_64-unknown-linux-musl ;; \
      arm64) echo aarch64-unknown-linux-musl ;; \
      *) echo "unsupported architecture '$TARGETARCH'" >&2; exit 1 ;; \
    esac > /target \
 && rustup target add "$(cat /target)"

# The caches outlive the build, so a change of our sources compiles our sources and nothing else. They are not part of
# any layer, hence the copy. cargo judges by dates, and those of another checkout may be older than what the cache holds
# of it, hence the touch. No simulator, since default features are off; no dynamic library, which is checked.
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/build/target,sharing=locked \
    target="$(cat /target)" \
 && touch build.rs src/lib.rs src/main.rs \
 && cargo build --release --locked --no-default-features --target "$target" \
 && mkdir -p /image/usr/local/bin /image/var/lib/whatsapp-gateway \
 && cp "target/$target/release/whatsapp-gateway" /image/usr/local/bin/ \
 && readelf --dynamic /image/usr/local/bin/whatsapp-gateway > /dynamic \
 && if grep NEEDED /dynamic; then echo "the binary is not static" >&2; exit 1; fi

FROM ${RUNTIME_IMAGE}
ARG RUNTIME_IMAGE
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="whatsapp-gateway" \
      org.opencontainers.image.description="A gRPC messaging gateway in front of Meta's WhatsApp Cloud API" \
      org.opencontainers.image.licenses="Apache-2.0 OR MIT" \
      org.opencontainers.image.source="https://github.com/whatsapp-gateway/whatsapp-gateway" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.base.name="$RUNTIME_IMAGE"

COPY --from=build /image/usr/local/bin/whatsapp-gateway /usr/local/bin/whatsapp-gateway
# The data directory belongs to the user, so that a new volume mounted over it does too.
COPY --from=build --chown=65532:65532 /image/var/lib/whatsapp-gateway /var/lib/whatsapp-gateway

USER 65532:65532
# gRPC, webhook, metrics and probes.
EXPOSE 50051 8080 9090
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s CMD ["/usr/local/bin/whatsapp-gateway", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/whatsapp-gateway"]
CMD ["serve"]
