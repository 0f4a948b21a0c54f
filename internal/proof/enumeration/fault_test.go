package enumeration_test

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill/internal/step"
)

// moment is a place in a story: the n-th time in a phase that a process takes a step, or, with ":after" behind its name, has taken it.
// In a second fault of a case phase and process are empty: the n-th time since the fault before, of any process.
type moment struct {
	phase, process string
	step           step.Step
	n              int
}

func (m moment) String() string {
	if m.phase == "" {
		return fmt.Sprintf("+%s/%d", m.step, m.n)
	}
	return fmt.Sprintf("%s/%s/%s/%d", m.phase, m.process, m.step, m.n)
}

// kind is what happens at a moment.
type kind string

const (
	crash  kind = "crash"  // the process dies
	zombie kind = "zombie" // the process stands still, cut off, until another has its tasks; then it goes on
	lost   kind = "lost"   // the next request is lost on its way, once
	mute   kind = "mute"   // the next request is executed and its answer lost, once
	late   kind = "late"   // its answer comes when nobody waits for it
	cut    kind = "cut"    // its answer is lost, and the process cut off until another has its tasks
	refuse kind = "refuse" // the brokers answer it with an error
	unsent kind = "unsent" // requests are lost until the process resolves the outcome
	unsure kind = "unsure" // answers are lost until then
)

// fault is one fault of a case.
type fault struct {
	at    moment
	kind  kind
	lost  int    // percent of the unsynced data that a crash takes from the disk
	other bool   // another process takes over from one that has crashed; else it comes back
	api   string // of the request that is struck
	code  *kerr.Error
}

// answers reports a fault of a request or its answer.
func (f *fault) answers() bool { return f.api != "" }

func (f fault) String() string {
	switch {
	case f.kind == crash && f.other:
		return fmt.Sprintf("%s crash %d%% other", f.at, f.lost)
	case f.kind == crash:
		return fmt.Sprintf("%s crash %d%% same", f.at, f.lost)
	case f.kind == refuse:
		return fmt.Sprintf("%s refuse %s %s", f.at, f.api, f.code.Message)
	case f.answers():
		return fmt.Sprintf("%s %s %s", f.at, f.kind, f.api)
	}
	return fmt.Sprintf("%s %s", f.at, f.kind)
}

// tryOut is one run of a story with faults, in the order in which they strike.
type tryOut struct {
	story  *story
	faults []fault
	look   bool // note where a crash would lose something
}

// String is what the flag -case takes.
func (c tryOut) String() string {
	words := []string{c.story.name}
	for _, f := range c.faults {
		words = append(words, f.String())
	}
	return strings.Join(words, "; ")
}

// parseCase reads what String writes.
func parseCase(text string) (tryOut, error) {
	parts := strings.Split(text, ";")
	c := tryOut{story: storyNamed(strings.TrimSpace(parts[0]))}
	if c.story == nil {
		return c, fmt.Errorf("there is no story %q", parts[0])
	}
	for _, part := range parts[1:] {
		f, err := parseFault(strings.Fields(part))
		if err != nil {
			return c, fmt.Errorf("%q: %w", part, err)
		}
		c.faults = append(c.faults, f)
	}
	return c, nil
}

func parseFault(words []string) (f fault, err error) {
	if len(words) < 2 {
		return f, fmt.Errorf("a fault is a moment and what happens there")
	}
	if f.at, err = parseMoment(words[0]); err != nil {
		return f, err
	}
	f.kind = kind(words[1])
	switch {
	case f.kind == crash && len(words) == 4:
		f.other = words[3] == "other"
		f.lost, err = strconv.Atoi(strings.TrimSuffix(words[2], "%"))
	case f.kind == refuse && len(words) == 4:
		f.api = words[2]
		if f.code = codeNamed(words[3]); f.code == nil {
			err = fmt.Errorf("there is no error %q", words[3])
		}
	case f.kind == zombie && len(words) == 2:
	case len(words) == 3:
		f.api = words[2]
	default:
		err = fmt.Errorf("words are missing")
	}
	if _, known := keyOf(f.api); err == nil && f.api != "" && !known {
		err = fmt.Errorf("there is no API %q", f.api)
	}
	return f, err
}

func parseMoment(text string) (m moment, err error) {
	parts := strings.Split(strings.TrimPrefix(text, "+"), "/")
	n, err := strconv.Atoi(parts[len(parts)-1])
	switch {
	case err != nil:
	case strings.HasPrefix(text, "+") && len(parts) == 2:
		m = moment{step: step.Step(parts[0]), n: n}
	case len(parts) == 4:
		m = moment{phase: parts[0], process: parts[1], step: step.Step(parts[2]), n: n}
	default:
		err = fmt.Errorf("%q is no moment", text)
	}
	if _, known := step.Of(m.step); err == nil && !known {
		err = fmt.Errorf("there is no step %q", m.step)
	}
	return m, err
}

// keyOf finds an API by its name.
func keyOf(api string) (kmsg.Key, bool) {
	for k := range kmsg.MaxKey + 1 {
		if kmsg.NameForKey(int16(k)) == api {
			return kmsg.Key(k), true
		}
	}
	return 0, false
}

func codeNamed(message string) *kerr.Error {
	for code := int16(-1); code < 200; code++ {
		if e, ok := kerr.ErrorForCode(code).(*kerr.Error); ok && e.Message == message {
			return e
		}
	}
	return nil
}

// tooLate is beyond what any client of the application waits for an answer.
const tooLate = 45 * time.Second
