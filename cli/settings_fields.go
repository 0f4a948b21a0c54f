package cli

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/oncemill/oncemill"
)

// field is how a setting lies in the configuration of an application.
type field struct {
	// apply sets it; nil where something else does.
	apply func(c *oncemill.Config, text string) error
	// show is what it is set to; empty if the default is in force.
	show func(c *oncemill.Config) string
}

func text(at func(*oncemill.Config) *string) field {
	return field{
		func(c *oncemill.Config, v string) error { *at(c) = v; return nil },
		func(c *oncemill.Config) string { return *at(c) },
	}
}

func list(at func(*oncemill.Config) *[]string) field {
	return field{
		func(c *oncemill.Config, v string) error { *at(c) = strings.Split(v, ","); return nil },
		func(c *oncemill.Config) string { return strings.Join(*at(c), ",") },
	}
}

func number(at func(*oncemill.Config) *int) field {
	return field{
		func(c *oncemill.Config, v string) (err error) {
			if *at(c), err = strconv.Atoi(v); err != nil {
				return fmt.Errorf("%q is not a number", v)
			}
			return nil
		},
		func(c *oncemill.Config) string { return shownNumber(*at(c)) },
	}
}

func duration(at func(*oncemill.Config) *time.Duration) field {
	return field{
		func(c *oncemill.Config, v string) (err error) {
			if *at(c), err = time.ParseDuration(v); err != nil {
				return fmt.Errorf("%q is not a duration such as 100ms, 10s or 5m", v)
			}
			return nil
		},
		func(c *oncemill.Config) string {
			if *at(c) == 0 {
				return ""
			}
			return shortDuration(*at(c))
		},
	}
}

func truth(at func(*oncemill.Config) *bool) field {
	return field{
		func(c *oncemill.Config, v string) (err error) {
			if *at(c), err = strconv.ParseBool(v); err != nil {
				return fmt.Errorf("%q is not true or false", v)
			}
			return nil
		},
		func(c *oncemill.Config) string {
			if !*at(c) {
				return ""
			}
			return "true"
		},
	}
}

func size(at func(*oncemill.Config) *int64) field {
	return field{
		func(c *oncemill.Config, v string) (err error) {
			*at(c), err = parseBytes(v)
			return err
		},
		func(c *oncemill.Config) string { return shownBytes(*at(c)) },
	}
}

func shownNumber(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

// shortDuration is a duration as a person types it: 1h, not 1h0m0s.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func shownBytes(n int64) string {
	if n == 0 {
		return ""
	}
	return printBytes(n)
}

// printBytes is a size as parseBytes reads it.
func printBytes(n int64) string {
	for _, u := range []struct {
		name  string
		bytes int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n != 0 && n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10)
}

// units of sizes, the longer names first.
var units = []struct {
	name  string
	bytes int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1}, {"", 1}}

// parseBytes reads a size: 1048576, 256MiB, 2GB.
func parseBytes(v string) (int64, error) {
	for _, u := range units {
		digits, ok := strings.CutSuffix(v, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || n < 0 || n > math.MaxInt64/u.bytes {
			break
		}
		return n * u.bytes, nil
	}
	return 0, fmt.Errorf("%q is not a size such as 1048576, 64MiB or 2GB", v)
}

// startNames are the names of oncemill.StartFrom.
var startNames = []string{oncemill.StartEarliest: "earliest", oncemill.StartLatest: "latest"}

func startFrom(c *oncemill.Config, v string) error {
	at := slices.Index(startNames, v)
	if at < 0 {
		return fmt.Errorf("%q is neither earliest nor latest", v)
	}
	c.StartFrom = oncemill.StartFrom(at)
	return nil
}

func showStartFrom(c *oncemill.Config) string {
	if c.StartFrom != oncemill.StartLatest {
		return ""
	}
	return startNames[c.StartFrom]
}

func maxRecordBytes(c *oncemill.Config, v string) error {
	n, err := parseBytes(v)
	if err != nil || n > math.MaxInt32 {
		return fmt.Errorf("%q is not a size up to 2GB", v)
	}
	c.MaxRecordBytes = int(n)
	return nil
}

func replicationFactor(c *oncemill.Config, v string) error {
	n, err := strconv.ParseInt(v, 10, 16)
	if err != nil || n < 1 {
		return fmt.Errorf("%q is not a number of replicas", v)
	}
	c.ReplicationFactor = int16(n)
	return nil
}
