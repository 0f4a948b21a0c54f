package oncemill

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill/internal/assignment"
	"github.com/oncemill/oncemill/internal/problem"
)

// Whatever lies in the identity file of a state directory, it is read or refused with its place, and comes back as it was.
func FuzzIdentityFile(f *testing.F) {
	golden, err := os.ReadFile("internal/verify/testdata/v1/state/" + identityFile)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(golden)
	f.Add([]byte(`{"format":1000000}`))
	f.Add([]byte(`{"format":1,"app":"a","fingerprint":null}`))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(filepath.Join(dir, identityFile), b, 0o600); err != nil {
			t.Fatal(err)
		}
		d := &directory{path: dir}
		found, err := d.readIdentity()
		if err != nil {
			switch problem.CodeOf(err) {
			case problem.BadDurableBytes, problem.DirectoryNewer, problem.DirectoryForeign:
			default:
				t.Fatalf("refused with %v", err)
			}
			if !strings.Contains(err.Error(), dir) {
				t.Fatalf("no place: %v", err)
			}
			return
		}
		if !found || d.id.App == "" || d.id.Format < 1 || d.id.Format > directoryFormat {
			t.Fatalf("%q is read as %+v", b, d.id)
		}
		again := &directory{path: dir}
		if _, err := again.readIdentity(); err != nil || !reflect.DeepEqual(again.id, d.id) {
			t.Fatalf("%+v, %v; want %+v", again.id, err, d.id)
		}
	})
}

// What the leader of a group assigned is read or refused, never trusted to be whole.
func FuzzSyncAssignment(f *testing.F) {
	var a kmsg.ConsumerMemberAssignment
	a.Topics = []kmsg.ConsumerMemberAssignmentTopic{{Topic: "orders", Partitions: []int32{0, 3}}}
	a.UserData = assignment.Note{Basis: 42, Rejoin: true}.Encode()
	f.Add(a.AppendTo(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		var got balancer
		partitions, err := got.ParseSyncAssignment(b)
		if err != nil {
			if problem.CodeOf(err) != problem.GroupRefused || partitions != nil {
				t.Fatalf("%v, %v", partitions, err)
			}
			return
		}
		for topic, list := range partitions {
			if len(list) > len(b) {
				t.Fatalf("%d bytes assign %d partitions of %q", len(b), len(list), topic)
			}
		}
	})
}
