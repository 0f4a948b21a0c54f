package graph

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/oncemill/oncemill/internal/problem"
)

// Level says what a change of the topology means for what is stored.
type Level uint8

const (
	// LevelSafe: what is stored stays right as it is.
	LevelSafe Level = iota + 1
	// LevelMigrate: the start goes on; something begins anew beside what is stored, and the change says what.
	LevelMigrate
	// LevelRefused: the start is refused, unless the change can be accepted and was.
	LevelRefused
)

// String is the word of the level.
func (l Level) String() string {
	switch l {
	case LevelSafe:
		return "safe"
	case LevelMigrate:
		return "migrate"
	case LevelRefused:
		return "refused"
	default:
		return "unknown"
	}
}

// MarshalText renders the word of the level.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// Change is one difference between two fingerprints.
type Change struct {
	Level Level `json:"level"`
	// What is the difference: `store "totals": value format json -> avro`.
	What string `json:"what"`
	// Cure says how to keep what is stored; empty for a safe change.
	Cure string `json:"cure,omitempty"`
	// Accept is the word that accepts a refused change on purpose, such as "drop-store:totals"; empty when nothing can:
	// going on would read bytes in a format or from a place that is not theirs.
	Accept string `json:"accept,omitempty"`
}

// dropStore begins the word that accepts the removal of a store.
const dropStore = "drop-store:"

// Dropped names the stores whose removal was accepted. Their entries and their changelogs have to be deleted before the new
// fingerprint is stored: a store that comes back under the name later counts as new and empty, whatever its formats.
func Dropped(changes []Change, accepted []string) []string {
	var stores []string
	for _, c := range changes {
		if name, ok := strings.CutPrefix(c.Accept, dropStore); ok && slices.Contains(accepted, c.Accept) {
			stores = append(stores, name)
		}
	}
	return stores
}

// Refusal returns nil if a start may go on, else problem.FingerprintChanged with every refused change. accepted holds the
// Accept words that the user gave.
func Refusal(changes []Change, accepted []string) error {
	var refused []error
	for _, c := range changes {
		if c.Level != LevelRefused || c.Accept != "" && slices.Contains(accepted, c.Accept) {
			continue
		}
		text := fmt.Sprintf("%s. Cure: %s", c.What, c.Cure)
		if c.Accept != "" {
			text += fmt.Sprintf("; or accept it: Config.AcceptChanges %s", c.Accept)
		}
		refused = append(refused, errors.New(text))
	}
	if len(refused) == 0 {
		return nil
	}
	return problem.New(problem.FingerprintChanged, "topology", "%d changes do not fit what is stored", len(refused)).
		Because(errors.Join(refused...)).WithCure("see each change; or use another application name")
}
