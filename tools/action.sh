#!/usr/bin/env bash
# What action.yml runs: check, and guard where there is something to compare with. It takes
# ekskms from the PATH; or the release EKSKMS_VERSION, whose checksum it compares; or builds
# what ACTION_PATH has, with Go.
set -euo pipefail

fetch() {
  local os arch archive from
  os=$(uname -s | tr '[:upper:]' '[:lower:]')
  arch=$(uname -m | sed 's/x86_64/amd64/; s/aarch64/arm64/')
  archive="ekskms_${EKSKMS_VERSION#v}_${os}_${arch}.tar.gz"
  from=${EKSKMS_RELEASES:-https://github.com/ekskms/ekskms/releases/download}/$EKSKMS_VERSION
  for file in "$archive" checksums.txt; do
    curl --fail --silent --show-error --location --output "$bin/$file" "$from/$file"
  done
  (cd "$bin" && grep -F " $archive" checksums.txt | sha256sum --check --quiet)
  tar -xzf "$bin/$archive" -C "$bin" ekskms
}

install() {
  bin=$(mktemp -d)
  if [[ ${EKSKMS_VERSION:-} =~ ^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.]+)?$ ]]; then
    fetch
  elif [[ -f ${ACTION_PATH:-}/go.mod ]]; then
    (cd "$ACTION_PATH" && go build -o "$bin/ekskms" ./cmd/ekskms)
  else
    echo "ekskms: version is \"${EKSKMS_VERSION:-}\", must be a release such as v1.2.3" >&2
    exit 2
  fi
  PATH=$bin:$PATH
}

command -v ekskms >/dev/null || install

sarif=${RUNNER_TEMP:-$(mktemp -d)}/ekskms-sarif
mkdir -p "$sarif"
echo "sarif=$sarif" >>"${GITHUB_OUTPUT:-/dev/null}"

path=()
[[ -z ${EKSKMS_PATH:-} ]] || path=("$EKSKMS_PATH")
common=(--fail-on "${EKSKMS_FAIL_ON:-medium}")
failed=0

# Twice: once for people, whose exit code counts, once for code scanning.
both() {
  local name=$1 code=0
  shift
  ekskms "$name" "$@" "${common[@]}" || code=$?
  [[ $code -le 1 ]] || exit "$code" # no report
  ekskms "$name" "$@" --fail-on never --quiet --output sarif >"$sarif/$name.sarif"
  [[ $code -eq 0 ]] || failed=1
}

both check "${path[@]}"
if [[ -n ${EKSKMS_AGAINST:-} ]]; then
  both guard "${path[@]}" --against "$EKSKMS_AGAINST"
elif [[ -n ${EKSKMS_BASE:-} ]]; then
  both guard "${path[@]}" --base "$EKSKMS_BASE"
fi
exit "$failed"
