package cyrus

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io/fs"

	"github.com/kpopd/kpopd/mailstore/cyrus/cyrusdb"
)

// A quotaNote is a journal's part about the quota, whose file is written before
// the index: what the change adds, and the file as it is with that. MODSEQ is
// part of it, so that the same octets are the same change.
type quotaNote struct {
	root  string // empty: the change has none
	delta cyrusdb.QuotaDelta
	file  []byte
}

func (q *quotaNote) append(b []byte) []byte {
	if q.root == "" {
		return b
	}
	for _, d := range q.delta {
		b = binary.BigEndian.AppendUint64(b, uint64(d))
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(q.root)))
	return append(append(b, q.root...), q.file...)
}

func parseQuotaNote(b []byte) (q quotaNote, ok bool) {
	if len(b) == 0 {
		return q, true
	}
	if len(b) < 8*len(q.delta)+4 {
		return q, false
	}
	for i := range q.delta {
		q.delta[i] = int64(binary.BigEndian.Uint64(b))
		b = b[8:]
	}
	root := binary.BigEndian.Uint32(b)
	if b = b[4:]; uint64(len(b)) < uint64(root) {
		return q, false
	}
	q.root, q.file = string(b[:root]), b[root:]
	return q, true
}

// commitQuota notes the change of the quota and makes it.
func (c *change) commitQuota(quota *cyrusdb.QuotaTx) error {
	c.quotaNote = quotaNote{root: c.head.QuotaRoot, delta: c.quota, file: quota.Append(nil)}
	if err := c.journal(); err != nil {
		return err
	}
	return quota.Commit()
}

// takeBack undoes the change of the quota, as far as it was made.
func (c *change) takeBack(quota *cyrusdb.QuotaTx) error {
	if quota == nil || !quota.Committed() {
		return nil
	}
	if err := c.m.store.disk.step("quota", c.m.path); err != nil {
		return err
	}
	quota.Add(c.m.place.Name.Intname(), negative(c.quota))
	return quota.Commit()
}

// undoQuota takes a change back that a kill has cut off after the quota's file
// was written. When another program has written the file since, it cannot be
// told any more whether that was so: the use may be wrong until it is counted
// anew, as after a kill of Cyrus's.
func (m *mailbox) undoQuota(q *quotaNote) error {
	if q.root == "" {
		return nil
	}
	path, err := m.quotaPath(q.root)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), changeWait)
	defer cancel()
	tx, err := cyrusdb.OpenQuota(ctx, path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return told(err)
	}
	defer tx.Close()
	if !bytes.Equal(tx.Append(nil), q.file) {
		return nil
	}
	tx.Add(m.place.Name.Intname(), negative(q.delta))
	return told(tx.Commit())
}

func negative(delta cyrusdb.QuotaDelta) cyrusdb.QuotaDelta {
	for i := range delta {
		delta[i] = -delta[i]
	}
	return delta
}
