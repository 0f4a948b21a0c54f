package retail

import (
	"fmt"
	"strconv"
	"strings"
)

// Money is an exact amount in thousandths of a penny, so that five decimals of a pound are whole numbers and sums do not
// depend on their order. As text, and so in JSON, it is decimal pounds: "2.55".
type Money int64

// Pound is one pound.
const Pound Money = 100_000

// moneyDecimals is the number of decimals of a pound that a Money can hold: Pound is 10 to that power.
const moneyDecimals = 5

// ParseMoney reads decimal pounds: an optional minus sign, digits, and optionally a point with one to five digits.
func ParseMoney(text string) (Money, error) {
	digits, negative := strings.CutPrefix(text, "-")
	whole, fraction, hasPoint := strings.Cut(digits, ".")
	if !allDigits(whole) || hasPoint && (!allDigits(fraction) || len(fraction) > moneyDecimals) {
		return 0, fmt.Errorf("%q is not an amount in decimal pounds with up to %d decimals", text, moneyDecimals)
	}
	n, err := strconv.ParseInt(whole+fraction+strings.Repeat("0", moneyDecimals-len(fraction)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is too large an amount", text)
	}
	if negative {
		n = -n
	}
	return Money(n), nil
}

func allDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// String renders decimal pounds with at least two decimals.
func (m Money) String() string {
	sign, magnitude := "", uint64(m)
	if m < 0 {
		sign, magnitude = "-", -uint64(m)
	}
	pound := uint64(Pound)
	fraction := strings.TrimRight(fmt.Sprintf("%0*d", moneyDecimals, magnitude%pound), "0")
	for len(fraction) < 2 {
		fraction += "0"
	}
	return sign + strconv.FormatUint(magnitude/pound, 10) + "." + fraction
}

// MarshalText renders as String does.
func (m Money) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads as ParseMoney does.
func (m *Money) UnmarshalText(text []byte) error {
	parsed, err := ParseMoney(string(text))
	if err != nil {
		return err
	}
	*m = parsed
	return nil
}
