package metrics

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// A memo keeps what was found by a label: each search hashes and compares
// all labels under a lock, and a session makes a dozen (BenchmarkSession).
type memo[T any] struct {
	found sync.Map // string to T
	find  func(label string) T
}

func newMemo[T any](find func(string) T) *memo[T] { return &memo[T]{find: find} }

func (m *memo[T]) get(label string) T {
	if v, ok := m.found.Load(label); ok {
		return v.(T)
	}
	v := m.find(label)
	m.found.Store(label, v)
	return v
}

// portCounters are those of one listener.
type portCounters struct {
	connections        prometheus.Counter
	sessions, loggedIn prometheus.Gauge
}
