package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// completionVerb prints a script that completes verbs and flags in a shell.
func completionVerb(env *Env) *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use:   "completion " + strings.Join(shells, "|"),
		Short: "a script that completes verbs and flags in your shell",
		Example: examples(env,
			"completion bash > /etc/bash_completion.d/"+env.Name(), "for every bash on this machine",
			"completion zsh > \"${fpath[1]}/_"+env.Name()+"\"", "for zsh",
			"completion fish | source", "for this fish only"),
		Args:      cobra.ExactArgs(1),
		ValidArgs: shells,
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(env.Stdout, true)
			case "zsh":
				return root.GenZshCompletion(env.Stdout)
			case "fish":
				return root.GenFishCompletion(env.Stdout, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(env.Stdout)
			}
			return usageError(cmd, fmt.Errorf("%s: the shells are %s", args[0], strings.Join(shells, ", ")))
		},
	}
}
