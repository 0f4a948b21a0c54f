package cli

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/oncemill/oncemill/internal/problem"
)

// helpVerb explains error codes, and verbs.
func helpVerb(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "help [OMnnn | VERB]",
		Short: "what an error code means and what to do; or the help of a verb",
		Example: examples(env,
			"help", "verbs, and all error codes by group",
			"help OM301", "one code: why it happens, what is safe, what to do",
			"help dev", "one verb"),
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := env.checkFlags(cmd); err != nil {
				return err
			}
			if len(args) == 0 {
				return helpAll(env, cmd.Root())
			}
			code := strings.ToUpper(args[0])
			if n, err := strconv.Atoi(code); err == nil && n >= 0 {
				code = "OM" + code
			}
			if len(args) == 1 && strings.HasPrefix(code, "OM") {
				return helpCode(env, problem.Code(code))
			}
			target, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 || target == cmd.Root() {
				return unknownVerb(cmd.Root(), args[0])
			}
			return target.Help()
		},
	}
	return cmd
}

type codeRow struct {
	Code  problem.Code `json:"code"`
	Title string       `json:"title"`
	Cure  string       `json:"cure"`
	Text  string       `json:"text"`
}

func codeRows() []codeRow {
	var rows []codeRow
	for _, e := range problem.All() {
		rows = append(rows, codeRow(e))
	}
	return rows
}

func helpAll(env *Env, root *cobra.Command) error {
	d := Document{Kind: "error-codes", Version: 1, Data: codeRows(), Header: []string{"CODE", "TITLE"}}
	var b strings.Builder
	fmt.Fprintf(&b, "Verbs of %s (--help after each says more):\n\n", env.Name())
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() {
			fmt.Fprintf(&b, "  %-12s %s\n", c.Name(), c.Short)
		}
	}
	group := ""
	for _, r := range codeRows() {
		if g := problem.Group(r.Code); g != group {
			group = g
			fmt.Fprintf(&b, "\n%s:\n\n", g)
		}
		fmt.Fprintf(&b, "  %s  %s\n", r.Code, r.Title)
		d.Rows = append(d.Rows, r)
		d.Cells = append(d.Cells, []string{string(r.Code), r.Title})
	}
	fmt.Fprintf(&b, "\nExit codes:\n\n")
	for _, e := range exitCodes {
		fmt.Fprintf(&b, "  %3d  %s\n", e.code, e.means)
	}
	fmt.Fprintf(&b, "\nOne code in full: %s help OM301\n", env.Name())
	d.Text = b.String()
	return env.Print(d)
}

func helpCode(env *Env, code problem.Code) error {
	e := problem.Lookup(code)
	if e.Code == "" {
		return usageErrorf("there is no code %s%s (%s help lists them all)", code, nearCodes(code), env.Name())
	}
	return env.Print(Document{
		Kind: "error-code", Version: 1, Data: codeRow(e),
		Text:   fmt.Sprintf("%s  %s\n\n%s\n\nCure: %s\n", e.Code, e.Title, withFlags(e.Text), withFlags(e.Cure)),
		Header: []string{"CODE", "TITLE", "CURE"},
		Cells:  [][]string{{string(e.Code), e.Title, e.Cure}},
	})
}

// nearCodes names the codes of the same group.
func nearCodes(code problem.Code) string {
	if len(code) < 3 {
		return ""
	}
	var near []string
	for _, e := range problem.All() {
		if e.Code[:3] == code[:3] {
			near = append(near, string(e.Code))
		}
	}
	if len(near) == 0 {
		return ""
	}
	return fmt.Sprintf("; OM%c has %s to %s", code[2], near[0], near[len(near)-1])
}

// writeHelp prints the help of a command: examples first, because they answer most questions.
func writeHelp(cmd *cobra.Command) {
	w := cmd.OutOrStdout()
	long := cmd.Long
	if long == "" {
		long = cmd.Short
	}
	fmt.Fprintf(w, "%s\n\nUsage: %s\n\n%s\n", cmd.Example, cmd.UseLine(), long)
	var verbs []*cobra.Command
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			verbs = append(verbs, c)
		}
	}
	if len(verbs) > 0 {
		fmt.Fprintln(w, "\nVerbs:")
		for _, c := range verbs {
			fmt.Fprintf(w, "  %-12s %s\n", c.Name(), c.Short)
		}
	}
	if f := cmd.LocalNonPersistentFlags(); f.HasAvailableFlags() {
		fmt.Fprintf(w, "\nFlags:\n%s", f.FlagUsages())
	}
	if own := cmd.Annotations[formatsOf]; own != "" {
		fmt.Fprintf(w, "\nFormats of -o here: %s\n", strings.ReplaceAll(own, ",", ", "))
	}
	fmt.Fprintf(w, "\nGlobal flags:\n%s", cmd.Root().PersistentFlags().FlagUsages())
}

// commandTree is the command line for tools and agents.
type commandTree struct {
	Name     string        `json:"name"`
	Usage    string        `json:"usage"`
	Short    string        `json:"short"`
	Examples []string      `json:"examples"`
	Flags    []flagInfo    `json:"flags"`
	Verbs    []commandTree `json:"verbs,omitempty"`
}

type flagInfo struct {
	Name    string `json:"name"`
	Short   string `json:"short,omitempty"`
	Type    string `json:"type"`
	Default string `json:"default,omitempty"`
	Usage   string `json:"usage"`
}

func withoutHelpJSON(args []string) (rest []string, asked bool) {
	rest = slices.DeleteFunc(slices.Clone(args), func(a string) bool { return a == "--help-json" })
	return rest, len(rest) < len(args)
}

// helpJSON prints the tree below the verb that the arguments name.
func helpJSON(env *Env, root *cobra.Command, args []string) error {
	cmd := root
	for _, a := range args {
		if strings.HasPrefix(a, "-") {
			continue
		}
		next := slices.IndexFunc(cmd.Commands(), func(c *cobra.Command) bool { return c.Name() == a })
		if next < 0 {
			break
		}
		cmd = cmd.Commands()[next]
	}
	enc := json.NewEncoder(env.Stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(envelope{"command", 1, describe(cmd)})
}

func describe(cmd *cobra.Command) commandTree {
	t := commandTree{Name: cmd.Name(), Usage: cmd.UseLine(), Short: cmd.Short, Examples: []string{}, Flags: []flagInfo{}}
	for _, line := range strings.Split(cmd.Example, "\n") {
		if line = strings.TrimSpace(line); line != "" {
			t.Examples = append(t.Examples, line)
		}
	}
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		t.Flags = append(t.Flags, flagInfo{f.Name, f.Shorthand, f.Value.Type(), f.DefValue, f.Usage})
	})
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			t.Verbs = append(t.Verbs, describe(c))
		}
	}
	return t
}
