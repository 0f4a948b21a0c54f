package invariants

import (
	"errors"
	"testing"

	"github.com/oncemill/oncemill/internal/problem"
)

// panicked returns the error that fn panicked with, or nil.
func panicked(fn func()) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = p.(error)
		}
	}()
	fn()
	return nil
}

func TestMustPanicsWithTheCode(t *testing.T) {
	err := panicked(func() { Must(false, "I1", "memtable has %d keys", 3) })
	if !errors.Is(err, problem.New(problem.InvariantBroken, "", "")) {
		t.Fatalf("got %v", err)
	}
	if err := panicked(func() { Must(true, "I1", "") }); err != nil {
		t.Fatalf("a true condition panicked: %v", err)
	}
}

func TestCheckFollowsTheBuild(t *testing.T) {
	if err := panicked(func() { Check(false, "I1", "") }); (err != nil) != Enabled {
		t.Fatalf("enabled %v, panicked with %v", Enabled, err)
	}
}
