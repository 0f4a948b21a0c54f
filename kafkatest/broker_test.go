//go:build kafka

package kafkatest

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill/kafkatest/kafkaproc"
)

// finalized returns the level of a feature of the cluster, from the answer to a raw ApiVersions request.
func finalized(t *testing.T, cluster *kafkaproc.Cluster, feature string) int16 {
	t.Helper()
	request := kmsg.NewPtrApiVersionsRequest()
	request.ClientSoftwareName, request.ClientSoftwareVersion = "oncemill", "test"
	response, err := request.RequestWith(testContext(t), newClient(t, cluster))
	if err == nil {
		err = kerr.ErrorForCode(response.ErrorCode)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range response.FinalizedFeatures {
		if f.Name == feature {
			return f.MaxVersionLevel
		}
	}
	t.Fatalf("feature %s is not finalized: %v", feature, response.FinalizedFeatures)
	return 0
}

func TestBrokerRunsTheNewTransactionProtocol(t *testing.T) {
	if level := finalized(t, shared, "transaction.version"); level != 2 {
		t.Errorf("transaction.version is %d, want 2", level)
	}
}

func TestOldTransactionProtocolOnRequest(t *testing.T) {
	cluster := ownCluster(t, kafkaproc.Config{TransactionVersion: 1})
	if level := finalized(t, cluster, "transaction.version"); level != 1 {
		t.Errorf("transaction.version is %d, want 1", level)
	}
}
