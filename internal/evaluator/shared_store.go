package evaluator

import (
	"context"
	"fmt"
	"slices"

	"github.com/bunting-flags/terraform-provider-bunting/definitioncache"
	"github.com/bunting-flags/terraform-provider-bunting/internal/flag"
)

// ownCopies is the shared place without the copies of a store that the upstream does
// not have: proxies of another root may share in the same place, under the same
// environment's name.
type ownCopies struct {
	definitioncache.Cache

	follower *Follower
}

// Definitions gives the shared copy where it is of the store that the upstream told of
// last, or of one that says that it took the place of that; else an error.
func (o ownCopies) Definitions(ctx context.Context, known definitioncache.Revision) (*definitioncache.Copy, error) {
	found, err := o.Cache.Definitions(ctx, known)
	if err != nil || found == nil {
		return nil, err
	}
	told := o.follower.store.Load()
	if told == nil || found.Revision.Store == *told || slices.Contains(found.Supersedes, *told) {
		return found, nil
	}
	// Of a copy that is known there is only the revision.
	if served := o.follower.View(); served.Revision.StoreID == found.Revision.Store && served.TookPlaceOf(flag.Revision{StoreID: *told}) {
		return found, nil
	}
	return nil, fmt.Errorf("the shared copy is of the store %s, but the upstream %s is of the store %s: it is not served. If they are of two roots with one environment's name, give each root's proxies a definition_cache.redis_prefix, or a directory, of their own",
		found.Revision.Store, o.follower.upstream.Endpoint(), *told)
}
