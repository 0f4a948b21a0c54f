// Package measure reads what a run has cost this process: CPU time, memory, allocations, bytes to disk, garbage collection.
package measure

import (
	"os"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Snapshot is the state of the process's meters at one moment.
type Snapshot struct {
	at           time.Time
	cpu          time.Duration
	allocs       uint64
	allocBytes   uint64
	collections  uint32
	pause        time.Duration
	collectorCPU float64
	written      int64
}

// Usage is the difference of two snapshots.
type Usage struct {
	WallSeconds float64 `json:"wallSeconds"`
	// CPUSeconds is user and system time of all threads of the process.
	CPUSeconds float64 `json:"cpuSeconds"`
	Allocs     uint64  `json:"allocs"`
	AllocBytes uint64  `json:"allocBytes"`
	// Collections of garbage, the time that they stopped the program, and the CPU time they took, as the runtime estimates it.
	Collections         uint32  `json:"collections"`
	PauseSeconds        float64 `json:"pauseSeconds"`
	CollectorCPUSeconds float64 `json:"collectorCpuSeconds"`
	// DiskBytes were caused to be written to a disk, as the kernel counts them: 0 on a file system in memory, and where the
	// kernel does not tell.
	DiskBytes int64 `json:"diskBytes"`
}

// Take reads the meters. It stops the program for some microseconds.
func Take() Snapshot {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return Snapshot{at: time.Now(), cpu: CPU(), allocs: m.Mallocs, allocBytes: m.TotalAlloc, collections: m.NumGC,
		pause: time.Duration(m.PauseTotalNs), collectorCPU: collectorCPU(), written: proc("io", "write_bytes")}
}

// Since is what was used between an earlier snapshot and s.
func (s Snapshot) Since(earlier Snapshot) Usage {
	return Usage{
		WallSeconds: s.at.Sub(earlier.at).Seconds(), CPUSeconds: (s.cpu - earlier.cpu).Seconds(),
		Allocs: s.allocs - earlier.allocs, AllocBytes: s.allocBytes - earlier.allocBytes,
		Collections: s.collections - earlier.collections, PauseSeconds: (s.pause - earlier.pause).Seconds(),
		CollectorCPUSeconds: s.collectorCPU - earlier.collectorCPU, DiskBytes: s.written - earlier.written,
	}
}

// CPU is the user and system time of the process.
func CPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func collectorCPU() float64 {
	sample := []metrics.Sample{{Name: "/cpu/classes/gc/total:cpu-seconds"}}
	metrics.Read(sample)
	return sample[0].Value.Float64()
}

// PeakResidentBytes is the largest resident memory of the process (VmHWM), 0 where the kernel does not tell. It is not
// getrusage's ru_maxrss: that begins with the size of the parent.
func PeakResidentBytes() int64 { return proc("status", "VmHWM") << 10 }

// proc returns a number of /proc/self.
func proc(file, field string) int64 {
	content, err := os.ReadFile("/proc/self/" + file)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(content)) {
		name, rest, _ := strings.Cut(line, ":")
		if name != field {
			continue
		}
		n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
		if err != nil {
			return 0
		}
		return n
	}
	return 0
}
