package flag

// mostTexts is how many texts are remembered: the names of people, workspaces and
// layers are few. Where each is another one, there is nothing to share.
const mostTexts = 1000

// Texts lets objects that are read one after the other share the texts that they
// have in common, which otherwise are in memory once for each. The zero value is
// ready.
type Texts struct {
	key   Key // of the last object: those of one flag mostly come together
	names map[string]string
}

// Share gives an object, which nobody else knows yet, the texts of those before it.
func (t *Texts) Share(o Object) {
	switch o := o.(type) {
	case *Flag:
		t.share(&o.Changed.Actor, &o.Changed.OwnerID, &o.OwnerID, &o.Layer, &o.Owner)
		for i := range o.Tags {
			t.share(&o.Tags[i])
		}
	case *Override:
		t.shareKey(&o.FlagKey)
		t.share(&o.Changed.Actor, &o.Changed.OwnerID, &o.OwnerID)
	case *Hold:
		t.shareKey(&o.FlagKey)
		t.share(&o.Changed.Actor, &o.Changed.OwnerID, &o.OwnerID, &o.Holder, &o.Actor)
	}
}

func (t *Texts) shareKey(key *Key) {
	if *key != t.key {
		t.key = *key
	}
	*key = t.key
}

func (t *Texts) share(names ...*string) {
	if t.names == nil {
		t.names = map[string]string{}
	}
	for _, name := range names {
		if known, ok := t.names[*name]; ok {
			*name = known
		} else if len(t.names) < mostTexts {
			t.names[*name] = *name
		}
	}
}
