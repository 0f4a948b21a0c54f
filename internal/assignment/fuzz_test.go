package assignment

import (
	"bytes"
	"testing"
)

func FuzzDecodeNote(f *testing.F) {
	f.Add(Note{Basis: 0x0102030405060708, Rejoin: true}.Encode())
	f.Add(Note{Basis: 42}.Encode()[:11])
	f.Add([]byte(userDataMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		note, ours := DecodeNote(b)
		if !ours {
			return
		}
		encoded := note.Encode()
		if again, ok := DecodeNote(encoded); !ok || again != note || !bytes.HasPrefix(b, encoded[:11]) {
			t.Fatalf("%x is read as %+v", b, note)
		}
	})
}
