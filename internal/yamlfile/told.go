package yamlfile

import (
	"fmt"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
)

// MaxTold bounds the list of Told: what is wrong a thousand times is another kind
// of file.
const MaxTold = 30

// Told puts what is wrong with something into one text: a mistake in a line,
// several in a list.
func Told(what string, problems []string) string {
	if len(problems) == 1 {
		return problems[0]
	}
	told, more := problems, ""
	if len(problems) > MaxTold {
		told, more = problems[:MaxTold], fmt.Sprintf("\n  … and %d more", len(problems)-MaxTold)
	}
	return fmt.Sprintf("%s has %d mistakes:\n  %s%s", what, len(problems), strings.Join(told, "\n  "), more)
}

// DidYouMean suggests, as the end of a sentence, the name that is nearest to a
// mistyped one; "" where none is near.
func DidYouMean(name string, names []string) string {
	if len(name) > 2*maxShown {
		return "" // which is near to nothing, and long to compare
	}
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
