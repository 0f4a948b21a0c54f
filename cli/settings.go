package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"

	"github.com/oncemill/oncemill/internal/problem"
)

// Connection is how to reach a Kafka cluster. Its String and its JSON never hold the password.
type Connection struct {
	Brokers []string
	TLS     TLS
	SASL    SASL
}

// TLS says how the connection is encrypted. Enabled alone trusts the system's authorities.
type TLS struct {
	Enabled bool
	// CA, Cert and Key are PEM files: the authority to trust, and a client certificate with its key.
	CA, Cert, Key string
}

// SASL says how the client proves who it is. Mechanism is PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; empty: not at all.
type SASL struct {
	Mechanism string
	User      string
	Password  Secret
}

// Secret is a text that does not print.
type Secret string

// String implements fmt.Stringer.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "(set)"
}

// GoString implements fmt.GoStringer.
func (s Secret) GoString() string { return s.String() }

// MarshalText implements encoding.TextMarshaler, which JSON, TOML and slog use.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// setting is one name in all layers.
type setting struct {
	key   string // in files; with dots as underscores and upper case, the name in the environment
	name  string // of the flag; empty: no flag, because it is a secret
	short string
	usage string
	// fallback is what holds when no layer has it, in words where it is no single value.
	fallback string
	list     bool
	truth    bool
	// flagOnly settings are not read from the environment or a file.
	flagOnly bool
	field
}

var settings = []setting{
	{key: "brokers", name: "brokers", short: "B", list: true, fallback: "none", usage: "Kafka brokers, host:port, comma-separated"},
	{key: "tls.enabled", name: "tls", truth: true, fallback: "false", usage: "connect with TLS; implied by the other tls flags"},
	{key: "tls.ca", name: "tls-ca", usage: "PEM file of the authority that signed the brokers' certificates", fallback: "the system's authorities"},
	{key: "tls.cert", name: "tls-cert", usage: "PEM file of the client certificate", fallback: "none"},
	{key: "tls.key", name: "tls-key", usage: "PEM file of the client certificate's key", fallback: "none"},
	{key: "sasl.mechanism", name: "sasl-mechanism", usage: "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512", fallback: "none"},
	{key: "sasl.user", name: "sasl-user", usage: "SASL user", fallback: "none"},
	{key: "sasl.password_file", name: "sasl-password-file", usage: "file with the SASL password (or $ONCEMILL_SASL_PASSWORD)", fallback: "none"},
}

// allSettings are those of connections and of applications.
func allSettings() []setting { return slices.Concat(settings, appSettings) }

// passwordKey has no flag, and no place in a file that is meant to be shared.
const passwordKey = "sasl.password"

func (s setting) flag(f *pflag.FlagSet) {
	usage := s.usage
	if s.fallback != "" && s.fallback != "none" && !s.truth {
		usage += " (default " + s.fallback + ")"
	}
	switch {
	case s.list:
		f.StringSliceP(s.name, s.short, nil, usage)
	case s.truth:
		f.BoolP(s.name, s.short, false, usage)
	default:
		f.StringP(s.name, s.short, "", usage)
	}
}

func envName(key string) string {
	return variablePrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// layer is one source of settings. One koanf instance each, so that the origin of a value is known.
type layer struct {
	origin string
	values *koanf.Koanf
}

// source is a koanf provider of values that are already parsed.
type source map[string]any

// ReadBytes implements koanf.Provider; it is not used without a parser.
func (source) ReadBytes() ([]byte, error) { return nil, errors.ErrUnsupported }

// Read implements koanf.Provider.
func (s source) Read() (map[string]any, error) { return s, nil }

func newLayer(origin string, values map[string]any) (layer, error) {
	k := koanf.New(".")
	return layer{origin, k}, k.Load(source(values), nil)
}

// Layered are the settings of all layers, the strongest first: flag, environment, file, user profile.
type Layered struct{ layers []layer }

// Settings reads all layers.
func (e *Env) Settings() (*Layered, error) {
	var l Layered
	add := func(origin string, values map[string]any) error {
		next, err := newLayer(origin, values)
		l.layers = append(l.layers, next)
		return err
	}
	if err := errors.Join(add("flag", e.fromFlags()), add("environment", e.fromEnvironment())); err != nil {
		return nil, err
	}
	files, err := e.configFiles()
	if err != nil {
		return nil, err
	}
	for _, path := range files {
		values, err := readConfig(path)
		if err != nil {
			return nil, err
		}
		if err := add(path, values); err != nil {
			return nil, err
		}
	}
	return &l, nil
}

func (e *Env) fromFlags() map[string]any {
	values := map[string]any{}
	for _, s := range allSettings() {
		f := e.flags.Lookup(s.name)
		if f == nil || !f.Changed {
			continue
		}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			put(values, s.key, list.GetSlice())
			continue
		}
		put(values, s.key, f.Value.String())
	}
	return values
}

// variablePrefix begins the name of every variable of ours.
const variablePrefix = "ONCEMILL_"

// warnOfVariables warns once of variables that look like settings and are none. They are no error, as an unknown key in a
// file is: an orchestrator adds variables of its own (a service named oncemill has ONCEMILL_SERVICE_HOST).
func (e *Env) warnOfVariables() {
	if e.Environ == nil || e.warned {
		return
	}
	e.warned = true
	known := []string{envName(passwordKey), configVariable}
	for _, s := range allSettings() {
		if !s.flagOnly {
			known = append(known, envName(s.key))
		}
	}
	names := e.Environ()
	slices.Sort(names)
	for _, variable := range names {
		name, _, _ := strings.Cut(variable, "=")
		if !strings.HasPrefix(name, variablePrefix) || slices.Contains(known, name) {
			continue
		}
		hint := ""
		if near := nearest(name, known); near != "" {
			hint = "; did you mean " + near + "?"
		}
		e.Talk("warning: the variable %s is no setting, and is ignored%s", name, hint)
	}
}

