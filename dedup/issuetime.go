package dedup

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/oncemill/oncemill/record"
)

// IssueTime says how to know when a message's id was minted. With it the promise reaches beyond the window: a copy of an
// id whose marker may have expired is refused as TooOld, never run. The zero IssueTime means that ids are opaque.
type IssueTime struct {
	name string
	read func(r *record.Raw, id []byte) (millis int64, err error)
}

// Name is the stable name; "none" for the zero IssueTime.
func (t IssueTime) Name() string {
	if t.read == nil {
		return "none"
	}
	return t.name
}

// UUIDv7 takes the issue time from an id that is a UUID of version 7 (RFC 9562), as text of 36 characters or as 16 bytes.
func UUIDv7() IssueTime {
	return IssueTime{name: "uuidv7", read: func(_ *record.Raw, id []byte) (int64, error) { return uuidv7Millis(id) }}
}

// ULID takes the issue time from an id that is a ULID, as text of 26 characters or as 16 bytes.
func ULID() IssueTime {
	return IssueTime{name: "ulid", read: func(_ *record.Raw, id []byte) (int64, error) { return ulidMillis(id) }}
}

// IssueHeader takes the issue time from a header: RFC 3339, or milliseconds since 1970 in decimal. It holds only if the
// header is set once, when the id is minted, and kept by every resend.
func IssueHeader(name string) IssueTime {
	return IssueTime{name: "header:" + name, read: func(r *record.Raw, _ []byte) (int64, error) {
		value, _ := r.Header(name)
		if value == nil {
			return 0, fmt.Errorf("the header %q with the issue time is missing", name)
		}
		return headerMillis(value)
	}}
}

func headerMillis(value []byte) (int64, error) {
	if ms, err := strconv.ParseInt(string(value), 10, 64); err == nil {
		return clampTime(ms), nil
	}
	t, err := time.Parse(time.RFC3339Nano, string(value))
	if err != nil {
		return 0, fmt.Errorf("the issue time %.40q is neither RFC 3339 nor milliseconds since 1970", value)
	}
	return t.UnixMilli(), nil
}

var (
	errNotUUIDv7 = errors.New("the id is not a UUID of version 7")
	errNotULID   = errors.New("the id is not a ULID")
)

func uuidv7Millis(id []byte) (int64, error) {
	var raw [16]byte
	switch len(id) {
	case 16:
		copy(raw[:], id)
	case 36:
		if !parseUUID(&raw, id) {
			return 0, errNotUUIDv7
		}
	default:
		return 0, errNotUUIDv7
	}
	if raw[6]>>4 != 7 || raw[8]>>6 != 0b10 {
		return 0, errNotUUIDv7
	}
	return millis48(raw[:6]), nil
}

func parseUUID(raw *[16]byte, text []byte) bool {
	n := 0
	for i := 0; i < len(text); {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if text[i] != '-' {
				return false
			}
			i++
			continue
		}
		high, low := hexDigit(text[i]), hexDigit(text[i+1])
		if high < 0 || low < 0 {
			return false
		}
		raw[n] = byte(high<<4 | low)
		n++
		i += 2
	}
	return true
}

func hexDigit(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

func ulidMillis(id []byte) (int64, error) {
	switch len(id) {
	case 16:
		return millis48(id[:6]), nil
	case 26:
	default:
		return 0, errNotULID
	}
	// 26 digits of 5 bits are 130 bits: the first digit of a ULID is at most 7.
	if id[0] > '7' {
		return 0, errNotULID
	}
	var ms int64
	for i, c := range id {
		d := crockfordDigit(c)
		if d < 0 {
			return 0, errNotULID
		}
		if i < 10 {
			ms = ms<<5 | int64(d)
		}
	}
	return ms, nil
}

// crockfordDigit is the value of a digit of Crockford's base 32, which has no I, L, O and U; -1 for anything else.
func crockfordDigit(c byte) int {
	const digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	if c >= 'a' && c <= 'z' {
		c -= 'a' - 'A'
	}
	for i := range len(digits) {
		if digits[i] == c {
			return i
		}
	}
	return -1
}

func millis48(b []byte) int64 {
	var ms int64
	for _, c := range b[:6] {
		ms = ms<<8 | int64(c)
	}
	return ms
}
