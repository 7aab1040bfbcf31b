#!/usr/bin/env bash
# check-scripts.sh: every shell script parses, is executable, and says so in its first line.
set -euo pipefail
cd "$(dirname "$0")/.."

status=0
for script in .ci/run tools/*.sh; do
	case $(sed -n 1p "$script") in
	'#!/bin/sh') sh -n "$script" || status=1 ;;
	'#!/usr/bin/env bash') bash -n "$script" || status=1 ;;
	*)
		echo "$script: first line is neither sh nor bash"
		status=1
		;;
	esac
	[ -x "$script" ] || {
		echo "$script: not executable"
		status=1
	}
done
exit $status
