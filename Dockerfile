# The image: the release binary, its configuration files, glibc, and nothing else.
#
#   docker build --build-arg REVISION=$(git rev-parse HEAD) --tag gantry:0.1.0 .
#
# A binary that was built elsewhere (a CI cache, a machine without a registry)
# takes the place of the whole builder stage:
#
#   docker build --build-context builder=DIR .
#
# DIR/out holds `gantry`, `lib/libgcc_s.so.1` and an empty folder `data`.

# The same release as rust-toolchain.toml. A check compares them.
ARG RUST_VERSION=1.95.0

# Debian 12's glibc and its certificates, without OpenSSL: TLS is rustls. The
# `cc` flavour would add OpenSSL, libstdc++ and libgomp (9 MB), and a Rust
# binary needs only its libgcc_s. The registry offers no version tags. For
# byte-identical builds pass a digest.
ARG RUNTIME_IMAGE=gcr.io/distroless/base-nossl-debian12:nonroot

# One stage that depends on no other, so that the replacement above needs no
# registry. BuildKit resolves the base of a stage even when it is replaced.
FROM rust:${RUST_VERSION}-bookworm AS builder
ARG RUST_VERSION
# RUSTUP_TOOLCHAIN selects the image's own toolchain, because rust-toolchain.toml
# would download it again. Poll times and per-task metrics of Tokio need the cfg.
# `CFLAGS` is that of `.cargo/config.toml`, which comes with the sources. Another
# value would compile the C libraries again.
ENV RUSTUP_TOOLCHAIN=${RUST_VERSION} \
    CFLAGS="-g0" \
    RUSTFLAGS="--cfg tokio_unstable"
WORKDIR /build

# Builds the dependencies alone, those of a build script included, around an
# empty crate. This takes minutes and is cached until the manifest changes. Tests
# and benches are removed, because their files are not here yet.
COPY Cargo.toml Cargo.lock ./
COPY crates/settings/Cargo.toml crates/settings/
COPY crates/telemetry/Cargo.toml crates/telemetry/
COPY crates/lifecycle/Cargo.toml crates/lifecycle/
COPY crates/request/Cargo.toml crates/request/
COPY crates/db/Cargo.toml crates/db/
COPY crates/workers/Cargo.toml crates/workers/
COPY crates/limits/Cargo.toml crates/limits/
COPY crates/http-server/Cargo.toml crates/http-server/
COPY crates/client/Cargo.toml crates/client/
COPY crates/identity/Cargo.toml crates/identity/
COPY crates/admin/Cargo.toml crates/admin/
RUN cp Cargo.toml /tmp/Cargo.toml \
    && sed -i '/^\[\[\(test\|bench\|example\)\]\]/,/^$/d' Cargo.toml \
    && mkdir src && touch src/lib.rs \
    && for crate in crates/*; do mkdir "$crate/src" && touch "$crate/src/lib.rs"; done \
    && echo 'fn main() {}' > build.rs && cp build.rs src/main.rs \
    && cargo build --release --locked \
    && mv /tmp/Cargo.toml Cargo.toml

COPY . .
# REVISION is compiled into build_info. It comes after the dependencies, so that
# a commit rebuilds the project only. The empty crate is newer than the sources,
# so they are touched. Otherwise cargo would ship the empty crate.
ARG REVISION=unknown
RUN find src crates build.rs -name '*.rs' -exec touch {} + \
    && BUILD_REVISION="${REVISION}" cargo build --release --locked --bin gantry \
    && mkdir -p /out/lib /out/data \
    && cp target/release/gantry /out/gantry \
    && cp "$(gcc -print-file-name=libgcc_s.so.1)" /out/lib/libgcc_s.so.1

FROM ${RUNTIME_IMAGE}
ARG REVISION=unknown
LABEL org.opencontainers.image.title="gantry" \
      org.opencontainers.image.description="An axum service wrapped in metrics, traces, rate limiting and graceful shutdown" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.revision="${REVISION}"

COPY --from=builder /out/lib/libgcc_s.so.1 /usr/lib/libgcc_s.so.1
COPY --from=builder --chmod=0755 /out/gantry /usr/local/bin/gantry
COPY config/ /app/config/
# The only folder that is written to, and only with SQLite. Mount a volume.
COPY --from=builder --chown=65532:65532 /out/data /data

WORKDIR /app
ENV APP_ENV=production
# A number, so that a kubelet can verify that it is not root.
USER 65532:65532
EXPOSE 3000 9464 50051
# SIGTERM starts the drain. It is the default, and explicit because the drain depends on it.
STOPSIGNAL SIGTERM
# The image has no shell and no curl, so the binary checks itself.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["/usr/local/bin/gantry", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/gantry"]
CMD ["serve"]
