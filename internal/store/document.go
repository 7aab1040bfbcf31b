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
	text, err := json.Marshal(o)
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
	var err error
	switch ref.Kind { // UnmarshalJSON, where there is one: json.Unmarshal would go through the document twice
	case flag.KindFlag:
		f := new(flag.Flag)
		o, err = f, f.UnmarshalJSON([]byte(document))
	case flag.KindOverride:
		v := new(flag.Override)
		o, err = v, v.UnmarshalJSON([]byte(document))
	case flag.KindHold:
		h := new(flag.Hold)
		o, err = h, json.Unmarshal([]byte(document), h)
	default:
		return nil, fmt.Errorf("read a stored document: kind %d is no kind of object", ref.Kind)
	}
	if err != nil {
		return nil, fmt.Errorf("read the stored %s %q: %w", ref.Kind, ref, err)
	}
	if o.Ref() != ref {
		return nil, fmt.Errorf("read the stored %s %q: its document is about %q", ref.Kind, ref, o.Ref())
	}
	return o, nil
}
