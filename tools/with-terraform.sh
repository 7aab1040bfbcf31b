#!/usr/bin/env bash
# with-terraform.sh [--tofu] COMMAND...: runs the command with what acceptance tests need, on the CLI that
# terraform-cli.sh finds.
set -euo pipefail
tools=$(cd "$(dirname "$0")" && pwd)

choice=()
if [ "${1:-}" = --tofu ]; then
	choice=(--tofu)
	shift
fi
cli=$("$tools/terraform-cli.sh" "${choice[@]}")

# Nothing of the user's own may reach a test: no server they work on, no arguments, no log level.
for name in $(compgen -e); do
	case $name in
	BUNTING_SOAK) ;;
	BUNTING_* | TF_CLI_ARGS* | TF_VAR_* | TF_WORKSPACE | TF_DATA_DIR | TF_LOG* | TF_REATTACH_PROVIDERS | TF_PLUGIN_CACHE_DIR | TERRAFORM_CONFIG)
		unset "$name"
		;;
	esac
done

export TF_ACC=1
export TF_ACC_TERRAFORM_PATH=$cli
# An empty configuration: a path that does not exist makes every command print a warning.
export TF_CLI_CONFIG_FILE=/dev/null
export CHECKPOINT_DISABLE=1
# OpenTofu looks for providers without a host at its own registry's address, and so must the tests offer ours.
# Not piped into grep -q: that stops reading at the first line, the CLI may die of it, and pipefail makes that a "no".
case $("$cli" version) in
OpenTofu*) export TF_ACC_PROVIDER_HOST=registry.opentofu.org ;;
*) unset TF_ACC_PROVIDER_HOST ;;
esac

exec "$@"
