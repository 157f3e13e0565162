package cyrus

import "sync"

// memoMost bounds a sizeMemo: some 2.5 MiB.
const memoMost = 1 << 16

// A sizeMemo remembers the sizeFiles of mailboxes without odd messages, which
// are nearly all: what holds of a UID holds for ever, so the file need not be
// read at each login (BenchmarkOpenSpool). It is believed as far as the file
// would be.
type sizeMemo struct {
	mu sync.Mutex
	by map[uint64]plainSizes // by holdKey
}

// plainSizes is a sizeFile without odd messages.
type plainSizes struct {
	uidValidity, through uint32
	modSeq               uint64
}

func (m *sizeMemo) load(key uint64) (sizeFile, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, ok := m.by[key]
	return sizeFile{uidValidity: p.uidValidity, through: p.through, modSeq: p.modSeq}, ok
}

// store takes z, or forgets what it is of when that has odd messages.
func (m *sizeMemo) store(key uint64, z *sizeFile) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case len(z.odd) > 0:
		delete(m.by, key)
		return
	case m.by == nil || len(m.by) >= memoMost:
		m.by = map[uint64]plainSizes{} // the files are still there
	}
	m.by[key] = plainSizes{z.uidValidity, z.through, z.modSeq}
}