func (e *Env) fromEnvironment() map[string]any {
	e.warnOfVariables()
	values := map[string]any{}
	for _, s := range append(allSettings(), setting{key: passwordKey}) {
		v := e.Getenv(envName(s.key))
		switch {
		case v == "" || s.flagOnly:
		case s.list:
			put(values, s.key, strings.Split(v, ","))
		default:
			put(values, s.key, v)
		}
	}
	return values
}

// put sets a dotted key in nested maps.
func put(values map[string]any, key string, v any) {
	for {
		head, rest, nested := strings.Cut(key, ".")
		if !nested {
			values[head] = v
			return
		}
		inner, ok := values[head].(map[string]any)
		if !ok {
			inner = map[string]any{}
			values[head] = inner
		}
		values, key = inner, rest
	}
}

// configFiles are the files that exist, the strongest first: the one named by --config or ONCEMILL_CONFIG, else the nearest
// oncemill.toml upward; then the user's profile.
func (e *Env) configFiles() ([]string, error) {
	var files []string
	named := e.configFile
	if named == "" {
		named = e.Getenv(configVariable)
	}
	if named != "" {
		files = append(files, e.path(named))
	} else if found := e.findUpward("oncemill.toml"); found != "" {
		files = append(files, found)
	}
	if profile := e.profile(); profile != "" && !slices.Contains(files, profile) {
		if _, err := os.Stat(profile); err == nil {
			files = append(files, profile)
		} else if !errors.Is(err, os.ErrNotExist) {
			return nil, problem.Wrap(problem.ConfigInvalid, profile, err)
		}
	}
	return files, nil
}

func (e *Env) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(e.Dir, name)
}

func (e *Env) findUpward(name string) string {
	for dir := e.Dir; ; dir = filepath.Dir(dir) {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path
		}
		if dir == filepath.Dir(dir) {
			return ""
		}
	}
}

// profile is the user's own file: $XDG_CONFIG_HOME/oncemill/config.toml, by default under ~/.config.
func (e *Env) profile() string {
	dir := e.Getenv("XDG_CONFIG_HOME")
	if dir == "" {
		home := e.Getenv("HOME")
		if home == "" {
			return ""
		}
		dir = filepath.Join(home, ".config")
	}
	return filepath.Join(dir, "oncemill", "config.toml")
}

func readConfig(path string) (map[string]any, error) {
	values := map[string]any{}
	if _, err := toml.DecodeFile(path, &values); err != nil {
		cure := "mend the file, or name another with --config"
		if errors.As(err, new(toml.ParseError)) {
			cure = `mend the file: text stands in quotes, as in brokers = ["host:9092"] and state = "DIR"; or name another with --config`
		}
		return nil, problem.Wrap(problem.ConfigInvalid, path, err).WithCure("%s", cure)
	}
	k, err := newLayer(path, values)
	if err != nil {
		return nil, err
	}
	var unknown []error
	for _, key := range k.values.Keys() {
		switch {
		case key == passwordKey:
			unknown = append(unknown, fmt.Errorf("%s: a password does not belong in this file (cure: sasl.password_file, or $%s)",
				key, envName(key)))
		case slices.ContainsFunc(allSettings(), func(s setting) bool { return s.key == key && s.flagOnly }):
			unknown = append(unknown, fmt.Errorf("%s: accepted on purpose means for one start (cure: a flag)", key))
		case !slices.ContainsFunc(allSettings(), func(s setting) bool { return s.key == key }):
			unknown = append(unknown, fmt.Errorf("%s: there is no such setting%s", key, nearSetting(key)))
		}
	}
	if len(unknown) > 0 {
		return nil, problem.Wrap(problem.ConfigInvalid, path, errors.Join(unknown...))
	}
	return values, nil
}

// configVariable names a configuration file, as --config does.
const configVariable = variablePrefix + "CONFIG"

// nearSetting suggests a setting for a key that is none: misspelt, or below a table that has no such key.
func nearSetting(key string) string {
	var known []string
	for _, s := range allSettings() {
		known = append(known, s.key)
	}
	near, place := nearest(key, known), ""
	if at := strings.LastIndex(key, "."); near == "" && at >= 0 {
		if near = nearest(key[at+1:], known); !strings.Contains(near, ".") {
			place = ", above all tables"
		}
	}
	if near == "" {
		return ""
	}
	return " (did you mean " + near + place + "?)"
}

// Lookup returns a setting as text, and the layer that it comes from; "default" if no layer has it.
func (l *Layered) Lookup(key string) (value, origin string) {
	for _, layer := range l.layers {
		if !layer.values.Exists(key) {
			continue
		}
		switch v := layer.values.Get(key).(type) {
		case []string:
			return strings.Join(v, ","), layer.origin
		case []any:
			parts := make([]string, len(v))
			for i, p := range v {
				parts[i] = fmt.Sprint(p)
			}
			return strings.Join(parts, ","), layer.origin
		default:
			return fmt.Sprint(v), layer.origin
		}
	}
	return "", "default"
}
