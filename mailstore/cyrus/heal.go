package cyrus

// recordsBefore is how many records the header on disk has.
func (x *indexFile) recordsBefore() uint64 { return x.layout.header.records.get(x.raw[:]) }

// heal makes the header's counters right when a crash has come between the
// writing of records and that of the header: then records have a modseq above
// the header's. begun is the header's as it was read.
//
// The counters and the basic sum follow from the records. The annotation sum
// cannot be computed anew, but what an expunge takes out of it can.
func (c *change) heal(begun uint64) error {
	l, h := c.x.layout, &c.x.header
	former := *h
	h.Exists, h.QuotaUsed, h.Deleted, h.Answered, h.Flagged, h.Unseen, h.SyncBasic = 0, 0, 0, 0, 0, 0, 0
	altered := make(map[uint64]int, len(c.altered))
	for k, i := range c.altered {
		altered[i] = k
	}
	width := l.recordSize
	err := c.m.store.scan(c.x, func(i uint64, b []byte) error {
		r := l.decodeRecord(b)
		if r.ModSeq > begun && r.Flags&FlagExpunged != 0 {
			r.Flags &^= FlagExpunged
			former.SyncAnnot ^= uint64(c.tally.virtualTerm(&r))
			if a, found := c.annotations[r.UID]; found {
				former.SyncAnnot ^= uint64(a.sum)
				former.QuotaAnnot -= min(former.QuotaAnnot, uint64(a.octets))
			}
			if former.FirstExpunged == 0 || r.LastUpdated < former.FirstExpunged {
				former.FirstExpunged = r.LastUpdated
			}
		}
		former.HighestModSeq = max(former.HighestModSeq, r.ModSeq)
		if k, found := altered[i]; found {
			b = c.new[k*width : (k+1)*width]
		}
		r = l.decodeRecord(b)
		c.tally.account(h, &r, 1)
		return nil
	})
	h.SyncAnnot, h.QuotaAnnot = former.SyncAnnot, former.QuotaAnnot
	c.healed = true
	h.FirstExpunged, h.HighestModSeq = former.FirstExpunged, former.HighestModSeq
	return err
}
