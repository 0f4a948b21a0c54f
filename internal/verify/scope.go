package verify

import (
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"time"

	"github.com/oncemill/oncemill/statestore"
)

// Sample chooses Take of Of ids and keys by their hashes, so that all records of one are in or out together, in each run. The
// zero value chooses all.
type Sample struct{ Take, Of uint64 }

// ParseSample reads "1/100", "5%" or "0.1%".
func ParseSample(s string) (Sample, error) {
	bad := fmt.Errorf("%q is no fraction such as 1/100 or 5%%, above 0 and at most 1", s)
	var f Sample
	if percent, ok := strings.CutSuffix(s, "%"); ok {
		v, err := strconv.ParseFloat(percent, 64)
		const ofPercent = 1_000_000
		if f = (Sample{uint64(max(v, 0)*ofPercent/100 + 0.5), ofPercent}); err != nil || !(v >= 0 && v <= 100) {
			return Sample{}, bad
		}
	} else {
		take, of, _ := strings.Cut(s, "/")
		var err1, err2 error
		f.Take, err1 = strconv.ParseUint(take, 10, 32)
		f.Of, err2 = strconv.ParseUint(of, 10, 32)
		if err1 != nil || err2 != nil {
			return Sample{}, bad
		}
	}
	if f.Take == 0 || f.Take > f.Of {
		return Sample{}, bad
	}
	return f, nil
}

// String renders the fraction; empty for all.
func (s Sample) String() string {
	if s.Take == s.Of {
		return ""
	}
	return fmt.Sprintf("%d/%d", s.Take, s.Of)
}

// Has reports whether an id or a key is chosen.
func (s Sample) Has(id []byte) bool {
	if s.Take == s.Of {
		return true
	}
	h := fnv.New64a()
	h.Write(id)
	// The low bits of FNV depend on few bits of the input: they are mixed once more.
	x := h.Sum64()
	x = (x ^ x>>33) * 0xff51afd7ed558ccd
	return (x^x>>33)%s.Of < s.Take
}

// hasKey reports whether a key of a store is compared. Markers are chosen by the hash of their id, in whichever bucket they lie;
// the engine's other stores are small, and always compared as a whole.
func (s Sample) hasKey(kind statestore.Kind, key []byte) bool {
	const bucket = 8
	switch {
	case kind == statestore.KindMarkers && len(key) > bucket:
		return s.Has(key[bucket:])
	case kind == statestore.KindKeyValue:
		return s.Has(key)
	}
	return true
}

// beforeSince is why something older is not judged.
const beforeSince = "older than --since"

// old reports whether a record is context: older than what is judged.
func (r *run) old(at time.Time) bool { return !r.Since.IsZero() && at.Before(r.Since) }
