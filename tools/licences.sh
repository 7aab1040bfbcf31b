#!/usr/bin/env bash
# licences.sh: fails when something linked into our programs, on any system they are released for, has a licence that
# asks more than we can promise. What only tests import is not linked, so it is not asked about.
set -euo pipefail
cd "$(dirname "$0")/.."

allowed=MIT,BSD-2-Clause,BSD-3-Clause,Apache-2.0,ISC,MPL-2.0,0BSD,Unlicense,CC0-1.0

# What is promised to others counts as well as the programs.
linked=(.)
for dir in cmd buntingtest definitioncache; do
	[ ! -d "$dir" ] || linked+=("./$dir/...")
done

# It compares paths with GOROOT to know the standard library, and a program built with -trimpath knows none.
GOROOT=$(go env GOROOT)
export GOROOT CGO_ENABLED=0
for system in linux darwin windows freebsd; do
	GOOS=$system .tools/go-licenses check --allowed_licenses="$allowed" "${linked[@]}" || {
		echo "on $system"
		exit 1
	}
done
