package descriptor_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/bunting-flags/terraform-provider-bunting/internal/descriptor"
	"github.com/bunting-flags/terraform-provider-bunting/internal/descriptor/settest"
)

func TestWhatTwoSetsHaveOtherwise(t *testing.T) {
	t.Parallel()
	older := parse(t, settest.Flags(t, shop))
	change := strings.NewReplacer(
		`bool email = 1`, `string mail = 1`, `{bool_value: {value: true}}, layer: "user"`, `{string_value: {value: "daily"}}, layer: "big_tenant"`,
		`"blue"}}, supported_values: {string_values: ["red", "blue"]}`, `"red"}}, supported_values: {string_values: ["red", "green"]}`,
		`share = 4`, `share = 5`, `Of nothing`, `Of all`, `team-growth`, `team-mail`, `uint64 size = 10`, `int32 size = 10`, `9223372036854775807`, `7`,
	)
	newer := parse(t, settest.Flags(t, change.Replace(shop)))
	d := descriptor.Compare(older, newer)
	var told strings.Builder
	for _, a := range d.Added {
		fmt.Fprintln(&told, "added", a.Flag.Key)
	}
	for _, r := range d.Removed {
		fmt.Fprintln(&told, "removed", r.Flag.Key)
	}
	for _, c := range d.Changed {
		fmt.Fprintln(&told, c.FlagKey, c.Name, c.Aspect, c.Before, "->", c.After, c.Breaking)
	}
	const want = `added notifications/5
removed notifications/4
notifications/1 Notifications.mail type bool -> string true
notifications/1 Notifications.mail layer user -> big_tenant true
notifications/1 Notifications.mail default true -> "daily" false
notifications/1 Notifications.mail owner team-growth -> team-mail false
notifications/1 Notifications.mail name Notifications.email -> Notifications.mail false
notifications/10 Notifications.size default 9223372036854775807 -> 7 false
notifications/10 Notifications.size owner team-growth -> team-mail false
notifications/11 Notifications.factor description Of nothing -> Of all false
notifications/11 Notifications.factor owner team-growth -> team-mail false
notifications/2 Notifications.theme default "blue" -> "red" false
notifications/2 Notifications.theme supported_values ["blue","red"] -> ["green","red"] false
notifications/2 Notifications.theme owner team-growth -> team-mail false
notifications/3 Notifications.retries owner team-growth -> team-mail false
`
	if told.String() != want {
		t.Errorf("got\n%swant\n%s", &told, want)
	}
	if !d.Breaking() || d.Empty() || len(d.Of(descriptor.AspectType)) != 1 {
		t.Errorf("breaking %t, empty %t", d.Breaking(), d.Empty())
	}
	added := descriptor.Compare(parse(t, settest.Flags(t, ``)), newer)
	if added.Breaking() || len(added.Added) != newer.Len() || len(added.Removed)+len(added.Changed) != 0 {
		t.Errorf("from nothing: %+v", added)
	}
}
