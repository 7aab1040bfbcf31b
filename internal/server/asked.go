package server

import (
	"context"
	"slices"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// keyAsked reads the key of a flag that is asked about. A key that breaks the
// grammar is no error: there is no such flag. An empty one is a mistake of the
// caller, who would otherwise look for it in the flags.
func keyAsked(ctx context.Context, id string) (flag.Key, error) {
	if id == "" {
		return "", invalid("flag_id is empty. Name the flag")
	}
	key := flag.Key(id)
	return key, covered(callerOf(ctx).Covers(key))
}

// keysAsked reads the keys of many flags; nil when none is named.
func keysAsked(ctx context.Context, ids []string) ([]flag.Key, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	if len(ids) > maxNames {
		return nil, invalid("flag_ids names %d flags, more than the %d that one call answers. Ask in several calls, or leave flag_ids out for all flags", len(ids), maxNames)
	}
	keys := make([]flag.Key, len(ids))
	for i, id := range ids {
		var err error
		if keys[i], err = keyAsked(ctx, id); err != nil {
			return nil, err
		}
	}
	return keys, nil
}

func sortedOnce(keys []flag.Key) []flag.Key {
	return slices.Compact(slices.Sorted(slices.Values(keys)))
}
