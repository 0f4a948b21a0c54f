package main

// Mutants of what the store does on a disk that fails.
var robustMutants = []mutant{
	{
		name: "directories above the store are synced only when they are made", file: "statestore/pebble/pebble.go",
		old: "	if err := syncAbove(cfg.FS, cfg.FS.PathJoin(cfg.Dir, \"tables\")); err != nil {", new: "	if err := error(nil); err != nil {",
		packages: "./statestore/pebble", run: "TestEveryOperationOfTheDiskFails$",
	},
	{
		name: "a marker of the MANIFEST that cannot be synced panics", file: "statestore/pebble/directory.go",
		old: "	case d.fs.moving.Load():", new: "	case d.fs.moving.Load() && false:",
		packages: "./statestore/pebble", run: "TestEveryOperationOfTheDiskFails$",
	},
	{
		name: "a directory unlocked before its store is closed", file: "app.go",
		old: "	if a.db == nil {\n		letGo()", new: "	if true {\n		letGo()",
		packages: ".", run: "TestADirectoryStaysLockedUntilItsStoreIsClosed",
	},
	{
		name: "an application stops over a store that cannot be opened", file: "app.go",
		old: "pebble.OpenOrWipe(pebble.Config{Dir: dir.enginePath()", new: "pebble.Open(pebble.Config{Dir: dir.enginePath()",
		packages: ".", run: "TestAStoreThatCannotBeOpenedIsBegunAnew",
	},
	{
		name: "a table that is gone taken for an error of the disk", file: "statestore/pebble/pebble.go",
		old: "	if errors.Is(err, os.ErrNotExist) { //", new: "	if false { //",
		packages: "./statestore/pebble", run: "TestAnEngineThatCannotBeOpenedIsWiped",
	},
	{
		name: "a failed ingest leaves its tables behind", file: "statestore/pebble/ingest.go",
		old: "	for _, p := range s.paths {\n		_ = s.engine.cfg.FS.Remove(p)\n	}\n", new: "",
		packages: "./statestore/pebble", run: "TestAFailedIngestChangesNothing",
	},
	{
		name: "an error of the disk without its place", file: "statestore/pebble/pebble.go",
		old: "		return problem.Wrap(problem.StoreIO, e.cfg.Dir, err)\n	}\n}\n\n// Excise", new: "		return err\n	}\n}\n\n// Excise",
		packages: "./statestore/pebble", run: "TestEveryOperationOfTheDiskFails$",
	},
	{
		name: "a failed checkpoint counts as written", file: "statestore/writer.go",
		old: "		if err != nil {\n			continue\n		}\n		st.written = g.pos.N", new: "		st.written = g.pos.N",
		packages: "./statestore/pebble", run: "TestEveryOperationOfTheDiskFailsUnderADB",
	},
	{
		name: "a refused drop forgets what memory holds", file: "statestore/writer.go",
		old: "	st.dropping = false\n	if err == nil {", new: "	st.dropping = false\n	if true {",
		packages: "./statestore", run: "TestARefusedDropLosesNothing",
	},
	{
		name: "a refused drop empties its task", file: "statestore/release.go",
		old: "	t.drop, t.err = nil, nil\n	if err != nil {", new: "	t.drop, t.err = nil, nil\n	if false {",
		packages: "./statestore/pebble", run: "TestEveryOperationOfTheDiskFailsUnderADB",
	},
	{
		name: "a store of a newer Pebble taken for a broken disk", file: "statestore/pebble/pebble.go",
		old: "version > uint64(pdb.FormatNewest) {", new: "version > 1<<32 {",
		packages: "./statestore/pebble", run: "TestAStoreOfANewerPebbleIsRefused",
	},
	{
		name: "an entry of a newer format read as one of ours", file: "internal/embedded/frames.go",
		old: "version > kfakeVersion {", new: "version > kfakeVersion && false {",
		packages: "./internal/embedded", run: "TestAnEntryOfANewerFormatIsRefused",
	},
	{
		name: "a compaction that has failed is tried again at once", file: "statestore/pebble/directory.go",
		old: `	if category == compactionCategory {`, new: `	if false {`,
		packages: "./statestore/pebble", run: "TestAFullDiskOnlyDelaysCompactions",
	},
	{
		name: "an engine that closes waits until its next compaction may write", file: "statestore/pebble/pebble.go",
		old: `	e.pace.close()
`, new: ``,
		packages: "./statestore/pebble", run: "TestAFullDiskOnlyDelaysCompactions",
	},
	{
		name: "the group's client lists offsets", file: "member.go",
		old: `		kgo.AdjustFetchOffsetsFn(anywhere),
`, new: `		kgo.AdjustFetchOffsetsFn(func(_ context.Context, o map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) { return o, nil }),
`,
		packages: "./streamtest", run: "TestTheGroupsClientListsNoOffsets",
	},
}
