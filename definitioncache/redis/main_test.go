package redis_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/bunting-flags/terraform-provider-bunting/internal/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, redistest.Redials()) }
