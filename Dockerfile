# The image of kms-plugin: one static binary and CA certificates, nothing else.
#
#   docker build --build-arg VERSION=v1.2.3 -t kms-plugin .
#   docker build --platform linux/arm64 .        the image of another architecture
#   docker build --build-arg TARGETARCH=arm64 .  the same binary, with the builder's architecture in the image's label
#
# Only go.mod, go.sum, cmd/kms-plugin, internal/kmsplugin and internal/hint are read, so a build
# context may hold just these.

# By digest: what builds the image is what was looked at. `make base-image` pins the newest
# one, so that patch releases of Go reach the image; a test wants a digest. This is the
# index, for all architectures, of Go 1.26.8.
# --platform: the compiler runs natively and cross-compiles, so that no emulation is needed.
FROM --platform=$BUILDPLATFORM golang:1.26-alpine@sha256:b6890e35ded5d19118c2bca3d7754dc4e6f694aac2d0aeb92f9807c2879e4230 AS build
WORKDIR /src
COPY go.mod go.sum ./
COPY cmd/kms-plugin ./cmd/kms-plugin
COPY internal/hint ./internal/hint
COPY internal/kmsplugin ./internal/kmsplugin
# No defaults here: a default would beat the values that the builder knows.
ARG TARGETOS
ARG TARGETARCH
ARG VERSION
ARG REVISION
# No `go mod download` ahead: it would fetch the whole module's dependencies, the
# CDK among them, where the build fetches only what the plugin imports.
RUN CGO_ENABLED=0 GOOS=${TARGETOS:-linux} GOARCH=${TARGETARCH} \
    go build -trimpath -tags grpcnotrace \
    -ldflags "-s -w -X github.com/ekskms/ekskms/internal/kmsplugin.version=${VERSION} -X github.com/ekskms/ekskms/internal/kmsplugin.revision=${REVISION}" \
    -o kms-plugin ./cmd/kms-plugin

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /src/kms-plugin /kms-plugin
# By number: there is no /etc/passwd, and Kubernetes' runAsNonRoot can't judge a name.
USER 65532:65532
ENTRYPOINT ["/kms-plugin"]
