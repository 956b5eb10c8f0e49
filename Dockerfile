# The images: one static binary on a base that has certificates and a user, and no shell. The last target is the gateway;
# `--target simulator` has the simulated Cloud API too, for trying it out.
#
# Builds unchanged with BuildKit and with buildah 1.28 or later, for amd64 and arm64 (`--platform`): the compiler runs as the
# machine is and compiles across, for which buildah 1.28 needs `--build-arg BUILDPLATFORM=linux/amd64`. The tags of the bases
# move when their images are patched; a digest beside the tag (RUST_DIGEST, RUNTIME_DIGEST) makes them stand still.
# docs/operations.md has the commands.
ARG RUST_IMAGE=docker.io/library/rust:1.95-slim-bookworm
ARG RUST_DIGEST=
ARG RUNTIME_IMAGE=gcr.io/distroless/static-debian12:nonroot
ARG RUNTIME_DIGEST=

# The tools work for seconds, so they are not optimized.
FROM --platform=$BUILDPLATFORM ${RUST_IMAGE}${RUST_DIGEST:+@$RUST_DIGEST} AS tools
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    CARGO_PROFILE_DEV_DEBUG=0 CARGO_TARGET_DIR=/tools \
    cargo install --debug --locked cargo-auditable@0.7.7 cargo-cyclonedx@0.5.9 \
 && rm -r /tools

# A C compiler and a libc for the architecture of the image: SQLite, the allocator and the cryptography are C.
FROM tools AS compiler
# amd64 or arm64; set by the builder.
ARG TARGETARCH
COPY scripts/image_build.sh /usr/local/bin/
RUN image_build.sh setup "$TARGETARCH"
WORKDIR /build

# The caches outlive the build, so a change of our sources compiles our sources and nothing else. No simulator, since the
# default features are off.
FROM compiler AS build
# What the SBOM gives as its time, in seconds since 1970.
ARG SOURCE_DATE_EPOCH=0
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/build/target,sharing=locked \
    image_build.sh build --no-default-features

FROM compiler AS build-simulator
ARG SOURCE_DATE_EPOCH=0
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/build/target,sharing=locked \
    image_build.sh build

# The names of the functions, for debuggers and profilers that find them by the build id: --target symbols --output FOLDER.
FROM scratch AS symbols
COPY --from=build /symbols /

# What both images have. The platform stands here because buildah 1.28 would go on with the one above.
# hadolint ignore=DL3065
FROM --platform=$TARGETPLATFORM ${RUNTIME_IMAGE}${RUNTIME_DIGEST:+@$RUNTIME_DIGEST} AS base
ARG RUNTIME_IMAGE
ARG RUNTIME_DIGEST
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="whatsapp-gateway" \
      org.opencontainers.image.description="A gRPC messaging gateway in front of Meta's WhatsApp Cloud API" \
      org.opencontainers.image.licenses="Apache-2.0 OR MIT" \
      org.opencontainers.image.source="https://github.com/whatsapp-gateway/whatsapp-gateway" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.base.name="$RUNTIME_IMAGE" \
      org.opencontainers.image.base.digest="$RUNTIME_DIGEST"
USER 65532:65532
# gRPC, webhook, metrics and probes.
EXPOSE 50051 8080 9090
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s CMD ["/usr/local/bin/whatsapp-gateway", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/whatsapp-gateway"]

# Everybody who reaches the gRPC port may do everything: nothing here is real.
FROM base AS simulator
COPY --from=build-simulator /image/usr /usr
COPY --from=build-simulator --chown=65532:65532 /image/var/lib/whatsapp-gateway /var/lib/whatsapp-gateway
ENV WHATSAPP_GATEWAY__GRPC__INSECURE=true
EXPOSE 8081
CMD ["dev", "--data-dir", "/var/lib/whatsapp-gateway", "--grpc-listen", "0.0.0.0:50051", "--webhook-listen", "0.0.0.0:8080", "--admin-listen", "0.0.0.0:9090", "--simulator-listen", "0.0.0.0:8081"]

FROM base AS gateway
COPY --from=build /image/usr /usr
# The data directory belongs to the user, so that a new volume mounted over it does too.
COPY --from=build --chown=65532:65532 /image/var/lib/whatsapp-gateway /var/lib/whatsapp-gateway
CMD ["serve"]
