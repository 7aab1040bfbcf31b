package flag_test

import (
	"fmt"
	"strings"
	"testing"
	"unsafe"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// TestTextsAreShared: equal texts of objects read one after the other are one text.
func TestTextsAreShared(t *testing.T) {
	t.Parallel()
	var texts flag.Texts
	read := func(i int) (*flag.Flag, *flag.Override, *flag.Hold) {
		c := strings.Clone
		changed := func() flag.Stamp { return flag.Stamp{Actor: c("anna"), OwnerID: c("workspace:pay")} }
		f := &flag.Flag{Key: "a", Layer: c("user"), Owner: c("team"), OwnerID: c("workspace:pay"), Tags: []string{c("x"), c("y")}, Description: c("what it does"), Changed: changed()}
		o := &flag.Override{FlagKey: flag.Key(c("a")), EntityID: fmt.Sprint("u", i), OwnerID: c("workspace:pay"), Changed: changed()}
		h := &flag.Hold{FlagKey: flag.Key(c("a")), Holder: c("ops"), Actor: c("anna"), OwnerID: c("workspace:pay"), Changed: changed()}
		for _, object := range []flag.Object{f, o, h} {
			was := fmt.Sprintf("%+v", object)
			texts.Share(object)
			if is := fmt.Sprintf("%+v", object); is != was {
				t.Errorf("%s became %s", was, is)
			}
		}
		return f, o, h
	}
	f1, o1, h1 := read(1)
	f2, o2, h2 := read(2)
	for i, pair := range [][2]string{
		{f1.Layer, f2.Layer},
		{f1.Owner, f2.Owner},
		{f1.OwnerID, f2.Changed.OwnerID},
		{f1.Tags[1], f2.Tags[1]},
		{f1.Changed.Actor, h2.Actor},
		{string(o1.FlagKey), string(h1.FlagKey)},
		{string(o1.FlagKey), string(o2.FlagKey)},
		{o1.OwnerID, o2.Changed.OwnerID},
		{o1.Changed.Actor, o2.Changed.Actor},
		{h1.Holder, h2.Holder},
		{h1.OwnerID, f1.OwnerID},
	} {
		if unsafe.StringData(pair[0]) != unsafe.StringData(pair[1]) {
			t.Errorf("pair %d, %q, is in memory twice", i, pair)
		}
	}
	// Names without end are not all remembered.
	for i := range 100_000 {
		texts.Share(&flag.Override{OwnerID: fmt.Sprint("object:", i)})
	}
	if _, o3, _ := read(3); unsafe.StringData(o3.OwnerID) != unsafe.StringData(o1.OwnerID) {
		t.Error("a text of before is forgotten")
	}
	late := [2]flag.Override{{OwnerID: strings.Clone("late")}, {OwnerID: strings.Clone("late")}}
	texts.Share(&late[0])
	texts.Share(&late[1])
	if unsafe.StringData(late[0].OwnerID) == unsafe.StringData(late[1].OwnerID) {
		t.Error("more is remembered than is to be")
	}
}
