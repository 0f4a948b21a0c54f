package graph

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// dedupParts are what dedup.Config.Fingerprint says of a source, taken apart for a person.
var dedupParts = regexp.MustCompile(`^dedup id=(.*) scope=(".*") kind=(true|false) bucket=(\d+)ms live=(\d+)$`)

// dedupChange says in words how a deduplication differs from the one before; the fingerprints themselves if they are of a form
// that is not known here.
func dedupChange(was, is string) string {
	a, b := dedupParts.FindStringSubmatch(was), dedupParts.FindStringSubmatch(is)
	if a == nil || b == nil {
		return was + " -> " + is
	}
	var parts []string
	differs := func(what, before, now string) {
		if before != now {
			parts = append(parts, fmt.Sprintf("%s %s -> %s", what, before, now))
		}
	}
	differs("its id", a[1], b[1])
	differs("its scope", a[2], b[2])
	differs("its kind of message is part of the id:", a[3], b[3])
	differs("its window", halves(a[4]), halves(b[4]))
	differs("its ids have an issue time:", hasIssueTime(a[5]), hasIssueTime(b[5]))
	return strings.Join(parts, ", ")
}

// halves is the window of which a bucket is the half.
func halves(bucketMillis string) string {
	n, err := strconv.ParseInt(bucketMillis, 10, 64)
	if err != nil || n > int64(1<<62/time.Millisecond) {
		return "of two times " + bucketMillis + " ms"
	}
	return windowText(2 * time.Duration(n) * time.Millisecond)
}

// hasIssueTime reads the number of live buckets: ids with an issue time keep one more.
func hasIssueTime(live string) string { return strconv.FormatBool(live == "4") }

// windowText is a duration in whole days where it has some, else as it is typed: 7 days, 36h, 90s.
func windowText(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= 2*day && d%day == 0 {
		return fmt.Sprintf("%d days", d/day)
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
