package cli_test

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/cli"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/topology"
)

// ordersApp is a user's application: one job with a flag of its own, and a verb.
func ordersApp() *cli.App {
	suffix := ""
	return &cli.App{
		Name:  "orders",
		Short: "copies orders",
		Jobs: []cli.Job{{
			Name:   "orders",
			Short:  "copies orders",
			Flags:  func(f *pflag.FlagSet) { f.StringVar(&suffix, "suffix", "copy", "of the output topic") },
			Config: oncemill.Config{Workers: 2},
			Topology: func() (*topology.Topology, error) {
				if strings.Contains(suffix, " ") {
					return nil, cli.Usage("--suffix %q: without spaces", suffix)
				}
				t := topology.New("orders")
				in := topology.Source(t, "in", "orders", serde.String(), serde.String())
				topology.Sink(t, "out", in, "orders-"+suffix, serde.String(), serde.String())
				return t, nil
			},
		}},
		Verbs: []cli.Verb{holdVerb},
	}
}

// holdVerb takes the first signal, and goes on for ever.
func holdVerb(env *cli.Env) *cobra.Command {
	return &cobra.Command{Use: "hold", Short: "never ends", RunE: func(cmd *cobra.Command, _ []string) error {
		fmt.Fprintln(env.Stdout, "running")
		<-cmd.Context().Done()
		fmt.Fprintln(env.Stdout, "asked")
		select {}
	}}
}

// An application with one job gives its binary all verbs. Its main function is:
//
//	func main() { os.Exit(cli.Main(app, os.Args[1:]...)) }
func Example() {
	var to string
	app := &cli.App{
		Name:  "copy",
		Short: "copies orders",
		Jobs: []cli.Job{{
			Name:  "copy",
			Flags: func(f *pflag.FlagSet) { f.StringVar(&to, "to", "orders-copy", "output topic") },
			Topology: func() (*topology.Topology, error) {
				t := topology.New("copy")
				in := topology.Source(t, "in", "orders", serde.String(), serde.String())
				topology.Sink(t, "out", in, to, serde.String(), serde.String())
				return t, nil
			},
		}},
	}
	env := cli.System(app)
	env.Getenv = func(string) string { return "" }
	env.Stderr = os.Stdout
	cli.Run(context.Background(), env, "topology", "show", "--to", "archive", "-o", "mermaid")
	code := cli.Run(context.Background(), env, "run")
	fmt.Println("exit code", code)
	// Output:
	// flowchart LR
	//   t0(["orders"])
	//   t1(["archive"])
	//   subgraph sub0["in"]
	//     n0["in"]
	//     n1["out"]
	//   end
	//   t0 --> n0
	//   n0 --> n1
	//   n1 --> t1
	// error  no brokers: give --brokers, or set $ONCEMILL_BROKERS; copy dev starts one for development
	// help   copy run --help
	// exit code 2
}
