package storetest

import (
	"iter"
	"slices"

	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
	"github.com/bunting-flags/terraform-provider-bunting/internal/store"
)

func edits(c store.Commit) iter.Seq[flag.Edit] { return slices.Values(c.Edits) }
