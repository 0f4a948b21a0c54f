package crashfs_test

import (
	"testing"

	"github.com/oncemill/oncemill/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }
