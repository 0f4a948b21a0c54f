package verify

import (
	"fmt"
	"testing"
)

// Causes come from headers that anybody can write.
func FuzzParsePosition(f *testing.F) {
	f.Add("orders/3@42")
	f.Add("a/b/0@-1")
	f.Fuzz(func(t *testing.T, s string) {
		topic, partition, offset, ok := parsePosition(s)
		if !ok {
			return
		}
		if a, b, c, ok := parsePosition(fmt.Sprintf("%s/%d@%d", topic, partition, offset)); !ok || a != topic || b != partition || c != offset {
			t.Fatalf("%q is read as %q, %d, %d; that is read as %q, %d, %d", s, topic, partition, offset, a, b, c)
		}
	})
}
