#!/usr/bin/env bash
# demo.sh: the whole story on a flag server of its own. Apply, evaluate, kill at night, plan, apply, release, destroy.
# Everything happens in a temporary folder, which is removed whatever happens; so is the server.
set -euo pipefail
cd "$(dirname "$0")/.."

# Nothing of the user's own may take part: no server they work on, no settings of their CLI.
for name in $(compgen -e); do
	case $name in
	TF_ACC_TERRAFORM_PATH) ;;
	BUNTING_* | TF_*) unset "$name" ;;
	esac
done

work=$(mktemp -d)
server=
finish() {
	status=$?
	trap - EXIT
	if [ -n "$server" ]; then
		# It drains when it is asked; one that does not end is ended.
		kill "$server" 2>/dev/null || true
		for _ in {1..200}; do
			kill -0 "$server" 2>/dev/null || break
			sleep 0.1
		done
		! kill -0 "$server" 2>/dev/null || kill -9 "$server"
		wait "$server" 2>/dev/null || true
	fi
	rm -rf "$work"
	exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

step() { printf '\n==> %s\n' "$*"; }
show() { sed 's/^/    /'; }

# fail WHAT LOG...: says what went wrong, with what was printed meanwhile.
fail() {
	printf '\ndemo: %s\n' "$1"
	shift
	for log in "$@"; do
		[ -s "$log" ] || continue
		printf -- '--- %s\n' "${log##*/}"
		tail -n 60 "$log"
	done
	exit 1
} >&2

# tf NAME ARGUMENTS...: runs the CLI in the example; what it prints is kept as NAME.log.
tf() {
	local log=$work/$1.log
	shift
	"$cli" -chdir="$work/getting-started" "$@" -no-color </dev/null >"$log" 2>&1 ||
		fail "$(basename "$cli") $1 failed" "$log" "$work/server.log"
}

# expect TEXT FILE: the demo shows what happens, so it must have happened.
expect() {
	grep -qF -- "$1" "$2" || fail "expected \"$1\"" "$2" "$work/server.log"
}

step 'Build the provider and the flag server (and OpenTofu, where there is no terraform: minutes, but only once)'
go build -trimpath -buildvcs=false -o "$work/bin/" . ./cmd/bunting
cli=$(tools/terraform-cli.sh 2>"$work/cli.log") || fail 'found no Terraform CLI and could not build one' "$work/cli.log"
show <"$work/cli.log"
bunting=$work/bin/bunting

step 'Start the server on a free port: bunting serve --listen 127.0.0.1:0'
# Its own log goes to a file: the story is told by what the programs answer.
(cd "$work" && exec "$bunting" serve --listen 127.0.0.1:0 --environment demo --ready-file ready.json) >"$work/server.log" 2>&1 &
server=$!
for _ in {1..300}; do
	[ ! -s "$work/ready.json" ] || break
	kill -0 "$server" 2>/dev/null || fail 'the server ended before it was ready' "$work/server.log"
	sleep 0.1
done
BUNTING_ENDPOINT=$(sed -n 's/.*"endpoint" *: *"\([^"]*\)".*/\1/p' "$work/ready.json" 2>/dev/null || true)
[ -n "$BUNTING_ENDPOINT" ] || fail 'the server did not get ready within 30 s' "$work/server.log"
export BUNTING_ENDPOINT
echo "it answers at $BUNTING_ENDPOINT" | show

# The provider is the one just built, not one of a registry; OpenTofu looks for it under its own registry's name.
cat >"$work/cli.tfrc" <<END
provider_installation {
  dev_overrides {
    "registry.terraform.io/bunting-flags/bunting" = "$work/bin"
    "registry.opentofu.org/bunting-flags/bunting" = "$work/bin"
  }
  direct {}
}
END
export TF_CLI_CONFIG_FILE=$work/cli.tfrc TF_IN_AUTOMATION=1 CHECKPOINT_DISABLE=1
cp -R examples/getting-started "$work/"
BUNTING_TOKEN=$(cat "$work/bunting.token")
export BUNTING_TOKEN

step 'Declare three flags, an override and a kill switch: terraform apply'
tf apply apply -auto-approve
grep -E '^Apply complete!' "$work/apply.log" | show

step 'Read what they evaluate to: terraform output'
tf values output
expect 'new_cart = "true (GLOBAL)"' "$work/values.log"
show <"$work/values.log"

step 'It is night, and Anna is on call with a token that can kill: bunting kill checkout/new-cart'
anna=$("$bunting" token create ops-anna --scope kill 2>"$work/token.log") || fail 'could not make a token' "$work/token.log" "$work/server.log"
BUNTING_TOKEN=$anna "$bunting" kill checkout/new-cart --reason 'Totals are wrong' >"$work/kill.log" 2>&1 ||
	fail 'bunting kill failed' "$work/kill.log" "$work/server.log"
show <"$work/kill.log"

step 'The next morning somebody plans, and is told: terraform plan'
tf plan plan
expect 'is held killed by ops-anna' "$work/plan.log"
grep -F 'is held killed by' "$work/plan.log" | sed 's/^[^W]*//' | show

step 'They apply all the same, and throw the kill switch of the configuration and take it back'
tf throw apply -auto-approve -var stop_new_cart=true
tf back apply -auto-approve
grep -hE '^Apply complete!' "$work/throw.log" "$work/back.log" | show

step 'The kill stands: bunting eval checkout/new-cart'
"$bunting" eval checkout/new-cart >"$work/eval.log" 2>&1 || fail 'bunting eval failed' "$work/eval.log" "$work/server.log"
expect KILLED "$work/eval.log"
show <"$work/eval.log"

step 'The cart is mended, and Anna lets go: bunting release checkout/new-cart'
BUNTING_TOKEN=$anna "$bunting" release checkout/new-cart >"$work/release.log" 2>&1 ||
	fail 'bunting release failed' "$work/release.log" "$work/server.log"
show <"$work/release.log"
"$bunting" eval checkout/new-cart >"$work/eval.log" 2>&1 || fail 'bunting eval failed' "$work/eval.log" "$work/server.log"
expect GLOBAL "$work/eval.log"
show <"$work/eval.log"

step 'Take it all away: terraform destroy'
tf destroy destroy -auto-approve
grep -E '^Destroy complete!' "$work/destroy.log" | show

step 'Done. The server and everything that this made are removed.'
