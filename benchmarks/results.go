package benchmarks

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
)

// Results of a suite.
type Results struct {
	Settings Settings  `json:"settings"`
	Machine  Machine   `json:"machine"`
	Runs     []Run     `json:"runs"`
	Summary  []Summary `json:"summary"`
	// Inputs are topics that were filled for these runs and still exist. The suite that ends deletes them.
	Inputs []string `json:"inputs,omitempty"`

	file string
}

// Settings decide what runs can be compared.
type Settings struct {
	Records               int64   `json:"records"`
	MemoryKeys            int64   `json:"memoryKeys"`
	RestartKeys           int64   `json:"restartKeys"`
	CommitIntervalSeconds float64 `json:"commitIntervalSeconds"`
}

// Machine is where the results come from.
type Machine struct {
	CPUs     int    `json:"cpus"`
	Platform string `json:"platform"`
	Go       string `json:"go"`
}

// Run is one run of one workload.
type Run struct {
	Workload string `json:"workload"`
	Round    int    `json:"round"`
	// Outputs were read back and found right.
	Outputs int64 `json:"outputs"`
	// FirstOutputSeconds is from the start of the process to the first new committed output, in a restart.
	FirstOutputSeconds float64 `json:"firstOutputSeconds,omitempty"`
	Report
}

// Rate is records per CPU-second.
func (r *Run) Rate() float64 {
	if r.CPUSeconds == 0 {
		return 0
	}
	return float64(r.Records) / r.CPUSeconds
}

// openResults begins anew, or goes on with a file of the same settings.
func openResults(o Options) (*Results, error) {
	r := &Results{Settings: Settings{o.Records, o.MemoryKeys, o.RestartKeys, CommitInterval.Seconds()}, file: o.ResultsFile,
		Machine: Machine{runtime.NumCPU(), runtime.GOOS + "/" + runtime.GOARCH, runtime.Version()}}
	if o.ResultsFile == "" {
		return r, nil
	}
	content, err := os.ReadFile(o.ResultsFile)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	var old Results
	if err := json.Unmarshal(content, &old); err != nil {
		return nil, fmt.Errorf("results file %s: %w", o.ResultsFile, err)
	}
	if old.Settings != r.Settings || old.Machine != r.Machine {
		return nil, fmt.Errorf("results file %s is of other settings or another machine; name another file, or delete it", o.ResultsFile)
	}
	r.Runs, r.Inputs = old.Runs, old.Inputs
	return r, nil
}

// Done is how many of the runs that were asked for there are, and how many were asked for.
func (r *Results) Done(o Options) (done, asked int) {
	for _, w := range o.Workloads {
		runs := o.Runs
		if w == Memory || w == Restart {
			runs = 1
		}
		asked += runs
		for round := 1; round <= runs; round++ {
			if r.has(w, round) {
				done++
			}
		}
	}
	return done, asked
}

func (r *Results) has(workload string, round int) bool {
	return slices.ContainsFunc(r.Runs, func(run Run) bool { return run.Workload == workload && run.Round == round })
}

// add keeps a run.
func (r *Results) add(run Run) error {
	r.Runs = append(r.Runs, run)
	r.summarize()
	return r.save()
}

// addInput keeps the name of an input that was filled.
func (r *Results) addInput(topic string) error {
	if slices.Contains(r.Inputs, topic) { // filled once more, on other brokers
		return nil
	}
	r.Inputs = append(r.Inputs, topic)
	return r.save()
}

// save writes the file, if there is one, so that it is whole at every moment.
func (r *Results) save() error {
	if r.file == "" {
		return nil
	}
	content, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	temporary, err := os.CreateTemp(filepath.Dir(r.file), filepath.Base(r.file)+"-")
	if err != nil {
		return err
	}
	_, err = temporary.Write(append(content, '\n'))
	if err = errors.Join(err, temporary.Close()); err == nil {
		err = os.Rename(temporary.Name(), r.file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temporary.Name()))
	}
	return nil
}
