package enumeration_test

import (
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
)

// class is what an error of a broker asks of who gets it.
type class string

const (
	retriable class = "retriable"
	abortable class = "abortable" // the transaction cannot be committed
	fenced    class = "fenced"    // another has our place
	fatal     class = "fatal"
)

var classes = []class{retriable, abortable, fenced, fatal}

// coded is an error of a class.
type coded struct {
	class class
	err   *kerr.Error
}

func of(c class, errs ...*kerr.Error) (out []coded) {
	for _, e := range errs {
		out = append(out, coded{c, e})
	}
	return out
}

var (
	ofCoordinators = of(retriable, kerr.CoordinatorNotAvailable, kerr.CoordinatorLoadInProgress, kerr.NotCoordinator)
	ofLeaders      = of(retriable, kerr.NotLeaderForPartition, kerr.LeaderNotAvailable, kerr.UnknownTopicOrPartition, kerr.ReplicaNotAvailable,
		kerr.FencedLeaderEpoch, kerr.UnknownLeaderEpoch, kerr.KafkaStorageError)
	ofMembers = slices.Concat(of(fenced, kerr.UnknownMemberID, kerr.FencedInstanceID, kerr.IllegalGeneration), of(retriable, kerr.RebalanceInProgress),
		of(fatal, kerr.GroupAuthorizationFailed))
	ofProducers = slices.Concat(of(fenced, kerr.InvalidProducerEpoch, kerr.ProducerFenced), of(retriable, kerr.ConcurrentTransactions),
		of(fatal, kerr.TransactionalIDAuthorizationFailed))
	ofTransactions = slices.Concat(ofProducers, of(abortable, kerr.InvalidTxnState, kerr.InvalidProducerIDMapping, kerr.TransactionAbortable))
)

// codes are the errors that each API may answer, beside UNKNOWN_SERVER_ERROR, which every one may: those that the brokers of Apache
// Kafka and its documentation of the protocol name.
func codes() map[string][]coded {
	table := map[string][]coded{
		"ApiVersions":          of(fatal, kerr.InvalidRequest),
		"Metadata":             slices.Concat(of(retriable, kerr.LeaderNotAvailable, kerr.UnknownTopicOrPartition, kerr.UnknownTopicID), of(fatal, kerr.InvalidTopicException, kerr.TopicAuthorizationFailed)),
		"DescribeConfigs":      of(fatal, kerr.TopicAuthorizationFailed, kerr.ClusterAuthorizationFailed, kerr.InvalidRequest),
		"CreateTopics":         slices.Concat(of(retriable, kerr.TopicAlreadyExists, kerr.NotController, kerr.RequestTimedOut, kerr.ThrottlingQuotaExceeded), of(fatal, kerr.TopicAuthorizationFailed, kerr.ClusterAuthorizationFailed, kerr.PolicyViolation, kerr.InvalidReplicationFactor, kerr.InvalidConfig)),
		"FindCoordinator":      slices.Concat(ofCoordinators[:2], of(fatal, kerr.GroupAuthorizationFailed, kerr.TransactionalIDAuthorizationFailed)),
		"InitProducerID":       slices.Concat(ofCoordinators, ofProducers, of(fatal, kerr.InvalidTransactionTimeout, kerr.ClusterAuthorizationFailed)),
		"JoinGroup":            slices.Concat(ofCoordinators, ofMembers[:2], of(fatal, kerr.GroupAuthorizationFailed, kerr.InconsistentGroupProtocol, kerr.InvalidSessionTimeout, kerr.GroupMaxSizeReached)),
		"SyncGroup":            slices.Concat(ofCoordinators, ofMembers),
		"Heartbeat":            slices.Concat(ofCoordinators, ofMembers),
		"OffsetFetch":          slices.Concat(ofCoordinators, of(retriable, kerr.UnstableOffsetCommit), of(fatal, kerr.GroupAuthorizationFailed)),
		"ListOffsets":          slices.Concat(ofLeaders, of(retriable, kerr.OffsetNotAvailable), of(fatal, kerr.TopicAuthorizationFailed)),
		"OffsetForLeaderEpoch": slices.Concat(ofLeaders, of(fatal, kerr.TopicAuthorizationFailed)),
		"Fetch": slices.Concat(ofLeaders, of(retriable, kerr.OffsetNotAvailable, kerr.FetchSessionIDNotFound, kerr.InvalidFetchSessionEpoch, kerr.UnknownTopicID, kerr.InconsistentTopicID, kerr.OffsetOutOfRange, kerr.CorruptMessage),
			of(fatal, kerr.TopicAuthorizationFailed)),
		"Produce": slices.Concat(ofLeaders[:3], of(retriable, kerr.NotEnoughReplicas, kerr.NotEnoughReplicasAfterAppend, kerr.RequestTimedOut, kerr.KafkaStorageError, kerr.CorruptMessage), ofProducers,
			of(abortable, kerr.InvalidTxnState, kerr.InvalidProducerIDMapping, kerr.TransactionAbortable, kerr.OutOfOrderSequenceNumber, kerr.UnknownProducerID),
			of(fatal, kerr.TopicAuthorizationFailed, kerr.ClusterAuthorizationFailed, kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.InvalidRecord, kerr.InvalidTimestamp, kerr.PolicyViolation)),
		"AddPartitionsToTxn": slices.Concat(ofCoordinators, ofTransactions, of(retriable, kerr.UnknownTopicOrPartition), of(abortable, kerr.OperationNotAttempted), of(fatal, kerr.TopicAuthorizationFailed)),
		"AddOffsetsToTxn":    slices.Concat(ofCoordinators, ofTransactions, of(fatal, kerr.GroupAuthorizationFailed)),
		"TxnOffsetCommit": slices.Concat(ofCoordinators, ofMembers, ofTransactions, of(retriable, kerr.UnknownTopicOrPartition),
			of(fatal, kerr.OffsetMetadataTooLarge, kerr.TopicAuthorizationFailed)),
		"EndTxn": slices.Concat(ofCoordinators, ofTransactions),
		"DeleteTopics": slices.Concat(of(retriable, kerr.NotController, kerr.RequestTimedOut, kerr.ThrottlingQuotaExceeded), // the controller knows each topic that there is
			of(fatal, kerr.TopicAuthorizationFailed, kerr.TopicDeletionDisabled, kerr.PolicyViolation)),
		"DeleteRecords": slices.Concat(ofLeaders[:3], of(retriable, kerr.RequestTimedOut, kerr.OffsetOutOfRange), of(fatal, kerr.TopicAuthorizationFailed, kerr.PolicyViolation)),
	}
	for api := range table {
		table[api] = append(table[api], coded{abortable, kerr.UnknownServerError})
	}
	return table
}

// codeOf is the first code of a class that an API may answer; nil if there is none.
func codeOf(api string, c class) *kerr.Error {
	for _, e := range codes()[api] {
		if e.class == c {
			return e.err
		}
	}
	return nil
}
