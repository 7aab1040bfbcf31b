#!/usr/bin/env bash
# servers.sh: sees to it that the servers which the tests start are there, PostgreSQL and Redis. Debian's packages are
# installed where that is possible; elsewhere it says what is missing, and the tests that need it fail. Quiet when all is well.
set -euo pipefail

missing=()
if [ -z "${BUNTING_TEST_POSTGRES:-}" ] && ! command -v postgres >/dev/null && ! compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null; then
	missing+=(postgresql)
fi
if [ -z "${BUNTING_TEST_REDIS:-}" ] && ! command -v redis-server >/dev/null; then
	missing+=(redis-server)
fi
[ "${#missing[@]}" -gt 0 ] || exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
	echo "missing: ${missing[*]}. Install them, or name servers that are there in BUNTING_TEST_POSTGRES and BUNTING_TEST_REDIS"
	exit 0
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { apt-get update && apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
	cat "$log"
	echo "could not install ${missing[*]}"
	exit 1
fi
