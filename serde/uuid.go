package serde

import (
	"encoding/hex"
	"fmt"

	"github.com/google/uuid"
)

// uuidLength is that of the text form, 8-4-4-4-12 hexadecimal digits.
const uuidLength = 36

// UUID is the 36 characters of the canonical text form in lower case, as Java's UUIDSerializer writes them; not 16 bytes.
// Upper-case digits are read too. The shortened forms that Java reads, such as "1-2-3-4-5", are refused.
func UUID() Serde[uuid.UUID] { return uuidSerde{} }

type uuidSerde struct{}

func (uuidSerde) Name() string { return "uuid" }

func (uuidSerde) Encode(dst []byte, v uuid.UUID) ([]byte, error) {
	dst = hex.AppendEncode(dst, v[:4])
	for _, group := range [...][]byte{v[4:6], v[6:8], v[8:10], v[10:]} {
		dst = append(dst, '-')
		dst = hex.AppendEncode(dst, group)
	}
	return dst, nil
}

func (uuidSerde) Decode(b []byte) (uuid.UUID, error) {
	if err := exactly(b, uuidLength, "uuid"); err != nil {
		return uuid.UUID{}, err
	}
	v, err := uuid.ParseBytes(b)
	if err != nil {
		return uuid.UUID{}, fmt.Errorf("serde uuid: %w", err)
	}
	return v, nil
}
