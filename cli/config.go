package cli

import (
	"github.com/spf13/cobra"
)

// configVerb shows the settings in force.
func configVerb(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "the settings in force, and where they come from",
		Example: examples(env,
			"config show", "every setting as it is in force",
			"config show --origin", "with the flag, variable or file that it comes from",
			"config show -o json -B localhost:9092", "as JSON, with a flag on top"),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	origin := false
	show := &cobra.Command{
		Use:   "show",
		Short: "print the settings in force",
		Long: "Print the settings in force. A flag wins over an ONCEMILL_ variable, which wins over oncemill.toml (--config, or\n" +
			"found here or in a folder above), which wins over the user's profile. Secrets are never printed.",
		Example: cmd.Example,
		Args:    cobra.NoArgs,
		RunE:    func(*cobra.Command, []string) error { return showConfig(env, origin) },
	}
	show.Flags().BoolVar(&origin, "origin", false, "also print where each setting comes from")
	cmd.AddCommand(show)
	return cmd
}

type settingRow struct {
	Key    string `json:"key"`
	Value  string `json:"value"` // in force; that of the origin "default" may be a description
	Origin string `json:"origin"`
}

func showConfig(env *Env, origin bool) error {
	l, err := env.Settings()
	if err != nil {
		return err
	}
	if _, err := l.connection(env); err != nil {
		return err
	}
	d := Document{Kind: "config", Version: 1, Header: []string{"SETTING", "VALUE"}}
	if origin {
		d.Header = append(d.Header, "ORIGIN")
	}
	rows := []settingRow{}
	for _, s := range append(allSettings(), setting{key: passwordKey, fallback: "none"}) {
		if s.flagOnly {
			continue
		}
		value, from := env.inForce(l, s)
		r := settingRow{s.key, value, from}
		rows = append(rows, r)
		d.Rows = append(d.Rows, r)
		d.Cells = append(d.Cells, []string{s.key, value, from}[:len(d.Header)])
	}
	d.Data = rows
	return env.Print(d)
}

// inForce is the value of a setting that a verb would use, and where it comes from: a layer, the program, whose single job may
// have defaults of its own, or the default of the library.
func (e *Env) inForce(l *Layered, s setting) (value, origin string) {
	value, origin = l.Lookup(s.key)
	if s.key == passwordKey && value != "" {
		return Secret(value).String(), origin
	}
	if origin != "default" {
		return value, origin
	}
	if job, ok := e.single(); ok {
		if s.field.show != nil {
			value = s.field.show(&job.Config)
		}
		if s.key == stateKey {
			value = job.Config.StateDir
		}
		if value != "" {
			return value, "program"
		}
	}
	return s.fallback, origin
}
