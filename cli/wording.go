package cli

import (
	"fmt"
	"regexp"
	"strings"
)

// flagsOfFields are the flags of the fields of oncemill.Config that errors name. The library speaks of fields, because its
// users write Go; who types a command has flags.
var flagsOfFields = map[string]string{
	"Brokers": "--brokers", "StateDir": "--state", "InstanceID": "--instance-id", "Workers": "--workers",
	"CommitInterval": "--commit-interval", "CommitRecords": "--commit-records", "CommitBytes": "--commit-bytes",
	"TransactionTimeout": "--transaction-timeout", "SessionTimeout": "--session-timeout", "RebalanceTimeout": "--rebalance-timeout",
	"ShutdownTimeout": "--shutdown-timeout", "MemoryBudget": "--memory", "CheckpointRecords": "--checkpoint-records",
	"CheckpointInterval": "--checkpoint-interval", "StartFrom": "--start-from", "AcceptSkip": "--accept-skip",
	"AcceptRecreated": "--accept-recreated", "AcceptChanges": "--accept-changes", "MaxFuture": "--max-future",
	"RefuseFuture": "--refuse-future", "MaxRecordBytes": "--max-record-bytes", "ReplicationFactor": "--replication-factor",
	"TLS": "--tls", "SASL": "--sasl-mechanism",
}

// configField finds a field of oncemill.Config, and not one of another package's Config.
var configField = regexp.MustCompile(`(^|[^\w.])(?:oncemill\.)?Config\.(\w+)`)

// createByTool finds the cure of a missing topic that needs Kafka's own tools.
var createByTool = regexp.MustCompile(`kafka-topics\.sh --bootstrap-server (\S+) --create --topic (\S+) --partitions (\S+)`)

// ownVerb finds a command line of oncemill that an error proposes.
var ownVerb = regexp.MustCompile(`(^|[^\w./-])oncemill (dev|topic|help)\b`)

// asTyped says a text of the library in the words of the command: flags instead of fields, and its own verbs.
func (e *Env) asTyped(text string) string {
	if e.App != nil { // its command has the verbs; the other one may not be there
		text = ownVerb.ReplaceAllString(text, "${1}"+e.Name()+" $2")
	}
	text = createByTool.ReplaceAllString(text, e.Name()+" topic create $2 --partitions $3 -B $1")
	text = configField.ReplaceAllStringFunc(text, func(found string) string {
		m := configField.FindStringSubmatch(found)
		if flag := flagsOfFields[m[2]]; flag != "" {
			return m[1] + flag
		}
		return found
	})
	if e.cmd != nil && e.cmd.Name() == "dedup" { // the verb or the job; both have its flags
		text = strings.NewReplacer("func:header:", "header:", "func:column:", "column:", "dedup.Config.ID", "--id", "dedup.Config.Window", "--window").Replace(text)
	}
	return text
}

// withFlags names the flag behind each field: an explanation has readers of both kinds.
func withFlags(text string) string {
	return configField.ReplaceAllStringFunc(text, func(found string) string {
		if flag := flagsOfFields[configField.FindStringSubmatch(found)[2]]; flag != "" {
			return fmt.Sprintf("%s (%s)", found, flag)
		}
		return found
	})
}
