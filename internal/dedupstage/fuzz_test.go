package dedupstage

import (
	"strings"
	"testing"
)

// --id comes from a command line, and ends in the fingerprint of a state.
func FuzzParseID(f *testing.F) {
	for _, text := range []string{"key", "hash", "header:id", "json:a.b", "json:", "header"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		id, err := ParseID(text)
		switch {
		case err == nil && id.Name != text:
			t.Fatalf("%q is called %q", text, id.Name)
		case err != nil && !strings.Contains(err.Error(), IDForms):
			t.Fatalf("%q: %v", text, err)
		}
	})
}
