package cli

import (
	"github.com/spf13/pflag"

	"github.com/oncemill/oncemill/examples/retail"
	"github.com/oncemill/oncemill/topology"
)

// retailJob is the demo's job, for a cluster that has its topics.
func retailJob() Job {
	var o retail.JobOptions
	return Job{
		Name:  retail.DefaultApp,
		Short: "orders, accounts, gifts and units sold from order lines: the job of the demo",
		Flags: func(f *pflag.FlagSet) {
			f.StringVar(&o.App, "app", retail.DefaultApp, "application id: consumer group, and prefix of all topics")
			f.DurationVar(&o.Window, "window", retail.DefaultWindow, "how long message ids are remembered")
		},
		Topology: func() (*topology.Topology, error) {
			if o.Window <= 0 {
				return nil, Usage("--window %v: it must be positive", o.Window)
			}
			return retail.Job(o), nil
		},
	}
}
