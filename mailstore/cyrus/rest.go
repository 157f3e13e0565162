package cyrus

import (
	"context"
	"sort"

	"github.com/kpopd/kpopd/mailstore"
)

// worthResting is how many messages a list must have for giving it back to be
// worth a reading of the index: below, it is less than 2 KiB.
const worthResting = 128

// A resting maildrop knows its UIDs as runs, and enough of the rest to see
// that what it reads again is what it had. It is never changed: sessions may share it.
type resting struct {
	runs []run
	sums []uint64 // of the tags, for each sumOver messages
}

// A run is consecutive UIDs.
type run struct {
	position uint32 // of the first one in the list
	uid      uint32
}

const sumOver = 64

// Rest implements mailstore.Rester.
func (d *maildrop) Rest() {
	d.closeDirectory()
	if d.rest != nil || d.closed || d.list.len() < worthResting || d.list.gone != nil {
		return
	}
	d.rest, d.list = d.list.atRest(), messages{}
}

func (s *messages) atRest() *resting {
	r := &resting{sums: make([]uint64, (s.len()+sumOver-1)/sumOver)}
	for i, uid := range s.uids {
		if i == 0 || uid != s.uids[i-1]+1 {
			r.runs = append(r.runs, run{uint32(i), uid})
		}
	}
	s.sumTags(r.sums)
	return r
}

// sumTags adds up blocks of tags, each mixed with its UID and size.
func (s *messages) sumTags(sums []uint64) {
	for i, tag := range s.tags {
		sums[i/sumOver] += (tag ^ uint64(s.uids[i])<<32 ^ uint64(s.sizes[i])) * 0x9e3779b97f4a7c15
	}
}

// uid is message n's, at rest or not.
func (d *maildrop) uid(n mailstore.Number) uint32 {
	if d.rest == nil {
		return d.list.uids[n-1]
	}
	runs, i := d.rest.runs, uint32(n-1)
	k := sort.Search(len(runs), func(k int) bool { return runs[k].position > i }) - 1
	return runs[k].uid + i - runs[k].position
}

// wake reads the list again. A record that is not there any more leaves a
// message that is gone; the numbers stay.
func (d *maildrop) wake() error {
	if d.rest == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), openWait)
	defer cancel()
	m, x, err := d.reread(ctx, toRead)
	if err != nil {
		return err
	}
	defer m.release()
	list, err := d.refill(x)
	if err != nil {
		return err
	}
	if err := d.checkTags(list, x.path); err != nil {
		return err
	}
	d.list, d.rest = *list, nil
	return nil
}

func (d *maildrop) refill(x *indexFile) (*messages, error) {
	list := &messages{
		uids: make([]uint32, 0, d.count), sizes: make([]uint32, 0, d.count), tags: make([]uint64, 0, d.count),
	}
	missing := func() {
		i := list.len()
		list.gone = setBit(list.gone, i)
		list.uids = append(list.uids, d.uid(mailstore.Number(i+1)))
		list.sizes, list.tags = append(list.sizes, 0), append(list.tags, 0)
	}
	err := d.store.scan(x, func(i uint64, b []byte) error {
		uid := x.layout.uid(b)
		for list.len() < d.count && d.uid(mailstore.Number(list.len()+1)) < uid {
			missing()
		}
		if list.len() == d.count || d.uid(mailstore.Number(list.len()+1)) != uid {
			return nil
		}
		return list.add(x, i, b)
	})
	for err == nil && list.len() < d.count {
		missing()
	}
	return list, err
}

// checkTags compares blocks none of whose messages is gone. In the others a
// UID alone must do: it is never given twice under one UIDVALIDITY (RFC 3501
// section 2.3.1.1).
func (d *maildrop) checkTags(list *messages, path string) error {
	sums := make([]uint64, len(d.rest.sums))
	list.sumTags(sums)
	for i, sum := range sums {
		if sum != d.rest.sums[i] && (i >= len(list.gone) || list.gone[i] == 0) {
			return fault(path, -1, "records of UIDs %d and following are not those of this session's beginning",
				list.uids[i*sumOver])
		}
	}
	return nil
}
