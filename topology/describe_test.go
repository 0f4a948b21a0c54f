package topology_test

import (
	"fmt"
	"testing"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/topology"
)

func TestDescribeOfAnInvalidTopologyIsTheErrorOfBuild(t *testing.T) {
	if _, err := topology.New("shop").Describe(); problem.CodeOf(err) != problem.TopologyInvalid {
		t.Errorf("%v", err)
	}
}

func ExampleTopology_Describe() {
	t := topology.New("shop")
	orders := source(t, "orders", "incoming")
	sink(t, "sums", through(t, "count", orders, topology.Uses(text("totals"))), "totals-by-customer")

	d, err := t.Describe()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(d.Mermaid())
	// Output:
	// flowchart LR
	//   t0(["incoming"])
	//   t1(["totals-by-customer"])
	//   subgraph sub0["orders"]
	//     s0_0[("totals")]
	//     n0["orders"]
	//     n1["count"]
	//     n2["sums"]
	//   end
	//   t0 --> n0
	//   n0 --> n1
	//   n1 --- s0_0
	//   n1 --> n2
	//   n2 --> t1
}
