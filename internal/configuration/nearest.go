package configuration

import (
	"fmt"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
)

// didYouMean suggests the name that is nearest to a mistyped one; "" where none
// is near.
func didYouMean(name string, names []string) string {
	// A third of the letters wrong, or two of a short name, is still a slip.
	best, least := "", max(2, len(name)/3)+1
	for _, n := range slices.Sorted(slices.Values(names)) {
		if d := levenshtein.Distance(strings.ToLower(name), strings.ToLower(n), nil); d < least {
			best, least = n, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(". Did you mean %s?", best)
}

// NearestFlag suggests, as the end of a sentence, the flag that was meant by one
// that does not exist, written without its dashes; "" where none is near.
func NearestFlag(name string) string {
	flags := make([]string, len(table))
	for i, s := range table {
		flags[i] = "--" + s.Flag()
	}
	return didYouMean("--"+name, flags)
}
