package configuration

import "github.com/bunting-flags/terraform-provider-bunting/internal/yamlfile"

// NearestFlag suggests, as the end of a sentence, the flag that was meant by one
// that does not exist, written without its dashes; "" where none is near.
func NearestFlag(name string) string {
	flags := make([]string, len(table))
	for i, s := range table {
		flags[i] = "--" + s.Flag()
	}
	return yamlfile.DidYouMean("--"+name, flags)
}
