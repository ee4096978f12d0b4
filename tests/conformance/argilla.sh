#!/bin/sh
# Argilla's own tests against our search and our server: `sh tests/conformance/argilla.sh [engine|sdk]`, by default both.
#   engine  argilla-server's search-engine tests, run on workbench/review/_server/embedded_search
#   sdk     the SDK's integration tests, run on a server that review.start() gives
# The tests come with the sdists, which are downloaded to $WORKBENCH_CACHE/conformance together with environments of their
# own; how they are laid over an engine without Elasticsearch is in $SHARED, beside this checkout. Fails when fewer pass than did.
set -eu
ROOT=$(cd "$(dirname "$0")/../.." && pwd)
PY=${PY:-$ROOT/.venv/bin/python}
SHARED=${SHARED:-$ROOT/../shared/acceptance/argilla}
CACHE=${WORKBENCH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/synthetic-data-workbench}/conformance
VERSION=2.8.0
[ -f "$SHARED/run.sh" ] || { echo "needs $SHARED, or SHARED=its folder"; exit 2; }
SHARED=$(cd "$SHARED" && pwd)
export PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONPATH="$ROOT"
mkdir -p "$CACHE"
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT

make_environment() { # a name, then what pip installs; the mark comes last, so one that was cut off is made again
    name=$1
    shift
    [ ! -f "$CACHE/$name/.ready" ] || return 0
    rm -rf "${CACHE:?}/$name"
    "$PY" -m venv "$CACHE/$name"
    "$CACHE/$name/bin/python" -I -m pip install -q "$@"
    touch "$CACHE/$name/.ready"
}

sdist() { # the package, then the name of its file
    [ -f "$CACHE/$2" ] || "$PY" -I -m pip download -q --no-deps --no-binary "$1" -d "$CACHE" "$1==$VERSION"
}

expect() { # a log, then what its last line must hold
    tail -1 "$1"
    for words in "$2" "$3"; do tail -1 "$1" | grep -q "$words" || { grep -E '^(FAILED|ERROR)' "$1"; echo "expected: $words"; exit 1; }; done
}

engine() {
    lock="$ROOT/workbench/review/_server/requirements.lock"
    make_environment server -r "$lock" 'pytest>=7.4.4,<8' pytest-mock 'pytest-asyncio~=0.21.1' pytest-env 'factory-boy~=3.2.1' respx lupa
    sdist argilla-server "argilla_server-$VERSION.tar.gz"
    echo "argilla-server $VERSION, tests/unit/search_engine, on the embedded search:"
    SDIST="$CACHE/argilla_server-$VERSION.tar.gz" ENGINE_UNDER_TEST=embedded_search.engine:EmbeddedSearchEngine WORK="$WORK/server" \
        sh "$SHARED/run.sh" "$CACHE/server/bin/python" "$ROOT/workbench/review/_server" tests/unit/search_engine -q >"$WORK/engine.log" 2>&1 || true
    expect "$WORK/engine.log" "^91 passed" "28 deselected, 1 xfailed"
}

sdk() {
    make_environment sdk "argilla==$VERSION" requests pytest pytest-mock pytest-httpx # requests: it is imported, and not declared
    sdist argilla "argilla-$VERSION.tar.gz"
    mkdir -p "$WORK/sdk" && tar xzf "$CACHE/argilla-$VERSION.tar.gz" -C "$WORK/sdk" --strip-components=1
    echo "argilla (SDK) $VERSION, tests/integration, on a server of review.start():"
    "$PY" - "$WORK/data" >"$WORK/address" <<'EOF'
import sys
from workbench.review import server
started = server.start(sys.argv[1])
print(started.url, started.api_key)
EOF
    read -r url key <"$WORK/address"
    (cd "$WORK/sdk" && PYTHONPATH="$SHARED" HF_HUB_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1 ARGILLA_API_URL=$url ARGILLA_API_KEY=$key \
        "$CACHE/sdk/bin/python" -m pytest -q -p sdk_plugin -p no:cacheprovider tests/integration >"$WORK/sdk.log" 2>&1) || true
    "$PY" -c 'import sys; from workbench.review import server; server.stop(sys.argv[1])' "$WORK/data"
    expect "$WORK/sdk.log" "^114 passed" "19 skipped"
}

case ${1:-both} in
    engine) engine ;;
    sdk) sdk ;;
    both) engine; sdk ;;
    *) echo "usage: $0 [engine|sdk]"; exit 2 ;;
esac
