// Package kafkatest is the suite against a real Apache Kafka and its Java client. It is built with the tag kafka:
//
//	go test -tags kafka ./kafkatest/...
//
// One broker is shared by all tests; topics, groups and transactional ids are therefore named after their test. What
// needs a cluster of its own (three brokers, faults) starts one with package kafkaproc.
//
// The engine's tests (engine_*_test.go) run the retail job of the examples in worker processes that are killed, halted and
// replaced (package workerproc), and a smaller job in the test's own process. Commits whose answer is lost go through package
// proxy. The command line is run as a process of its own (engine_cli_*_test.go, engine_dedup_test.go), through TLS, passwords
// and client certificates, and killed. Soaks (soak_test.go) run the job of package proof for a minute, or as long as -soak says, under
// every fault, and leave a timeline; docs/soak.md. What was right is decided by the judge of the examples over what the Java client
// reads, read committed, and by comparing the stores on disk with their changelogs.
package kafkatest
