package retail

import (
	"encoding/json"
	"math"
	"testing"
)

func TestMoneyIsExactDecimalPounds(t *testing.T) {
	for _, c := range []struct {
		text string
		want Money
		back string
	}{
		{"2.55", 255_000, "2.55"},
		{"2.5", 250_000, "2.50"},
		{"7", 700_000, "7.00"},
		{"0", 0, "0.00"},
		{"0.00001", 1, "0.00001"},
		{"0.012", 1_200, "0.012"},
		{"-11062.06", -1_106_206_000, "-11062.06"},
		{"-0.5", -50_000, "-0.50"},
		{"92233720368547.75807", math.MaxInt64, "92233720368547.75807"},
	} {
		got, err := ParseMoney(c.text)
		if err != nil || got != c.want {
			t.Errorf("ParseMoney(%q) = %d, %v, want %d", c.text, got, err, c.want)
		}
		if got.String() != c.back {
			t.Errorf("%d.String() = %q, want %q", got, got.String(), c.back)
		}
	}
	if got := Money(math.MinInt64).String(); got != "-92233720368547.75808" {
		t.Errorf("the smallest Money renders %q", got)
	}
}

func TestMoneyRefusesWhatIsNotAnExactAmount(t *testing.T) {
	for _, text := range []string{
		"", "-", ".", ".5", "5.", "1,000.00", "1e3", "+1", " 1", "1 ", "0x10", "2.555555", "--1", "-.5", "1.2.3", "NaN",
		"99999999999999999999", "92233720368547.75808", "1_0", "٣",
	} {
		if got, err := ParseMoney(text); err == nil {
			t.Errorf("ParseMoney(%q) = %d, want an error", text, got)
		}
	}
}

func TestMoneyIsTextInJSON(t *testing.T) {
	encoded, err := json.Marshal(map[string]Money{"m": -255_000})
	if err != nil || string(encoded) != `{"m":"-2.55"}` {
		t.Fatalf("Marshal = %s, %v", encoded, err)
	}
	var number Money
	if err := json.Unmarshal([]byte(`2.55`), &number); err == nil {
		t.Errorf("a JSON number, which other programs read as a float, was accepted as %d", number)
	}
}

func FuzzParseMoney(f *testing.F) {
	f.Add("2.55")
	f.Add("-0.00001")
	f.Add("92233720368547.75807")
	f.Fuzz(func(t *testing.T, text string) {
		money, err := ParseMoney(text)
		if err != nil {
			return
		}
		again, err := ParseMoney(money.String())
		if err != nil || again != money {
			t.Errorf("%q is %d, renders %q, and is %d, %v then", text, money, money.String(), again, err)
		}
	})
}
