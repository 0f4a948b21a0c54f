package judge

import (
	"encoding/hex"
	"testing"
)

// The bytes are those of package dedup's golden file, which were written by hand after the documented layout.
func TestMarkersAreReadByTheirLayout(t *testing.T) {
	const topic = 0x0c1d2e3f
	for bytes, want := range map[string]markerValue{
		"01010c1d2e3f2a":                                 {"applied", topic, 42},
		"01010c1d2e3f858080808080808040":                 {"applied", topic, 1<<62 + 5},
		"010a0c1d2e3f0001020304050607ac02":               {"rejected", topic, 300},
		"011b0c1d2e3f0001020304050607c80107":             {"dead_lettered", topic, 7},
		"01040c1d2e3f00":                                 {"skipped", topic, 0},
		"01350c1d2e3fffffffff0f09":                       {"parked", topic, 9},
		"01410c1d2e3ff6a1abfef96209":                     {"applied", topic, 9},
		"01410c1d2e3f0909":                               {"applied", topic, 9},
		"01810c1d2e3f0100":                               {"applied", topic, 1},
		"01f90c1d2e3f0001020304050607010201020567696674": {"applied", topic, 1},
	} {
		value, err := hex.DecodeString(bytes)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := takeMarker(value); !ok || got != want {
			t.Errorf("%s: %+v, %v, want %+v", bytes, got, ok, want)
		}
		for n := range len(value) {
			if n < 15 || value[1]&markerOutputs == 0 { // what is recorded of outputs is not read
				if got, ok := takeMarker(value[:n]); ok && got == want {
					t.Errorf("%s: its first %d bytes are read as the whole", bytes, n)
				}
			}
		}
	}
	for _, bytes := range []string{"", "02010c1d2e3f2a", "01000c1d2e3f2a", "01060c1d2e3f2a", "01010c1d2e3f2a00", "01810c1d2e3f01", "01110c1d2e3f05", "01010c1d2e3fff"} {
		value, err := hex.DecodeString(bytes)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := takeMarker(value); ok {
			t.Errorf("%s is read as %+v", bytes, got)
		}
	}
}

func TestTopicsAreFoldedAsInMarkers(t *testing.T) {
	if got := fold([16]byte{0: 1, 7: 2, 10: 3, 13: 4}); got != 0x01040302 {
		t.Errorf("%x", got)
	}
}
