package simulation

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill/internal/step"
)

// Kind is a kind of fault.
type Kind string

// The kinds of faults. For is until its end: until the process starts again, goes on, or the machine is well.
const (
	Kill         Kind = "kill"         // the process dies with Lost percent of its unsynced data, and comes back on its disk
	Wipe         Kind = "wipe"         // it comes back without its disk
	Corrupt      Kind = "corrupt"      // it comes back on a disk of which every table is damaged
	Crash        Kind = "crash"        // it dies the Nth time that it comes to Step, and comes back
	Pause        Kind = "pause"        // it stands still as with SIGSTOP, at once or the Nth time that it comes to Step
	Isolate      Kind = "isolate"      // nobody can reach it
	Join         Kind = "join"         // it starts, if it does not run
	Leave        Kind = "leave"        // it stops cleanly, and comes back
	Rolling      Kind = "rolling"      // each process stops cleanly and comes back, one after the other
	Broker       Kind = "broker"       // the broker Node ends, and comes back
	Leaders      Kind = "leaders"      // partitions get other leaders
	Coordinators Kind = "coordinators" // groups and transactional ids get other coordinators
	Trim         Kind = "trim"         // changelogs lose what only a stale store could miss
	Lose         Kind = "lose"         // a request API, or its answer, is lost, Times times or all of them; of EndTxn the answer may say Err instead
	Late         Kind = "late"         // it comes Delay later
	Refuse       Kind = "refuse"       // the brokers answer API with Err, Times times
	Full         Kind = "full"         // the disk takes nothing
	Slow         Kind = "slow"         // each write to the disk takes Delay
	Jump         Kind = "jump"         // time passes while every process stands still
	Replay       Kind = "replay"       // the dead letters so far are replayed, each Times times
)

// Kinds lists them all.
func Kinds() []Kind {
	return []Kind{Kill, Wipe, Corrupt, Crash, Pause, Isolate, Join, Leave, Rolling, Broker, Leaders, Coordinators, Trim, Lose, Late, Refuse, Full, Slow,
		Jump, Replay}
}

// Fault is one thing that goes wrong. Its text, as in "12.5s pause b step=end-txn nth=2 for=9s", can be read back.
type Fault struct {
	At      time.Duration // since the traffic began
	Kind    Kind
	Process string // empty for what concerns brokers or everybody
	For     time.Duration
	Lost    int
	Step    string
	Nth     int
	API     string
	Request bool // the request, not its answer
	Delay   time.Duration
	Err     string
	Times   int
	Node    int
}

// String renders the fault in a line.
func (f Fault) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v %s", f.At, f.Kind)
	if f.Process != "" {
		fmt.Fprintf(&b, " %s", f.Process)
	}
	word := func(key, value string, there bool) {
		if there {
			fmt.Fprintf(&b, " %s=%s", key, value)
		}
	}
	word("step", f.Step, f.Step != "")
	word("nth", strconv.Itoa(f.Nth), f.Nth != 0)
	word("api", f.API, f.API != "")
	word("of", "request", f.Request)
	word("err", f.Err, f.Err != "")
	word("times", strconv.Itoa(f.Times), f.Times != 0)
	word("delay", f.Delay.String(), f.Delay != 0)
	word("node", strconv.Itoa(f.Node), f.Kind == Broker)
	word("lost", strconv.Itoa(f.Lost), f.Lost != 0)
	word("for", f.For.String(), f.For != 0)
	return b.String()
}

// Text renders faults as ParseFaults reads them.
func Text(faults []Fault) string {
	lines := make([]string, len(faults))
	for i, f := range faults {
		lines[i] = f.String()
	}
	return strings.Join(lines, "; ")
}

// ParseFaults reads what Text renders; faults are separated by semicolons or ends of lines.
func ParseFaults(text string) (faults []Fault, err error) {
	for line := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == ';' || r == '\n' }) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		f, err := parseFault(line)
		if err != nil {
			return nil, fmt.Errorf("fault %q: %w", line, err)
		}
		faults = append(faults, f)
	}
	return faults, nil
}

func parseFault(line string) (f Fault, err error) {
	words := strings.Fields(line)
	if len(words) < 2 {
		return f, fmt.Errorf("it has no time or no kind")
	}
	if f.At, err = time.ParseDuration(words[0]); err != nil {
		return f, err
	}
	if f.Kind = Kind(words[1]); !slices.Contains(Kinds(), f.Kind) {
		return f, fmt.Errorf("there is no kind %q; there are %v", f.Kind, Kinds())
	}
	for i, w := range words[2:] {
		key, value, found := strings.Cut(w, "=")
		if !found && i == 0 {
			f.Process = w
			continue
		}
		if err := f.set(key, value); err != nil {
			return f, err
		}
	}
	return f, f.validate()
}

func (f *Fault) set(key, value string) (err error) {
	switch key {
	case "step":
		f.Step = value
	case "nth":
		f.Nth, err = strconv.Atoi(value)
	case "api":
		f.API = value
	case "of":
		f.Request = value == "request"
	case "err":
		f.Err = value
	case "times":
		f.Times, err = strconv.Atoi(value)
	case "delay":
		f.Delay, err = time.ParseDuration(value)
	case "node":
		f.Node, err = strconv.Atoi(value)
	case "lost":
		f.Lost, err = strconv.Atoi(value)
	case "for":
		f.For, err = time.ParseDuration(value)
	default:
		err = fmt.Errorf("there is no word %q", key)
	}
	return err
}

// validate demands what the kind needs.
func (f *Fault) validate() error {
	switch f.Kind {
	case Kill, Wipe, Corrupt, Isolate, Join, Leave, Full, Slow:
		return f.needsProcess()
	case Pause, Crash:
		if _, known := step.Of(step.Step(f.Step)); !known && (f.Step != "" || f.Kind == Crash) {
			return fmt.Errorf("there is no step %q", f.Step)
		}
		return f.needsProcess()
	case Lose, Late, Refuse:
		if _, known := keyOf(f.API); !known {
			return fmt.Errorf("there is no api %q", f.API)
		}
		if _, known := errorOf(f.Err); !known && (f.Kind == Refuse || f.Err != "") {
			return fmt.Errorf("there is no error %q", f.Err)
		}
		if f.Err != "" && f.Kind != Refuse && (f.Kind == Late || f.API != "EndTxn" || f.Request) {
			return fmt.Errorf("only an answer to EndTxn can say something else")
		}
	case Broker:
		if f.Node < 0 || f.Node >= brokers {
			return fmt.Errorf("there is no broker %d", f.Node)
		}
	}
	return nil
}

func (f *Fault) needsProcess() error {
	if f.Process == "" {
		return fmt.Errorf("it names no process")
	}
	return nil
}

// keyOf finds a Kafka API by its name.
func keyOf(name string) (kmsg.Key, bool) {
	for key := range int16(kmsg.MaxKey + 1) {
		if kmsg.NameForKey(key) == name {
			return kmsg.Key(key), true
		}
	}
	return 0, false
}

// errorOf finds an error of Kafka by its name.
func errorOf(name string) (*kerr.Error, bool) {
	const above = 300 // every code of Kafka
	for code := range int16(above) {
		if e, is := kerr.ErrorForCode(code).(*kerr.Error); is && e.Message == name {
			return e, true
		}
	}
	if name == kerr.UnknownServerError.Message {
		return kerr.UnknownServerError, true
	}
	return nil, false
}
