package benchmarks

import (
	"fmt"
	"slices"

	"github.com/oncemill/oncemill/statestore"
)

// Summary is what the runs of one workload come to.
type Summary struct {
	Workload string `json:"workload"`
	Runs     int    `json:"runs"`
	// Rate is records per CPU-second of the application's process.
	Rate Spread `json:"rate"`
	// Ratio is the rate over that of the raw loop in the same round. Absent without runs of both.
	Ratio *Spread `json:"ratio,omitempty"`
	// WallRate is records per second.
	WallRate           Spread  `json:"wallRate"`
	PeakResidentBytes  int64   `json:"peakResidentBytes"`
	AllocsPerRecord    float64 `json:"allocsPerRecord"`
	BytesPerRecord     float64 `json:"allocBytesPerRecord"`
	DiskBytesPerRecord float64 `json:"diskBytesPerRecord"`
	// CollectorShare is the part of the CPU time that went into garbage collection.
	CollectorShare     float64 `json:"collectorShare"`
	FirstOutputSeconds float64 `json:"firstOutputSeconds,omitempty"`
	Restored           uint64  `json:"restored,omitempty"`
}

// Spread of several runs.
type Spread struct {
	Min    float64 `json:"min"`
	Median float64 `json:"median"`
	Max    float64 `json:"max"`
}

func spread(values []float64) Spread {
	slices.Sort(values)
	n := len(values)
	return Spread{values[0], (values[(n-1)/2] + values[n/2]) / 2, values[n-1]}
}

func (r *Results) summarize() {
	r.Summary = nil
	for _, w := range All {
		var runs []Run
		for _, run := range r.Runs {
			if run.Workload == w {
				runs = append(runs, run)
			}
		}
		if len(runs) > 0 {
			r.Summary = append(r.Summary, r.summaryOf(w, runs))
		}
	}
}

func (r *Results) summaryOf(workload string, runs []Run) Summary {
	s := Summary{Workload: workload, Runs: len(runs)}
	var rates, walls, ratios []float64
	var cpu, collector, allocs, bytes, disk, records float64
	for i := range runs {
		run := &runs[i]
		rates = append(rates, run.Rate())
		walls = append(walls, float64(run.Records)/max(run.WallSeconds, 1e-9))
		if raw := r.rawRate(run.Round); raw > 0 && workload != Memory && workload != Restart {
			ratios = append(ratios, run.Rate()/raw)
		}
		s.PeakResidentBytes = max(s.PeakResidentBytes, run.PeakResidentBytes)
		s.FirstOutputSeconds = max(s.FirstOutputSeconds, run.FirstOutputSeconds)
		for _, n := range run.Restored {
			s.Restored += n
		}
		cpu, collector, records = cpu+run.CPUSeconds, collector+run.CollectorCPUSeconds, records+float64(run.Records)
		allocs, bytes, disk = allocs+float64(run.Allocs), bytes+float64(run.AllocBytes), disk+float64(run.DiskBytes)
	}
	s.Rate, s.WallRate = spread(rates), spread(walls)
	if len(ratios) > 0 {
		ratio := spread(ratios)
		s.Ratio = &ratio
	}
	if records > 0 {
		s.AllocsPerRecord, s.BytesPerRecord, s.DiskBytesPerRecord = allocs/records, bytes/records, disk/records
		s.CollectorShare = collector / max(cpu, 1e-9)
	}
	return s
}

func (r *Results) rawRate(round int) float64 {
	for i := range r.Runs {
		if run := &r.Runs[i]; run.Workload == Raw && run.Round == round {
			return run.Rate()
		}
	}
	return 0
}

// Floors that Check holds results against.
const (
	FloorPassThrough      = 0.75
	FloorCount            = 0.30
	FloorDedup            = 0.30
	MaxMemoryBytes        = 400 << 20
	MaxFirstOutputSeconds = 3.0
)

// Check returns what misses its floor, one line each. A ratio counts by its median.
func (r *Results) Check() []string {
	var missed []string
	for _, s := range r.Summary {
		floor := map[string]float64{W1: FloorPassThrough, W2: FloorCount, W3: FloorDedup}[s.Workload]
		switch {
		case s.Rate.Median == 0 && s.Workload != Restart && s.Workload != Memory:
			missed = append(missed, fmt.Sprintf("%s was over before it could be measured: more records are needed", s.Workload))
		case floor > 0 && s.Ratio == nil:
			missed = append(missed, fmt.Sprintf("%s has no raw loop to be compared with", s.Workload))
		case floor > 0 && s.Ratio.Median < floor:
			missed = append(missed, fmt.Sprintf("%s reaches %.2f of the raw loop, below %.2f", s.Workload, s.Ratio.Median, floor))
		case s.Workload == Memory && s.PeakResidentBytes >= MaxMemoryBytes:
			missed = append(missed, fmt.Sprintf("memory: %d MiB resident, allowed are %d", s.PeakResidentBytes>>20, MaxMemoryBytes>>20))
		case s.Workload == Restart && s.FirstOutputSeconds > MaxFirstOutputSeconds:
			missed = append(missed, fmt.Sprintf("restart: the first output after %.1f s, allowed are %.0f", s.FirstOutputSeconds, MaxFirstOutputSeconds))
		case s.Workload == Restart && s.Restored > statestore.DefaultCheckpointRecords+restartSlack:
			missed = append(missed, fmt.Sprintf("restart: %d changelog records replayed, the bound is %d", s.Restored, statestore.DefaultCheckpointRecords))
		}
	}
	return missed
}

// restartSlack is one transaction: a checkpoint is due at the bound, and taken at the end of the transaction.
const restartSlack = 100_000
