#!/bin/sh
# step.sh NAME COMMAND...: runs the command; one line when it goes well, all it printed when it does not.
set -eu
name=$1
shift
log=$(mktemp)
trap 'rm -f "$log"' EXIT
start=$(date +%s)
if "$@" >"$log" 2>&1; then
	echo "[ok] $name ($(($(date +%s) - start)) s)"
else
	status=$?
	cat "$log"
	echo "[FAILED] $name"
	exit "$status"
fi
