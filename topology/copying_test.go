package topology

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/oncemill/oncemill/serde"
)

// What a source decodes is what the serde decodes, belongs to nobody else, and stays.
func TestSourcesDecodeAsTheirSerdesDo(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	text, raw := decoderOf(serde.String()), decoderOf(serde.Bytes())
	type kept struct {
		in    []byte
		text  string
		bytes []byte
	}
	var all []kept
	input := make([]byte, 3*copyChunk)
	for range 2000 {
		in := input[:random.IntN(200)]
		if random.IntN(50) == 0 {
			in = input[:random.IntN(len(input))]
		}
		for i := range in {
			in[i] = byte('a' + random.IntN(26))
		}
		s, err := text(in)
		b, err2 := raw(in)
		if err != nil || err2 != nil || b == nil || cap(b) != len(b) {
			t.Fatalf("%q: %v, %v, capacity %d", in, err, err2, cap(b))
		}
		all = append(all, kept{bytes.Clone(in), s, b})
	}
	for _, k := range all {
		if k.text != string(k.in) || !bytes.Equal(k.bytes, k.in) {
			t.Fatalf("%q was kept as %q and %q", k.in, k.text, k.bytes)
		}
	}
	for _, bad := range [][]byte{nil, {0xff}} {
		_, want := serde.String().Decode(bad)
		if _, err := text(bad); err == nil || err.Error() != want.Error() {
			t.Errorf("%x: %v, want %v", bad, err, want)
		}
	}
	if b, err := raw(nil); b != nil || err != nil {
		t.Errorf("null became %v, %v", b, err)
	}
	if n, err := decoderOf(serde.Int64())([]byte{0, 0, 0, 0, 0, 0, 0, 7}); n != 7 || err != nil {
		t.Errorf("another serde: %d, %v", n, err)
	}
}
