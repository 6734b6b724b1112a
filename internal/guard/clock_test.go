package guard_test

import (
	"os"
	"testing"
)

// Support of Kubernetes versions is judged as of 2026-11-27.
func TestMain(m *testing.M) {
	_ = os.Setenv("SOURCE_DATE_EPOCH", "1795737600")
	os.Exit(m.Run())
}
