package soak

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
)

// marker is the key of a marker.
func marker(bucket uint64, hash string) string {
	return string(binary.BigEndian.AppendUint64(nil, bucket)) + hash
}

func entries(keys ...string) map[string][]byte {
	m := map[string][]byte{}
	for _, k := range keys {
		m[k] = []byte("v")
	}
	return m
}

// TestADiskThatDiffersFromItsChangelogIsFound plants one difference of each kind.
func TestADiskThatDiffersFromItsChangelogIsFound(t *testing.T) {
	other := entries("a", "b")
	other["b"] = []byte("w")
	for _, test := range []struct {
		name, store string
		log, disk   map[string][]byte
		want        string
	}{
		{"equal", "accounts", entries("a", "b"), entries("a", "b"), ""},
		{"both empty", "accounts", nil, entries(), ""},
		{"missing on disk", "accounts", entries("a", "b"), entries("a"), `key "b" of the changelog is not in dir`},
		{"more on disk", "accounts", entries("a"), entries("a", "b"), `key "b" in dir is not in the changelog`},
		{"another value", "accounts", entries("a", "b"), other, `key "b" is "v" in the changelog, "w" in dir`},
		{"expired markers", "commands-markers", entries(marker(6, "x"), marker(7, "x"), marker(9, "x")), entries(marker(9, "x")), ""},
		{"the oldest bucket lives", "commands-markers", entries(marker(7, "x"), marker(8, "x"), marker(9, "x")),
			entries(marker(7, "x"), marker(8, "x"), marker(9, "x")), ""},
		{"a part of the oldest bucket", "commands-markers", entries(marker(7, "x"), marker(7, "y"), marker(9, "x")),
			entries(marker(7, "x"), marker(9, "x")), "of the changelog is not in dir"},
		{"a live marker is missing", "commands-markers", entries(marker(8, "x"), marker(9, "x")), entries(marker(9, "x")), "of the changelog is not in dir"},
		{"an expired marker on disk", "commands-markers", entries(marker(6, "x"), marker(9, "x")), entries(marker(6, "x"), marker(9, "x")),
			"in dir is not in the changelog"},
	} {
		at := cell{test.store, 3}
		var found []string
		changelogs{at: test.log}.compare(at, test.disk, "dir", func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) })
		switch {
		case test.want == "" && len(found) > 0:
			t.Errorf("%s: found %q", test.name, found)
		case test.want != "" && (len(found) != 1 || !strings.Contains(found[0], test.want)):
			t.Errorf("%s: found %q, want %q", test.name, found, test.want)
		}
	}
}
