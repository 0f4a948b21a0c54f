package cli_test

import (
	"bytes"
	"context"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/internal/embedded"
)

// A message, its copy, and one that the output topic does not take: it is new, but no copy of it was written.
func TestDedupLastWordsCountWhatWasWritten(t *testing.T) {
	for duplicates, want := range map[string]string{
		"drop":        "1 copied to to, 1 duplicates dropped, 1 dead letters in dedup-from-to-dead-letters",
		"dead-letter": "1 copied to to, 2 dead letters in dedup-from-to-dead-letters, 1 of them duplicates",
	} {
		t.Run(duplicates, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			broker, err := embedded.Start(embedded.Config{Topics: map[string]int{"from": 1}})
			must(t, err)
			t.Cleanup(func() { must(t, broker.Close()) })
			client, err := kgo.NewClient(kgo.SeedBrokers(broker.Addrs()...))
			must(t, err)
			defer client.Close()
			admin := kadm.NewClient(client)
			limit := "10000"
			_, err = admin.CreateTopic(ctx, 1, 1, map[string]*string{"max.message.bytes": &limit}, "to")
			must(t, err)
			record := func(id string, size int) *kgo.Record {
				return &kgo.Record{Topic: "from", Key: []byte("k"), Value: bytes.Repeat([]byte("x"), size),
					Headers: []kgo.RecordHeader{{Key: "id", Value: []byte(id)}}}
			}
			must(t, client.ProduceSync(ctx, record("a", 10), record("a", 10), record("b", 20_000)).FirstErr())
			cmd, talk := child(t, nil, nil, "dedup", "-B", broker.Addrs()[0], "--from", "from", "--to", "to", "--id", "header:id", "--duplicates", duplicates)
			for {
				offsets, err := admin.FetchOffsets(ctx, "dedup-from-to")
				if o, ok := offsets.Lookup("from", 0); err == nil && ok && o.At == 3 {
					break
				}
				select {
				case <-ctx.Done():
					t.Fatalf("it does not come to the end\n%s", talk)
				case <-time.After(10 * time.Millisecond):
				}
			}
			must(t, cmd.Process.Signal(syscall.SIGTERM))
			if err := cmd.Wait(); err != nil || !strings.Contains(talk.String(), want) {
				t.Errorf("%v: want %q in\n%s", err, want, talk)
			}
		})
	}
}
