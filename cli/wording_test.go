package cli

import (
	"reflect"
	"regexp"
	"testing"

	"github.com/spf13/pflag"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/internal/problem"
)

func TestErrorsSpeakOfWhatIsTyped(t *testing.T) {
	env, _, _ := testEnv(t, nil)
	for text, want := range map[string]string{
		"check Config.Brokers and the network": "check --brokers and the network",
		"OM101 Config.MemoryBudget: too small": "OM101 --memory: too small",
		"oncemill.Config.AcceptSkip":           "--accept-skip",
		"change dedup.Config.ID":               "change dedup.Config.ID", // a program's own topology has no flag for it
		"set Config.OpenEngine":                "set Config.OpenEngine",
		"create the topic: kafka-topics.sh --bootstrap-server b:1 --create --topic x --partitions N": "create the topic: oncemill topic create x --partitions N -B b:1",
	} {
		if got := env.asTyped(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
	const cure = "create it with oncemill topic create NAME, or see oncemill dev; oncemill never chooses for you"
	if got := env.asTyped(cure); got != cure {
		t.Errorf("%q", got)
	}
	env.App = &App{Name: "shop"}
	if got, want := env.asTyped(cure), "create it with shop topic create NAME, or see shop dev; oncemill never chooses for you"; got != want {
		t.Errorf("%q becomes %q, want %q", cure, got, want)
	}
	if got := withFlags("or Config.AcceptSkip."); got != "or Config.AcceptSkip (--accept-skip)." {
		t.Errorf("help says %q", got)
	}
}

// Every field in the table exists, and so does its flag; every field that an explanation names is in the table.
func TestFieldsAndFlagsExist(t *testing.T) {
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	for _, s := range allSettings() {
		s.flag(flags)
	}
	config := reflect.TypeFor[oncemill.Config]()
	for field, flag := range flagsOfFields {
		if _, ok := config.FieldByName(field); !ok {
			t.Errorf("Config has no field %s", field)
		}
		if flags.Lookup(flag[2:]) == nil {
			t.Errorf("%s: there is no flag %s", field, flag)
		}
	}
	field := regexp.MustCompile(`(?:^|[^.\w])Config\.(\w+)`)
	for _, e := range problem.All() {
		for _, m := range field.FindAllStringSubmatch(e.Text+" "+e.Cure, -1) {
			if flagsOfFields[m[1]] == "" {
				t.Errorf("%s names Config.%s, which has no flag", e.Code, m[1])
			}
		}
	}
}

func TestTheNearestNameIsOffered(t *testing.T) {
	known := []string{"ONCEMILL_BROKERS", "ONCEMILL_STATE", "ONCEMILL_LISTEN"}
	for name, want := range map[string]string{
		"ONCEMILL_BROKRES": "ONCEMILL_BROKERS", "ONCEMILL_BROKER": "ONCEMILL_BROKERS", "ONCEMILL_STAET": "ONCEMILL_STATE",
		"ONCEMILL_SERVICE_HOST": "", "X": "",
	} {
		if got := nearest(name, known); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// A setting of the library is shown with the default that the library has.
func TestEverySettingHasAValueInForce(t *testing.T) {
	for _, s := range allSettings() {
		if s.fallback == "" && !s.flagOnly {
			t.Errorf("%s: nothing is in force without it", s.key)
		}
	}
	for text, want := range map[string]int64{"256MiB": oncemill.DefaultMemoryBudget, "1MiB": oncemill.DefaultMaxRecordBytes, "1000": 1000} {
		if n, err := parseBytes(text); err != nil || n != want || printBytes(want) != text {
			t.Errorf("%s is %d (%v), and %d is %s", text, n, err, want, printBytes(want))
		}
	}
}
