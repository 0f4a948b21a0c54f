package problem

// Code is "OM" and three digits: 1xx configuration and topology, 2xx records, 3xx state and its directory, 4xx Kafka,
// 5xx internal, 6xx findings of verify and demo.
type Code string

// Entry is the registered text of a code.
type Entry struct {
	Code  Code
	Title string // one line: what happened
	Cure  string // one line: what to do
	Text  string // the long form for "oncemill help": why it happens, what is safe, what is not
}

// Configuration and topology.
const (
	ConfigInvalid      Code = "OM101"
	TopologyInvalid    Code = "OM102"
	UndeclaredStore    Code = "OM103"
	NotCopartitioned   Code = "OM104"
	FingerprintChanged Code = "OM105"
	TopicMissing       Code = "OM106"
	TopicMisconfigured Code = "OM107"
	PartitionsChanged  Code = "OM108"
	TopicRecreated     Code = "OM109"
)

// Records.
const (
	DecodeFailed      Code = "OM201"
	HandlerFailed     Code = "OM202"
	HandlerPanicked   Code = "OM203"
	EncodeFailed      Code = "OM204"
	OutputTooLarge    Code = "OM205"
	IDMissing         Code = "OM206"
	IDConflict        Code = "OM207"
	IDTooOld          Code = "OM208"
	IDInvalid         Code = "OM209"
	TimestampRefused  Code = "OM210"
	UnknownTopic      Code = "OM211"
	ReplayRefused     Code = "OM212"
	HandlerTooSlow    Code = "OM213"
	TimerWithoutState Code = "OM214"
	ProduceFailed     Code = "OM215"
	NullKeyRefused    Code = "OM216"
	IDDuplicate       Code = "OM217"
	RecordsRefused    Code = "OM218"
	StateTooLarge     Code = "OM219"
)

// State and its directory.
const (
	DirectoryInUse       Code = "OM301"
	DirectoryForeign     Code = "OM302"
	DirectoryOtherApp    Code = "OM303"
	DirectoryNewer       Code = "OM304"
	DirectoryUnusable    Code = "OM305"
	StoreCorrupt         Code = "OM306"
	StoreIO              Code = "OM307"
	MemoryBudgetTooSmall Code = "OM308"
	StateBehind          Code = "OM309"
	StateAhead           Code = "OM310"
	BadDurableBytes      Code = "OM311"
)

// Kafka.
const (
	BrokersUnreachable  Code = "OM401"
	BrokersRefused      Code = "OM402"
	OffsetMissing       Code = "OM403"
	OffsetOutOfRange    Code = "OM404"
	OffsetAhead         Code = "OM405"
	Fenced              Code = "OM406"
	CommitUnresolved    Code = "OM407"
	OldTransactions     Code = "OM408"
	GroupRefused        Code = "OM409"
	TransactionAborted  Code = "OM410"
	ShutdownTimeout     Code = "OM411"
	RestoreFailed       Code = "OM412"
	ChangelogTruncated  Code = "OM413"
	InputTruncated      Code = "OM414"
	TransactionTimeouts Code = "OM415"
	ListenFailed        Code = "OM416"
	TasksUnassigned     Code = "OM417"
	Unfinished          Code = "OM418"
	ChildEnded          Code = "OM419"
)

// Internal: a bug in oncemill.
const (
	InvariantBroken Code = "OM501"
)

// Findings of verify and demo.
const (
	FindingDoubled Code = "OM601"
	FindingLost    Code = "OM602"
	FindingGhost   Code = "OM603"
	FindingState   Code = "OM604"
	FindingMarker  Code = "OM605"
	FindingCounter Code = "OM606"
)

