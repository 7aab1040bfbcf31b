#!/bin/sh
# terraform-cli.sh [--tofu]: prints the path of the CLI that the acceptance tests use, and on stderr which one it is.
# TF_ACC_TERRAFORM_PATH comes first, then `terraform` on PATH, then OpenTofu built from tools/tofu. With --tofu: only that.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)

cli=
if [ "${1:-}" != --tofu ]; then
	cli=${TF_ACC_TERRAFORM_PATH:-$(command -v terraform || true)}
fi
if [ -z "$cli" ]; then
	make -C "$root" -s .tools/tofu >&2
	cli=$root/.tools/tofu
fi

# Tests run in their own folders.
case $cli in
/*) ;;
*/*) cli=$PWD/$cli ;;
esac

# A configuration of the user's own would add warnings, and asking for updates needs a network.
version=$(TF_CLI_CONFIG_FILE=/dev/null CHECKPOINT_DISABLE=1 "$cli" version) || {
	echo "$cli does not answer to \`version\`" >&2
	exit 1
}
echo "CLI: $(printf '%s\n' "$version" | sed -n 1p) ($cli)" >&2
printf '%s\n' "$cli"
