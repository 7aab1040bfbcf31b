#!/usr/bin/env bash
# format.sh [--check] go|hcl: formats the sources; with --check names those that are not formatted, and fails.
set -euo pipefail
cd "$(dirname "$0")/.."

check=false
if [ "${1:-}" = --check ]; then
	check=true
	shift
fi

# Sources are found by name, not by git: a new file counts before it is added.
find_sources() {
	find . \( -name .git -o -name .tools -o -name .terraform -o -name node_modules -o -name bin -o -name dist \) -prune \
		-o -type f \( "$@" \) -print0
}

case ${1:-} in
go)
	if $check; then
		unformatted=$(find_sources -name '*.go' | xargs -0r gofmt -l)
		[ -z "$unformatted" ] || {
			printf 'not formatted, run make generate:\n%s\n' "$unformatted"
			exit 1
		}
	else
		find_sources -name '*.go' | xargs -0r gofmt -w
	fi
	;;
hcl)
	# No Terraform CLI: what it would say of a file must not depend on which one is installed.
	files=(-name '*.tf' -o -name '*.tfvars' -o -name '*.tfquery.hcl' -o -name '*.tftest.hcl')
	if $check; then
		find_sources "${files[@]}" | xargs -0r .tools/hclfmt -require-no-change >/dev/null || {
			echo 'run make generate'
			exit 1
		}
	else
		find_sources "${files[@]}" | xargs -0r .tools/hclfmt -w
	fi
	;;
*)
	echo 'usage: format.sh [--check] go|hcl' >&2
	exit 2
	;;
esac
