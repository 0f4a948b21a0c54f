/* The local state of the task in each process: overlay, active and frozen generation of the committed delta, engine. Reads go from the
 * newest layer to the oldest. Memory is lost with the process, the engine with the disk. */

typedef Layer {
	unsigned k0 : 3;
	unsigned k1 : 2;
	unsigned t : 2;
	unsigned m : 2;
	bit has;          /* it has a position: */
	unsigned n : 3;   /* counter */
	unsigned pos : 2; /* in the input */
	unsigned next : 4 /* in the changelogs */
}
Layer overlay[2]; /* pos is how far the open transaction has come; the rest of the position is not used */
Layer delta[2];
Layer frozen[2];
Layer engine[2];
#ifdef LATE_INGEST
Layer stray[2]; /* a frozen generation that the writer still holds, although it was dropped or forgotten */
#endif
#ifdef CHECKPOINT_APART
bit half[2]; /* the position of the frozen generation is written, its data is not */
#endif

#define VIEW_K0(w) (overlay[w].k0 -> overlay[w].k0 : (delta[w].k0 -> delta[w].k0 : (frozen[w].k0 -> frozen[w].k0 : engine[w].k0)))
#define VIEW_K1(w) (overlay[w].k1 -> overlay[w].k1 : (delta[w].k1 -> delta[w].k1 : (frozen[w].k1 -> frozen[w].k1 : engine[w].k1)))
#define VIEW_T(w)  (overlay[w].t -> overlay[w].t : (delta[w].t -> delta[w].t : (frozen[w].t -> frozen[w].t : engine[w].t)))
#define VIEW_M(w)  (work[w].pos == 3 -> 0 : (overlay[w].m | delta[w].m | frozen[w].m | engine[w].m)) /* position 3 has evicted both buckets */

#define NO_DATA(l) l.k0 = 0; l.k1 = 0; l.t = 0; l.m = 0
#define NO_LAYER(l) NO_DATA(l); l.has = 0; l.n = 0; l.pos = 0; l.next = 0
#define PUT(to, from) to.k0 = (from.k0 -> from.k0 : to.k0); to.k1 = (from.k1 -> from.k1 : to.k1); to.t = (from.t -> from.t : to.t); to.m = to.m | from.m
#define PLACE(to, from) to.has = 1; to.n = from.n; to.pos = from.pos; to.next = from.next
#define COPY(to, from) to.k0 = from.k0; to.k1 = from.k1; to.t = from.t; to.m = from.m; to.has = from.has; to.n = from.n; to.pos = from.pos; to.next = from.next

/* freeze makes the active generation the frozen one; there must be none. */
inline freeze(w) {
	COPY(frozen[w], delta[w]);
	NO_LAYER(delta[w])
}

/* settle is what happens to what a task leaves behind that nobody owns: the store writes it by itself. */
inline settle(w) {
	if
	:: delta[w].has && !frozen[w].has -> freeze(w)
	:: else
	fi
}

/* ingest writes the frozen generation into the engine with its position, in one step: sstables and the manifest that names them. The
 * renewal of the readers and letting the generation go follow at once, since a read gives the same before and after. */
inline ingest(w) {
	PUT(engine[w], frozen[w]);
	PLACE(engine[w], frozen[w]);
	NO_LAYER(frozen[w]);
#ifdef CHECKPOINT_APART
	half[w] = 0;
#endif
	if
	:: !HOLDS(w) -> settle(w)
	:: else
	fi
}

/* drop removes the task from memory and engine. It waits for the running checkpoint: a frozen generation is excised after its ingest or
 * forgotten before it, and nobody reads the state meanwhile. */
inline drop(w) {
#ifdef DROP_OVERTAKES
	COPY(stray[w], frozen[w]);
#endif
	NO_LAYER(frozen[w]);
	NO_LAYER(delta[w]);
	NO_LAYER(engine[w])
}

