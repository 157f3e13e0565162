package cyrus

import (
	"sync"
	"time"

	"github.com/kpopd/kpopd/mailstore/cyrus/ofd"
)

const (
	// largeFrom is how many messages a maildrop has that is worth remembering: the
	// records of fewer are read in a fraction of a login's time.
	largeFrom = 4096

	// largeMost bounds a largeMemo, and largeNumbers what one maildrop may have of runs,
	// sums and hidden messages: 8 MiB in all, some 12 KiB for 100,000 messages.
	largeMost    = 256
	largeNumbers = 4096
)

// A largeMemo remembers large maildrops, at rest, as their indexes were when every
// record of them was last read and verified. A session that finds the index in that
// very state, under its lock, begins at rest: a client that only asks whether there is
// new mail, by STAT or UIDL, has the records of 100,000 messages read once, not at each
// poll ("login and STAT on 100,000" of make bench). LIST, and whatever is asked of a
// message, has them read and verified again.
type largeMemo struct {
	now func() time.Time // by the clock that stamps files

	mu sync.Mutex
	by map[ofd.Info]largeDrop
}

// A largeDrop is what a session takes from its first reading.
type largeDrop struct {
	count  int
	octets int64
	hidden []uint32 // as rest: not changed by anybody
	rest   *resting
}

// recall puts d at rest when the index is known in this state.
func (m *largeMemo) recall(d *maildrop, index *ofd.Info) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	known, ok := m.by[*index]
	if ok {
		d.count, d.octets, d.hidden, d.rest = known.count, known.octets, known.hidden, known.rest
	}
	return ok
}

// note remembers d, which was just read from an index in this state. One that was
// changed a moment ago could change again and have the same time.
func (m *largeMemo) note(d *maildrop, index *ofd.Info) {
	if d.count < largeFrom || m.now().Sub(time.Unix(0, index.Changed)) <= settledAfter {
		return
	}
	rest := d.list.atRest()
	if len(rest.runs)+len(rest.sums)+len(d.hidden) > largeNumbers {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.by == nil || len(m.by) >= largeMost {
		m.by = map[ofd.Info]largeDrop{} // what is still wanted is found again
	}
	m.by[*index] = largeDrop{d.count, d.octets, d.hidden, rest}
}
