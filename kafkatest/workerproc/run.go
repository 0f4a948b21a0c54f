package workerproc

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"

	"github.com/oncemill/oncemill"
)

// Run is the child's side: it runs the Spec that it is given as JSON until ctx ends, and writes the Log to out.
func Run(ctx context.Context, encoded string, out io.Writer) error {
	log := slog.New(slog.NewJSONHandler(out, nil))
	err := run(ctx, encoded, log)
	log.Info(Ended, "err", text(err))
	return err
}

func run(ctx context.Context, encoded string, log *slog.Logger) error {
	var spec Spec
	if err := json.Unmarshal([]byte(encoded), &spec); err != nil {
		return err
	}
	app, err := oncemill.New(spec.Config(log))
	if err != nil {
		return err
	}
	return app.Run(ctx)
}
