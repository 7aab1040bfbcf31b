#!/usr/bin/env bash
# generate.sh [--check]: makes gen/ and docs/ anew. With --check it makes them in a temporary folder and compares:
# that finds what is missing, left over or not yet added to git, and touches nobody's work.
set -euo pipefail
cd "$(dirname "$0")/.."

temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT

.tools/buf generate --output "$temp"
if [ "${1:-}" != --check ]; then # what follows is built from sources that may use it already
	rm -rf gen
	cp -R "$temp/gen" gen
fi

# The documentation is made from the provider's own answer, so that no CLI is needed. It reads templates and examples,
# and wants to write beside them: so it works on copies.
mkdir -p "$temp/provider/examples" "$temp/provider/templates"
go run ./tools/providerschema >"$temp/schema.json"
for dir in examples templates; do
	[ ! -d "$dir" ] || cp -R "$dir/." "$temp/provider/$dir"
done
.tools/tfplugindocs generate --provider-dir "$temp/provider" --provider-name terraform-provider-bunting \
	--rendered-provider-name Bunting --providers-schema "$temp/schema.json" >"$temp/log" 2>&1 || {
	cat "$temp/log"
	exit 1
}
mv "$temp/provider/docs" "$temp/docs"

if [ "${1:-}" = --check ]; then
	for dir in gen docs; do
		diff -ru "$dir" "$temp/$dir" || {
			echo "$dir/ is not what its sources say: run make generate"
			exit 1
		}
	done
	exit
fi
rm -rf docs
mv "$temp/docs" docs