var entries = []Entry{
	{ConfigInvalid, "the configuration is not valid", "correct the fields listed", "Every mistake is listed at once, each with the field, the value and the cure. Nothing was started."},
	{TopologyInvalid, "the topology is not valid", "correct the nodes listed", "Every mistake is listed at once, each with the node. Nothing was started."},
	{UndeclaredStore, "a node uses a store that it did not declare", "add topology.Uses(store) to the node", "A node may only touch the stores it declares, because the declaration decides which sub-topology owns the store and therefore which partition's data it holds."},
	{NotCopartitioned, "topics that meet in one task have different partition counts", "repartition one of them, or create both with the same count", "Records of one key reach one task only when all input topics of a sub-topology have the same number of partitions."},
	{FingerprintChanged, "the topology is not compatible with the state on disk or in the changelogs", "undo the change, or use another application name", "The fingerprint covers graph, store formats and partition counts. It is stored with the state; an incompatible start is refused before anything is read or written."},
	{TopicMissing, "a topic does not exist", "create it with oncemill topic create NAME --partitions N, or correct its name", "Source topics and sink topics belong to you and are never created by oncemill. Only internal topics are."},
	{TopicMisconfigured, "an internal topic has settings that would lose state", "set the topic's configuration as shown", "A changelog must be compacted; a marker changelog must not expire by time. With other settings state or markers could vanish."},
	{PartitionsChanged, "the number of partitions of an input changed", "restore the old count, or use another application name", "With another number of partitions the keys live elsewhere than their state."},
	{TopicRecreated, "an input topic was deleted and created again", "accept it with Config.AcceptRecreated", "The committed position belongs to another topic of the same name. Accepting it starts the new topic at its beginning, with state and markers kept."},
	{DecodeFailed, "a record cannot be decoded", "mend the producer or the serde; to go on without such records instead of stopping: topology.OnDecodeFailure(processor.DeadLetter())", "The decode failure policy decides. Position and neighbours are unaffected."},
	{HandlerFailed, "a processor returned an error", "mend the processor; to go on without such records instead of stopping: topology.OnFailure(processor.DeadLetter())", "Everything the record did was rolled back; the process failure policy decides."},
	{HandlerPanicked, "a processor panicked", "look at the stack and the processor", "A panic in user code is an error of that record."},
	{EncodeFailed, "an output cannot be encoded", "look at the serde of the sink or store", "The encode failure policy decides."},
	{OutputTooLarge, "an output is larger than the topic allows", "send less, or raise max.message.bytes and Config.MaxRecordBytes", "Checked when the output is emitted, so that it fails at its record."},
	{IDMissing, "a record has no id where one is required", "send the id, or change dedup.Config.ID", "A record without an id is never processed undeduplicated: it goes to the dead letters."},
	{IDConflict, "an id was used twice with different content", "mend the producer: one id, one content", "The first result stands; the second record goes to the dead letters."},
	{IDTooOld, "a record was issued before the dedup window", "enlarge dedup.Config.Window, or replay it on purpose: docs/guarantees.md says how", "Its marker may have expired, so it cannot be told from a duplicate. It is quarantined, not run."},
	{IDInvalid, "an id cannot be used", "mend the producer", "Empty, not parseable, or issued in the future beyond the allowed skew."},
	{TimestampRefused, "a record's timestamp is out of bounds", "mend the producer's clock, or change the skew policy", "One record from the far future must not expire every marker and timer."},
	{UnknownTopic, "the topic of an output does not exist", "create it", "Dynamic topics are checked when the output is emitted."},
	{ReplayRefused, "a replay was refused", "see the reason; if it must run, replay it with the header oncemill-force: true", "A replay is admitted once per number, and only while the marker that says \"dead letter\" exists."},
	{HandlerTooSlow, "a processor was slower than the transaction timeout", "make it faster, move slow work out, or raise Config.TransactionTimeout", "The broker aborts a transaction after its timeout. The record is run again alone, once; slower than that and it is a failure of that record."},
	{TimerWithoutState, "a timer was set on a key that is not in the store", "put the state first", "A timer exists only while its state exists."},
	{ProduceFailed, "the broker refused an output", "see the cause", "The transaction was aborted; on the re-run the record meets its produce policy."},
	{NullKeyRefused, "a record without a key", "send keys, or use --scope topic", "Deduplication is per partition; without a key a copy may land on another partition."},
	{IDDuplicate, "a message came a second time", "none needed; mend the producer if there are many", "Its first copy was applied. The policy of the source sends duplicates to the dead letters; nothing else happened."},
	{RecordsRefused, "some records were refused", "mend the records that are listed, and give them again", "A run over a finite input ended, and not all of it came through: the records listed have no id that can be used, share an id with another record, are too long, or have a quoted field that is never closed."},
	{StateTooLarge, "an entry of a store is larger than its changelog allows", "keep less under one key, or raise max.message.bytes of the changelog and Config.MaxRecordBytes", "Checked when it is written, so that it fails at its record or timer."},
	{DirectoryInUse, "another process uses the state directory", "stop it, or use another directory", "One process owns a state directory; the lock ends with the process."},
	{DirectoryForeign, "the directory is not a state directory of ours", "use an empty directory", "Nothing in it was touched."},
	{DirectoryOtherApp, "the state directory belongs to another application", "use its own directory for each application", "Nothing in it was touched."},
	{DirectoryNewer, "the state directory was written by a newer version", "use that version, or another directory", "Formats only go up; an older version refuses rather than guess."},
	{DirectoryUnusable, "the state directory cannot be used", "check path, permissions and space", ""},
	{StoreCorrupt, "a file of the store is damaged", "none needed: the task's state is restored from its changelog", "The damaged part is dropped and restored."},
	{StoreIO, "the disk failed or is full", "free space: a running application tries again by itself; replace a broken disk and start again", "No acknowledged record is lost: the changelog holds what the disk does not."},
	{MemoryBudgetTooSmall, "one record does not fit the memory budget", "raise Config.MemoryBudget", ""},
	{StateBehind, "the restored state is behind the committed position", "keep the state directory and the topics as they are, and bring the changelog back from a replica or a backup; without one, start again under another application name, from the inputs", "The changelog does not contain what the offsets say was committed. Starting would lose updates."},
	{StateAhead, "the local state is ahead of the changelog", "none needed: it is dropped and restored", ""},
	{BadDurableBytes, "durable bytes cannot be decoded", "use the version that wrote them", ""},
	{BrokersUnreachable, "no broker can be reached", "check Config.Brokers and the network; oncemill dev starts a broker for development", ""},
	{BrokersRefused, "the broker refused the request", "check credentials and ACLs", ""},
	{OffsetMissing, "the committed offset is missing while state exists", "set the group's offset to the position shown, or drop state and changelogs together", "Starting at the beginning would apply old records again; starting at the end would lose new ones. oncemill never chooses for you."},
	{OffsetOutOfRange, "the position is not in the topic", "restore the topic, or move the position on purpose", "Retention removed records before they were processed, or the topic was truncated."},
	{OffsetAhead, "the committed offset was moved beyond the state's position", "move it back, or accept the skip with Config.AcceptSkip", "The records between would never be processed."},
	{Fenced, "another instance took over", "none needed if a new instance was started; else give each instance its own id", ""},
	{CommitUnresolved, "the outcome of a transaction is not known yet", "none needed: it is resolved before anything else is processed", ""},
	{OldTransactions, "the brokers run an old transaction protocol", "upgrade to transaction.version=2 (Kafka 4.0 or later)", "Before KIP-890 a request that arrives late can hit a later transaction; after one that was not answered, the producer takes a new epoch."},
	{GroupRefused, "the consumer group refused the member", "see the cause", ""},
	{TransactionAborted, "a transaction was aborted", "none needed: the records are processed again", ""},
	{ShutdownTimeout, "the shutdown deadline passed", "raise Config.ShutdownTimeout", "What was not committed is processed again after the restart."},
	{RestoreFailed, "a task's state could not be restored", "see the cause", ""},
	{ChangelogTruncated, "the changelog no longer holds what the local state was built from", "none needed: the task's state is dropped and restored", ""},
	{InputTruncated, "an input was truncated below the position", "see the difference; accept it on purpose", "The log that was processed is not the log that exists now."},
	{TransactionTimeouts, "transactions time out again and again", "make the processors faster or raise Config.TransactionTimeout", ""},
	{ListenFailed, "a port cannot be listened on", "choose another port, or stop the process that has it", ""},
	{TasksUnassigned, "no member of the group runs these tasks", "finish the rolling upgrade, or start a member with this topology", "A task is given only to a member that subscribes to all of its input topics and has the same sub-topology. Nothing is lost: the records wait in the topics."},
	{Unfinished, "the work was not finished in time", "see what was missing; give it more time with --deadline", "The deadline is there so that nothing waits for ever. The message names what was awaited, and how far the work had come."},
	{ChildEnded, "a process that was started here ended by itself", "see its last words", "The command runs its worker as a child process. It ended without having been told to."},
	{InvariantBroken, "an invariant of oncemill is broken", "report it", "The process stops rather than continue with a state that it cannot vouch for."},
	{FindingDoubled, "an output is there more than once", "look at the inputs it names: whether one message id lies on two partitions; replaying state does not take an output back", ""},
	{FindingLost, "an output is missing", "look at the input it names; run verify with --since if retention explains it", ""},
	{FindingGhost, "an output without a cause", "find out who else writes to the topic", ""},
	{FindingState, "state and changelog differ", "stop the application, drop the state directory, start again", ""},
	{FindingMarker, "a marker is missing or superfluous", "report it with the output of verify", ""},
	{FindingCounter, "positions and counters do not agree", "report it with the output of verify; do not move offsets", ""},
}

// Lookup returns the registered entry of a code; the zero Entry if there is none.
func Lookup(code Code) Entry {
	for _, e := range entries {
		if e.Code == code {
			return complete(e)
		}
	}
	return Entry{}
}

// All returns every registered code in order.
func All() []Entry {
	all := make([]Entry, len(entries))
	for i, e := range entries {
		all[i] = complete(e)
	}
	return all
}

// groups are the kinds of codes, by their first digit.
var groups = map[byte]string{
	'1': "Configuration and topology", '2': "Records", '3': "State and its directory", '4': "Kafka",
	'5': "Internal: a bug in oncemill", '6': "Findings of verify and demo",
}

// Group names the kind of a code.
func Group(code Code) string {
	if len(code) < 3 {
		return ""
	}
	return groups[code[2]]
}
