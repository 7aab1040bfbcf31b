#!/usr/bin/env bash
# fuzz.sh TIME PACKAGES...: runs every fuzz target of the packages for that long, one after another.
set -euo pipefail
cd "$(dirname "$0")/.."
time=$1
shift

# Packages without tests print nothing; a package that does not build fails here.
list=$(go test -list '^Fuzz' -json "$@")
targets=$(printf '%s\n' "$list" | sed -n 's/.*"Package":"\([^"]*\)","Output":"\(Fuzz[^\\]*\)\\n".*/\1 \2/p')
[ -n "$targets" ] || {
	echo 'left out: fuzzing (no fuzz target found)'
	[ "${CI:-}" != true ]
	exit
}
while read -r package target; do
	tools/step.sh "fuzz $target for $time" go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$package" </dev/null
done <<<"$targets"
