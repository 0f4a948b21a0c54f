package problem

// details continue the first sentences of an entry in "oncemill help" and docs/errors.md: what is safe, what to do, and an
// example where one helps.
var details = map[Code]string{
	ConfigInvalid:        "Safe: yes, the check runs before any connection. \"oncemill config show --origin\" prints each setting with the flag, variable or file it comes from.\nExample: sasl.mechanism (./oncemill.toml): \"SCRAM\" is none of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512.",
	TopologyInvalid:      "Safe: yes. Names of sources, processors, stores and sinks must be there and be distinct, because state is found by name after a restart.\nExample: node \"decide\": the name is used twice.",
	UndeclaredStore:      "Safe: the record was rolled back.\nExample: topology.Process(t, \"decide\", in, decide, topology.Uses(orders)).",
	NotCopartitioned:     "Safe: nothing was started. Repartition one input through a named topic with the count of the other, or create both topics alike.\nExample: orders has 12 partitions, customers has 8: repartition customers to 12 before the join.",
	FingerprintChanged:   "Safe: nothing was touched. The message lists each difference. Adding a stateless node is compatible; renaming a store, changing its serde or the number of partitions is not.\nExample: store \"totals\": value format json, the state was written as protobuf.",
	TopicMissing:         "Safe: nothing was started.\nThe command works on any Kafka, also on one that oncemill dev runs.\nExample: oncemill topic create orders --partitions 12 -B localhost:9092.",
	TopicMisconfigured:   "Safe: nothing was started; what the broker removed before cannot be told from here, so run verify after the correction.\nExample: orders-app-totals-changelog has cleanup.policy=delete: set it to compact.",
	PartitionsChanged:    "Safe: nothing was started. Kafka cannot take partitions away; to keep the state, copy the input to a topic with the old count. Otherwise start under another application name and read the input again.",
	TopicRecreated:       "Safe: nothing was touched. Topic ids (KIP-516) tell the two apart. Accept only if the new topic does not repeat records without ids: deduplication by id still holds, by position it cannot.",
	DecodeFailed:         "Safe: the record's id and position were read from its raw bytes, so its dead letter is written once. Replay it after the serde or the producer was mended (docs/guarantees.md, Replaying a dead letter).\nExample: a JSON serde meets a value that begins with the five bytes of a schema registry.",
	HandlerFailed:        "Safe: state, outputs and timers are as if the record had not come. Policies: stop, skip, retry in place, delayed retry, dead letter. Return an error only for what should not be committed.",
	HandlerPanicked:      "Safe: it is rolled back like an error, and the process goes on. The stack is in the log and in the dead letter's headers.\nExample: a nil map in the handler's own struct.",
	EncodeFailed:         "Safe: the record that made the output was rolled back.\nExample: a NaN in a JSON value.",
	OutputTooLarge:       "Safe: the record that made the output was rolled back; its neighbours are committed. Raising the limit needs the topic's max.message.bytes and Config.MaxRecordBytes.\nExample: 1,400,000 bytes for \"order-events\", which takes 1,048,588.",
	IDMissing:            "Safe: the record was not processed. If most records lack the id, the configuration names the wrong header.\nExample: dedup.Header(\"message-id\") and a producer that writes \"Message-Id\".",
	IDConflict:           "Safe: the first result is kept, nothing was processed twice. Two contents under one id mean that the producer reuses ids, or changes a message when it sends it again.\nExample: the id is the order's number, and the order was changed: add a version to the id.",
	IDTooOld:             "Safe: it was not processed, and lies in the dead letters. If it is known to be new, replay it from there (docs/guarantees.md, Replaying a dead letter): a replay is admitted once, and this one needs the header oncemill-force: true, because no marker says that it was not applied.\nExample: window 24h, a batch from last week is loaded again.",
	IDInvalid:            "Safe: the record was not processed.\nExample: dedup by UUIDv7 and a producer whose clock is an hour ahead.",
	TimestampRefused:     "Safe: stream time did not move. The bound is Config.MaxFuture over the machine's clock; negative times are refused as well.\nExample: seconds or microseconds where Kafka wants milliseconds.",
	UnknownTopic:         "Safe: the record that made the output was rolled back, and its produce policy decides. oncemill never creates a topic of yours.\nExample: a sink that derives the topic from the tenant, and a tenant that is new.",
	ReplayRefused:        "Safe: nothing was run. A dead letter that was replayed before has a higher replay number; one whose marker has expired cannot be told from a record that succeeded. How a dead letter is replayed: docs/guarantees.md.\nExample: oncemill produce shop-commands-replay --format jsonl -H oncemill-replay=1 < letter.jsonl.",
	HandlerTooSlow:       "Safe: the broker aborted the transaction, so nothing of it is visible. The records that shared it are processed again without the slow one.\nExample: an HTTP call with a timeout of 60 s in a handler, and a transaction timeout of 10 s.",
	TimerWithoutState:    "Safe: the record was rolled back. Deleting a key cancels its timers, so a timer never fires for something that is gone.\nExample: put the order, then set its payment timer.",
	ProduceFailed:        "Safe: an aborted transaction is invisible to read_committed consumers.\nExample: the topic's max.message.bytes was lowered while the application ran.",
	NullKeyRefused:       "Safe: nothing was processed. --scope topic sends every record through a repartition topic keyed by its id; the order per key is then not kept.",
	IDDuplicate:          "Safe: the duplicate changed nothing. With the policy drop, duplicates leave no trace but a count.\nExample: Duplicates: dedup.DeadLetter, and a producer that retries.",
	RecordsRefused:       "Safe: all other records were handled once, and those listed were not. With --ignore-conflicts the same id with another body counts as a duplicate. With --state a record that was refused stays refused: given again unchanged it is listed as refused before, and the exit code is 1 again.\nExample: line 18, record 17: OM206: no id (json:order.id).",
	DirectoryInUse:       "Safe: this process touched nothing. The message names the other process. After kill -9 the lock is free at once; a lock that seems stuck is a process that lives.\nExample: a second \"oncemill dev\" in the same folder: choose --data-dir, or use the one that runs.",
	DirectoryForeign:     "Safe: a directory is only used when it is empty or was begun by oncemill.\nExample: --state . in a home folder.",
	DirectoryOtherApp:    "Safe: state of two applications in one directory would be restored over each other. The message names the owner.",
	DirectoryNewer:       "Safe: nothing was read or written. Going back to an older version needs the state from before: use an empty directory, and it is restored from the changelogs if their format is old enough.",
	DirectoryUnusable:    "The directory could not be created, read, written or locked. Safe: nothing was acknowledged since. The state can always be restored from the changelogs.\nExample: a read-only volume, or a path that is a file.",
	StoreCorrupt:         "Safe: the checksum was seen before a value was used. One file may hold several tasks, and then all of them are restored. Look after the disk: it returned other bytes than were written.",
	StoreIO:              "Safe: a commit is true in Kafka before the disk is touched. The process stops, and after the restart continues at the last checkpoint.\nExample: no space left on device.",
	MemoryBudgetTooSmall: "A transaction's writes, the committed delta and the one that is being written must fit the budget together. Safe: polling stops before the commit, nothing is lost.\nExample: one record that updates a million keys under a budget of 64 MiB.",
	StateBehind:          "Safe: nothing was started. Usual reasons: the changelog was deleted or truncated by hand, or was restored from an older backup than the offsets.",
	StateAhead:           "The changelog was recreated, or lost its end in an unclean election of a leader. Safe: Kafka is the truth, so the local state is dropped, and restored from what the changelog holds.",
	BadDurableBytes:      "Bytes in a store, a changelog or a log do not have a format that this version knows, or are damaged. Safe: nothing was changed.\nExample: a data directory of \"oncemill dev\" from a newer version: delete it, or use that version.",
	BrokersUnreachable:   "None of the addresses answered. The command waits up to --timeout while nothing listens there, so it may be started before its broker; a program that calls App.Run itself is told at once that the connection was refused, and after 10 s that nobody answers. Safe: nothing was started. Once running, an outage is waited out instead.\nExample: the brokers advertise an address that this machine cannot resolve; a TLS listener asked in plain text shows as a closed connection.",
	BrokersRefused:       "The broker answered and said no: authentication, authorisation or an unsupported version. Safe: nothing was started. Needed are: read on sources and the group; write on sinks and the transactional id; create, read and write on internal topics.\nExample: TOPIC_AUTHORIZATION_FAILED for orders-app-totals-changelog.",
	OffsetMissing:        "Safe: nothing was started. Offsets expire when a group is idle longer than offsets.retention.minutes. The message shows the position that belongs to the state.\nExample: kafka-consumer-groups.sh --reset-offsets --to-offset 88121 --topic orders:3.",
	OffsetOutOfRange:     "Safe: nothing was skipped. Some records are gone before they were processed: which ones is in the message. Raise the retention, or accept the loss by moving the position.",
	OffsetAhead:          "Safe: nothing was started. Somebody moved the group's offset by hand. Behind the position is harmless: what was processed is skipped.\nExample: a reset to latest, to get over a poison record: use a failure policy instead.",
	Fenced:               "Safe: the transaction of this instance was aborted, the other one continues from the last commit. It is normal after a pause longer than the session timeout, or when an instance was started twice.\nExample: two pods with the same instance id.",
	CommitUnresolved:     "The answer to a commit did not come. Safe: nothing more is processed until the outcome was read back from the committed offsets, and then state and outputs agree with it.\nExample: the transaction coordinator restarted in the middle of a commit.",
	OldTransactions:      "Safe: mostly; the window is an EndTxn that was delayed in the network beyond a timeout.\nExample: a cluster that was upgraded to 4.0, but not finalised: kafka-features.sh upgrade --feature transaction.version=2.",
	GroupRefused:         "Safe: nothing was committed. The group is in use with another protocol or by another kind of client, the session timeout is outside the broker's bounds, or the group is full.\nExample: a console consumer with the application's name as its group.",
	TransactionAborted:   "Safe: what was aborted is invisible to read_committed consumers, and the local state was not changed. Frequent aborts cost throughput: the metric names the causes.",
	ShutdownTimeout:      "Safe: yes. The broker aborts the open transaction when its timeout has passed, which delays the next start's records by that long.\nExample: a handler that waits for a slow service during the stop.",
	RestoreFailed:        "The changelog could not be read to its end. Safe: the task does not run, its committed state is in Kafka. The other tasks go on.\nExample: the changelog's topic was deleted, or may not be read.",
	ChangelogTruncated:   "Records up to the local position were removed, or belong to another history. Safe: the task's state is dropped and built again from what the log holds.\nExample: an instance that was away for longer than delete.retention.ms: deleted keys could rise again.",
	InputTruncated:       "Safe: nothing was started. It happens after an unclean election of a leader, or when an operator deleted records. Outputs of the records that are gone stay.",
	TransactionTimeouts:  "The same records ran into the transaction timeout several times, also alone. Safe: nothing of them is visible. The failure policy decides about them.\nExample: a lock held by another process, for as long as this one waits.",
	TasksUnassigned:      "Safe: tasks wait, none runs twice.\nExample: a rolling upgrade in which the old version does not know a new input topic; it ends with the upgrade.",
	Unfinished:           "Safe: the worker was stopped and what the run had made was removed. On a busy machine, or against a slow cluster, raise --deadline; if what was awaited never moves, run again with -v and read what the worker says.\nExample: it still waited for the commit of 55104 messages; committed 41210.",
	ChildEnded:           "Safe: what it had committed stays. Its last lines on standard error are in the message; with -v all of them are shown.\nExample: the state directory lies on a full disk.",
	ListenFailed:         "Another process listens on the port, or the system reserves it. Safe: the data directory was not changed.\nExample: oncemill dev --any-port, or --port 19092.",
	InvariantBroken:      "Safe: what was committed stays; what was not is processed again after a restart. If it comes again after the restart, keep the state directory and the log as they are for the report.",
	FindingDoubled:       "Two committed outputs have the same output id. Either the same message id came on two partitions of the input: an output id is made from the message id, deduplication is per partition by default, so both were processed as they should be (key by id, or use --scope topic with oncemill dedup). Or another program writes to the topic. Or exactly-once is broken. Safe: verify only reads; the inputs that the outputs name tell the cases apart.\nExample: the by-hand loop of the demo, which produces before it commits its offset.",
	FindingLost:          "An input inside the window has a marker, but an output that its processing makes is not on the topic. Safe: verify only reads. If retention removed the output, run verify with --since.\nExample: an output topic that keeps a day, checked against an input that keeps a week.",
	FindingGhost:         "A committed output names an input that does not exist, or that produced nothing. Safe: verify only reads.\nExample: a record written to the output topic by hand.",
	FindingState:         "The local store and the replayed changelog have different values for a key. Safe: verify only reads; the changelog is the truth. Dropping the state directory has it restored.\nExample: a store that was edited with another tool.",
	FindingMarker:        "An input inside the dedup window has no marker, or a marker points to an input that does not exist. Safe: verify only reads. A missing marker means that a duplicate would be processed again.",
	FindingCounter:       "The committed offsets, the checkpoint record and the transaction counter of a task tell different stories. Safe: verify only reads; do not reset offsets before it is understood.\nExample: offsets that were moved by hand.",
}

// complete puts the details behind the first sentences.
func complete(e Entry) Entry {
	if more := details[e.Code]; more != "" && e.Text != "" {
		e.Text += "\n" + more
	} else if more != "" {
		e.Text = more
	}
	return e
}
