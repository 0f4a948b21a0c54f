package graph

import "fmt"

// stores compares stores by name over all sub-topologies, so that one that moved is not taken for a removal. The timers,
// parked records and checkpoint records of a sub-topology follow from it: their stores come and go with a cause that is
// reported, except that a removal may leave something behind.
func (d *diff) stores() {
	for i := range d.old.Subs {
		was := &d.old.Subs[i]
		for j := range was.Stores {
			d.store(was, &was.Stores[j])
		}
	}
	for i := range d.now.Subs {
		is := &d.now.Subs[i]
		for _, st := range is.Stores {
			if !st.Internal && d.old.owner(st.Name) == nil {
				d.safe("store %q is new in sub-topology %q", st.Name, is.Name)
			}
		}
	}
}

func (d *diff) store(sub *SubFingerprint, was *StoreFingerprint) {
	owner := d.now.owner(was.Name)
	if owner == nil {
		d.storeRemoved(sub, was)
		return
	}
	if !d.same(sub, owner) {
		d.refuse("", "undo the change that joined or split the sub-topologies: a node that uses the store decides where it belongs",
			"store %q moved from sub-topology %q to %q, whose tasks hold other keys", was.Name, sub.Name, owner.Name)
	}
	is := owner.store(was.Name)
	cure := fmt.Sprintf("give the new one another name and fill it from the input, or undo the change; what is stored under %q cannot be read otherwise", was.Name)
	if was.Kind != is.Kind {
		d.refuse("", cure, "store %q: kind %s -> %s", was.Name, was.Kind, is.Kind)
	}
	if was.KeyFormat != is.KeyFormat {
		d.refuse("", cure, "store %q: key format %s -> %s", was.Name, was.KeyFormat, is.KeyFormat)
	}
	if was.ValueFormat != is.ValueFormat {
		d.refuse("", cure, "store %q: value format %s -> %s", was.Name, was.ValueFormat, is.ValueFormat)
	}
}

// storeRemoved handles a store that no sub-topology has any more. The task and timer stores hold nothing that a removal of
// their cause, reported elsewhere, does not already give up.
func (d *diff) storeRemoved(sub *SubFingerprint, was *StoreFingerprint) {
	switch was.Kind {
	case "task", "timers":
		return
	case "parked":
		if d.now.Sub(sub.Name) == nil && d.renamed(sub) != nil {
			return // the renaming is refused already
		}
		d.refuse(dropStore+was.Name, "keep a policy that parks records until those that wait are done",
			"sub-topology %q parks no records any more, but some may wait in store %q", sub.Name, was.Name)
		return
	}
	cure := fmt.Sprintf("declare store %q again", was.Name)
	if to := d.renamedTo(was); to != "" {
		cure = fmt.Sprintf("if %q is the same store, keep the name %q", to, was.Name)
	}
	if was.Kind == "markers" {
		cure = "deduplicate the source again under its old name"
	}
	d.refuse(dropStore+was.Name, cure, "store %q (%s) of sub-topology %q is gone", was.Name, was.Kind, sub.Name)
}

// renamedTo guesses the new name of a missing store: the only new one with its kind and formats.
func (d *diff) renamedTo(was *StoreFingerprint) string {
	guess := ""
	for i := range d.now.Subs {
		for _, st := range d.now.Subs[i].Stores {
			if d.old.owner(st.Name) != nil || st.Kind != was.Kind || st.KeyFormat != was.KeyFormat || st.ValueFormat != was.ValueFormat {
				continue
			}
			if guess != "" {
				return ""
			}
			guess = st.Name
		}
	}
	return guess
}

// owner finds the sub-topology that has a store, or returns nil.
func (f *Fingerprint) owner(store string) *SubFingerprint {
	for i := range f.Subs {
		if f.Subs[i].store(store) != nil {
			return &f.Subs[i]
		}
	}
	return nil
}
