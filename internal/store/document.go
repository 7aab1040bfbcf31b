package store

import (
	"encoding/json"
	"fmt"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// Document gives an object as the JSON that stores keep and the audit log
// shows; "" for none.
func Document(o flag.Object) (string, error) {
	if o == nil {
		return "", nil
	}
	var text []byte
	var err error
	if m, ok := o.(json.Marshaler); ok { // json.Marshal would go through what it writes once more
		text, err = m.MarshalJSON()
	} else {
		text, err = json.Marshal(o)
	}
	if err != nil {
		return "", fmt.Errorf("write the %s %q as JSON: %w", o.Ref().Kind, o.Ref(), err)
	}
	return string(text), nil
}

// ParseDocument reads what Document wrote, kept under the ref. It asks that the
// document names what it is kept under, not that it is valid: a rule that became
// stricter must not make a store unreadable.
func ParseDocument(ref flag.Ref, document string) (flag.Object, error) {
	var o flag.Object
	switch ref.Kind {
	case flag.KindFlag:
		o = new(flag.Flag)
	case flag.KindOverride:
		o = new(flag.Override)
	case flag.KindHold:
		o = new(flag.Hold)
	default:
		return nil, fmt.Errorf("read a stored document: kind %d is no kind of object", ref.Kind)
	}
	var err error
	if u, ok := o.(json.Unmarshaler); ok { // json.Unmarshal would go through it once more
		err = u.UnmarshalJSON([]byte(document))
	} else {
		err = json.Unmarshal([]byte(document), o)
	}
	if err != nil {
		return nil, fmt.Errorf("read the stored %s %q: %w", ref.Kind, ref, err)
	}
	if o.Ref() != ref {
		return nil, fmt.Errorf("read the stored %s %q: its document is about %q", ref.Kind, ref, o.Ref())
	}
	return o, nil
}
