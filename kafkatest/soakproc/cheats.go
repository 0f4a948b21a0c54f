package soakproc

import (
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill/internal/proof"
	"github.com/oncemill/oncemill/internal/proof/soak"
	"github.com/oncemill/oncemill/internal/proof/soak/network"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/statestore/pebble"
)

// The cheats: each breaks one promise in a way that no part of the engine can see, so that only the judge can.
const (
	// Forgetful remembers the ids of messages for a moment only: copies run again.
	Forgetful = "forgetful"
	// Dirty reads what is not committed: the second stage counts moves of transactions that were aborted.
	Dirty = "dirty"
	// Breaking aborts some transactions in place of committing them, and tells the application the opposite.
	Breaking = "breaking"
	// Scribbling changes the state on disk when the process has stopped.
	Scribbling = "scribbling"
)

// Cheats are all of them.
func Cheats() []string { return slices.Sorted(maps.Keys(cheats)) }

var cheats = map[string]soak.Change{
	Forgetful:  {Options: func(o *proof.Options) { o.Window = 2 * time.Millisecond }},
	Dirty:      {Dial: edited(readUncommitted)},
	Breaking:   {Dial: edited(abortSome())},
	Scribbling: {After: scribble},
}

// edit changes requests.
type edit struct {
	key kmsg.Key
	// client is the end of the ids of the clients whose requests are changed.
	client string
	change func(kmsg.Request)
}

// readUncommitted asks for records of any fate, but not where state is restored: the engine finds that out by its counters.
var readUncommitted = edit{kmsg.Fetch, "-data", func(r kmsg.Request) { r.(*kmsg.FetchRequest).IsolationLevel = 0 }}

// breakEvery is how many commits there are to one that becomes an abort.
const breakEvery = 40

// abortSome makes some commits aborts.
func abortSome() edit {
	var n atomic.Int64
	return edit{kmsg.EndTxn, "", func(r kmsg.Request) {
		if end := r.(*kmsg.EndTxnRequest); end.Commit && n.Add(1)%breakEvery == 0 {
			end.Commit = false
		}
	}}
}

// edited makes connections whose requests are changed.
func edited(e edit) func(soak.Dial) soak.Dial {
	return func(dial soak.Dial) soak.Dial {
		return func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dial(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return &editing{conn, e}, nil
		}
	}
}

// editing is a connection whose requests are changed. The client writes one whole request at a time.
type editing struct {
	net.Conn
	edit edit
}

// Write implements net.Conn.
func (c *editing) Write(b []byte) (int, error) {
	if network.KeyOf(b) != c.edit.key.Int16() || !strings.HasSuffix(network.ClientOf(b), c.edit.client) {
		return c.Conn.Write(b)
	}
	changed, err := network.Edit(b, c.edit.change)
	if err == nil {
		_, err = c.Conn.Write(changed)
	}
	if err != nil {
		return 0, err
	}
	return len(b), nil
}

// scribble changes the first account of each task on disk.
func scribble(app, dir string) (err error) {
	plan, err := proof.NewJob(proof.Options{App: app}).Topology.Build()
	if err != nil {
		return err
	}
	engine, err := pebble.Open(pebble.Config{Dir: dir + "/pebble"})
	if err != nil {
		return err
	}
	db, err := statestore.Open(statestore.Config{Engine: engine})
	if err != nil {
		return errors.Join(err, engine.Close())
	}
	defer func() { err = errors.Join(err, db.Close(context.Background())) }()
	ids, err := db.TaskIDs()
	if err != nil {
		return err
	}
	for _, sub := range plan.Subs {
		for _, id := range ids {
			if id.SubTopology != sub.Name {
				continue
			}
			task, err := db.Acquire(id, sub.Declarations())
			if err != nil {
				return err
			}
			err = scribbleOn(task, sub.Declarations())
			task.Release()
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// scribbleOn changes one entry of the key-value store of a task.
func scribbleOn(task *statestore.Task, stores []*statestore.Declaration) error {
	for _, d := range stores {
		if d.Kind != statestore.KindKeyValue {
			continue
		}
		v := task.View(d)
		it := v.Iterate(nil, nil, false)
		found := it.Next()
		key := slices.Clone(it.Key())
		err := it.Err()
		it.Close()
		if err != nil || !found {
			return err
		}
		if err := v.Put(key, []byte(`{"seq":4711}`)); err != nil {
			return err
		}
	}
	at, _ := task.Position()
	at.N++
	task.Apply(at)
	return nil
}
