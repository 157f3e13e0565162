package imapproxy

import (
	"github.com/emersion/go-imap"

	"github.com/kpopd/kpopd/mailstore/cyrus"
)

// maxRanges keeps a command within the 128 KiB that Cyrus takes for a word: a
// range has at most 22 octets.
const maxRanges = 5000

// setsOf are the sets of UIDs of those messages that are there. Ranges span UIDs
// of no message only: UID EXPUNGE removes whatever in its set somebody has
// marked.
func setsOf(messages []cyrus.Removed, there map[uint32]found) []*imap.SeqSet {
	var b setBuilder
	joined := false
	for _, m := range messages {
		joined = joined && m.Joined
		if _, is := there[m.UID]; is {
			b.add(m.UID, joined)
			joined = true
		} // else somebody has expunged it, and a range may go on over its UID
	}
	return b.done()
}

func setsOfUIDs(uids []uint32) []*imap.SeqSet {
	var b setBuilder
	for i, uid := range uids {
		b.add(uid, i > 0 && uids[i-1]+1 == uid)
	}
	return b.done()
}

// A setBuilder makes sets of ranges.
type setBuilder struct {
	sets     []*imap.SeqSet
	ranges   int
	from, to uint32
}

func (b *setBuilder) add(uid uint32, joined bool) {
	if joined && b.from != 0 {
		b.to = uid
		return
	}
	b.flush()
	b.from, b.to = uid, uid
}

func (b *setBuilder) flush() {
	if b.from == 0 {
		return
	}
	if b.ranges%maxRanges == 0 {
		b.sets = append(b.sets, new(imap.SeqSet))
	}
	b.sets[len(b.sets)-1].AddRange(b.from, b.to)
	b.ranges++
}

func (b *setBuilder) done() []*imap.SeqSet {
	b.flush()
	return b.sets
}
