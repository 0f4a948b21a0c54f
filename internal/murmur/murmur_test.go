package murmur

import "testing"

// The vectors are those of Kafka's own test (UtilsTest.testMurmur2).
func TestSumEqualsJava(t *testing.T) {
	for key, want := range map[string]int32{
		"21":                         -973932308,
		"foobar":                     -790332482,
		"a-little-bit-long-string":   -985981536,
		"a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
		"abc": 479470107,
	} {
		if got := int32(Sum([]byte(key))); got != want {
			t.Errorf("murmur2(%q) = %d, Java says %d", key, got, want)
		}
	}
}

func TestPartitionIsNeverNegative(t *testing.T) {
	for _, key := range []string{"21", "foobar", "", "abc"} {
		if p := Partition([]byte(key), 7); p < 0 || p > 6 {
			t.Errorf("partition of %q is %d", key, p)
		}
	}
}
