package evaluator

import (
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// What an object takes on the wire beside its texts: tags, lengths, the stamp's
// numbers. A measured average; the sums are told as "about".
const (
	flagBytes     = 48
	overrideBytes = 40
	holdBytes     = 64
	valueBytes    = 6
)

// objectBytes tells about how many bytes an object takes on the wire.
func objectBytes(o flag.Object) int64 {
	switch o := o.(type) {
	case *flag.Flag:
		n := flagBytes + len(o.Key) + len(o.Layer) + len(o.Description) + len(o.Owner) + len(o.OwnerID) +
			len(o.Default.Text()) + len(o.Value.Text()) + 2*valueBytes + stampBytes(o.Changed)
		for _, v := range o.AllowedValues {
			n += valueBytes + len(v.Text())
		}
		for _, tag := range o.Tags {
			n += 2 + len(tag)
		}
		return int64(n)
	case *flag.Override:
		return int64(overrideBytes + len(o.FlagKey) + len(o.EntityID) + len(o.Value.Text()) + len(o.OwnerID) + stampBytes(o.Changed))
	case *flag.Hold:
		return int64(holdBytes + len(o.FlagKey) + len(o.Holder) + len(o.Reason) + len(o.Actor) + len(o.OwnerID) + stampBytes(o.Changed))
	}
	return 0
}

func stampBytes(s flag.Stamp) int { return len(s.Actor) + len(s.OwnerID) }

// snapshotBytes sums up the objects under the prefix.
func snapshotBytes(s *flag.Snapshot, prefix flag.Key) (sum int64) {
	for f := range s.Flags(prefix) {
		sum += objectBytes(f)
	}
	for o := range s.Overrides(prefix) {
		sum += objectBytes(o)
	}
	for h := range s.Holds(prefix) {
		sum += objectBytes(h)
	}
	return sum
}

// growth tells by how much the edits change the size of the snapshot.
func growth(before *flag.Snapshot, all []flag.Edit) (sum int64) {
	// One commit may edit an object more than once; each edit replaces the last.
	edited := make(map[flag.Ref]int64, len(all))
	for _, e := range all {
		old, again := edited[e.Ref]
		if !again {
			old = objectBytes(before.Object(e.Ref))
		}
		now := objectBytes(e.Object)
		edited[e.Ref] = now
		sum += now - old
	}
	return sum
}

// commitBytes tells about how many bytes a commit takes in memory.
func commitBytes(c Commit) (sum int64) {
	for _, e := range c.Edits {
		sum += int64(len(e.Ref.Key)+len(e.Ref.ID)) + objectBytes(e.Object)
	}
	return sum + flagBytes
}
