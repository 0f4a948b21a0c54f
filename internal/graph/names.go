package graph

// Internal topics and stores have the names that Kafka Streams gives them, so that tools and people recognise them.

// ChangelogTopic is the changelog of a store.
func ChangelogTopic(app, store string) string { return app + "-" + store + "-changelog" }

// RepartitionTopic is the topic of topology.Repartition.
func RepartitionTopic(app, name string) string { return app + "-" + name + "-repartition" }

// ReplayTopic is where dead letters of a source are sent again on purpose.
func ReplayTopic(app, source string) string { return app + "-" + source + "-replay" }

// DeadLetterTopic is where records and timers go that a policy gave up.
func DeadLetterTopic(app string) string { return app + "-dead-letters" }

// FillerTopic holds one record per worker, so that no transaction is empty.
func FillerTopic(app string) string { return app + "-transactions" }

// MarkerStore holds the dedup markers of a source.
func MarkerStore(source string) string { return source + "-markers" }

// TaskStore holds the checkpoint record of a sub-topology's tasks.
func TaskStore(sub string) string { return sub + "-task" }

// TimerStore holds the timers of a sub-topology's tasks.
func TimerStore(sub string) string { return sub + "-timers" }

// ParkedStore holds the parked records of a sub-topology's tasks.
func ParkedStore(sub string) string { return sub + "-parked" }
