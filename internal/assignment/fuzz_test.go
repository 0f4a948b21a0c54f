package assignment

import (
	"bytes"
	"testing"
)

func FuzzDecodeBasis(f *testing.F) {
	f.Add(Basis(0x0102030405060708).Encode())
	f.Add([]byte(userDataMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		basis, ours := DecodeBasis(b)
		if again := basis.Encode(); ours && !bytes.HasPrefix(b, again) {
			t.Fatalf("%x is read as %x", b, again)
		}
	})
}
