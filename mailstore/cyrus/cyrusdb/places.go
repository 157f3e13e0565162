package cyrusdb

import (
	"bytes"
	"hash/maphash"
	"sync"

	"github.com/kpopd/kpopd/mailstore/cyrus/ofd"
)

// maxPlaces bounds a Places: some 3 MiB.
const maxPlaces = 1 << 17

// A Places remembers where in mailboxes.db records were found, so that the next
// login of a user reads one record and not twenty (BenchmarkLookup). It holds
// for one state of one twoskip file: every transaction moves the end that its
// header tells, and a checkpoint makes another file. The file is locked and its
// header read and checked as ever, and so is the record, which must have the
// very key. The zero value is empty; it is safe for concurrent use.
type Places struct {
	mu    sync.Mutex
	seed  maphash.Seed
	state placesState
	at    map[uint64]uint64 // by the key's hash: offsets
}

type placesState struct {
	file   ofd.ID
	header tsHeader
}

// of makes a Reader whose Get looks there first. A file that a crash has left
// behind is searched.
func (p *Places) of(r Reader) Reader {
	t, ok := r.(*tsReader)
	if p == nil || !ok || t.dirty {
		return r
	}
	return &placedReader{t, p}
}

func (p *Places) find(state placesState, key []byte) (offset uint64, known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != state {
		p.seed, p.state, p.at = maphash.MakeSeed(), state, map[uint64]uint64{}
		return 0, false
	}
	offset, known = p.at[maphash.Bytes(p.seed, key)]
	return offset, known
}

func (p *Places) note(state placesState, key []byte, offset uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != state {
		return
	}
	if len(p.at) >= maxPlaces {
		clear(p.at)
	}
	p.at[maphash.Bytes(p.seed, key)] = offset
}

type placedReader struct {
	*tsReader
	places *Places
}

// Get implements Reader.
func (r *placedReader) Get(key []byte) (value []byte, found bool, err error) {
	state := placesState{r.file, r.header}
	if offset, known := r.places.find(state, key); known {
		if hit := r.recordAt(offset, key); hit != nil {
			value, err = r.value(hit)
			return value, err == nil, err
		}
	}
	hit, err := r.exact(key, nil)
	if hit == nil || err != nil {
		return nil, false, err
	}
	r.places.note(state, key, hit.offset)
	value, err = r.value(hit)
	return value, err == nil, err
}

// recordAt is the record at offset when it is of that key; nil: it is to be
// searched.
func (r *tsReader) recordAt(offset uint64, key []byte) *tsNode {
	r.resetSteps()
	n := &r.nodes[0]
	if err := r.read(offset, n); err != nil || n.kind != recPut {
		return nil
	}
	if found, err := r.key(n); err != nil || !bytes.Equal(found, key) {
		return nil
	}
	return n
}
