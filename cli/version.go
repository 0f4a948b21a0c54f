package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// buildInfo is what "version" prints.
type buildInfo struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Modified bool   `json:"modified"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	// Cgo decides where the store's cache lives: in C memory with it, in Go's without.
	Cgo bool `json:"cgo"`
}

func readBuildInfo() buildInfo {
	b := buildInfo{Version: "unknown", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if info.Main.Version != "" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		case "CGO_ENABLED":
			b.Cgo = s.Value == "1"
		}
	}
	return b
}

// versionVerb prints what this binary is.
func versionVerb(env *Env) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "what this binary is",
		Example: examples(env,
			"version", "version, revision, Go and platform",
			"version -o json", "for a bug report or a script",
			"version -o table", "one line, with a header"),
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			b := readBuildInfo()
			text := fmt.Sprintf("%s %s (%s, %s, cgo %v)", env.Name(), b.Version, b.Go, b.Platform, b.Cgo)
			if b.Revision != "" {
				text += "\nrevision " + b.Revision
				if b.Modified {
					text += " with changes"
				}
			}
			return env.Print(Document{
				Kind: "version", Version: 1, Data: b, Text: text,
				Header: []string{"VERSION", "REVISION", "GO", "PLATFORM"},
				Cells:  [][]string{{b.Version, b.Revision, b.Go, b.Platform}},
			})
		},
	}
}
