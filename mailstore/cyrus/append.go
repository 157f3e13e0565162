package cyrus

import (
	"bytes"
	"context"
	"crypto/sha1" //nolint:gosec // Cyrus's GUID is SHA-1 by format
	"errors"
	"fmt"
	"net/mail"
	"net/textproto"
	"os"
	"path/filepath"
	"time"

	"github.com/kpopd/kpopd/mailstore"
)

// Append adds messages to a mailbox, octets as they are, all of them or none:
// files first, then records, then the header, each synced, so that a crash
// leaves at worst files that nothing names. next gives one message after the
// other and io.EOF at the end.
//
// It is for a spool without Cyrus. The records have no cyrus.cache entry, which
// Cyrus accepts and fills in.
func (s *Store) Append(ctx context.Context, mailbox string, next func() ([]byte, error), end error) error {
	box, err := s.locate(ctx, mailbox)
	if err != nil {
		return err
	}
	o, err := s.open(ctx, box, toChange)
	if err != nil {
		return err
	}
	defer o.release()
	if o.index.header.layout.version < newVersion-1 {
		return fmt.Errorf("cyrus: appending to index version %d: %w", o.index.header.layout.version, mailstore.ErrReadOnly)
	}
	a := appending{change: s.change(o, box)}
	for {
		b, err := next()
		if errors.Is(err, end) {
			break
		}
		if err != nil {
			return err
		}
		if err := a.add(b); err != nil {
			return err
		}
	}
	return a.commit(ctx)
}

// An appending collects new records.
type appending struct {
	*change
	records []byte
	octets  int64
	count   int64
	dir     string
}

func (a *appending) add(b []byte) error {
	h := a.index.header
	uid := h.u32(hLastUID) + 1
	path, err := a.store.config.MessagePath(a.box, uid, false)
	if err != nil {
		return err
	}
	now := a.store.options.Now()
	if err := writeMessage(path, b, now); err != nil {
		return err
	}
	a.dir = filepath.Dir(path)
	h.put64(hModSeq, h.modseq()+1)
	r := newRecord(h.layout, uid, b, now, h.u64(hModSeq))
	h.put32(hLastUID, uid)
	h.put32(hLastAppend, a.now)
	h.put32(hOptions, h.options())
	h.add32(hRecords, 1)
	h.add32(hExists, 1)
	h.add32(hUnseen, 1)
	h.put64(hQuotaUsed, h.u64(hQuotaUsed)+uint64(len(b)))
	h.put32(hSyncBasic, h.u32(hSyncBasic)^r.basicTerm(a.header.flags))
	a.xorAnnotations(r.virtualTerm())
	r.seal()
	a.records = append(a.records, r.raw...)
	a.octets += int64(len(b))
	a.count++
	return nil
}

// writeMessage makes the file durable. A stale one of that UID, left by a
// crash, is replaced.
func writeMessage(path string, b []byte, now time.Time) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cyrus: %w: %w", mailstore.ErrTemporary, err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // G304: a path of the spool's
	if err != nil {
		return fmt.Errorf("cyrus: %w: %w", mailstore.ErrTemporary, err)
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close(), os.Chtimes(path, now, now)); err != nil {
		return fmt.Errorf("cyrus: %w: %w", mailstore.ErrTemporary, err)
	}
	return nil
}

func newRecord(l *layout, uid uint32, b []byte, now time.Time, modseq uint64) record {
	r := record{make([]byte, l.record), l}
	date := uint32(now.Unix()) //nolint:gosec // G115: the format's own range
	sent, gm := dates(b, now)
	guid := sha1.Sum(b) //nolint:gosec // as above
	for at, v := range map[int]uint32{
		rUID: uid, rDate: date, rSentDate: sent, rSize: uint32(len(b)), rHeaderSize: uint32(headerSize(b)), //nolint:gosec // G115: messages are below 4 GiB
		rGMTime: gm, rUpdated: date, rSaveDate: date,
	} {
		r.put32(at, v)
	}
	copy(r.raw[rGUID:], guid[:])
	r.put64(rModSeq, modseq)
	r.put64(rCreated, modseq)
	return r
}

// headerSize is how long a message's header is, with its blank line.
func headerSize(b []byte) int {
	if bytes.HasPrefix(b, []byte("\r\n")) {
		return 2
	}
	if i := bytes.Index(b, []byte("\r\n\r\n")); i >= 0 {
		return i + 4
	}
	if i := bytes.Index(b, []byte("\n\n")); i >= 0 {
		return i + 2
	}
	return len(b)
}

// dates gives the Date header's day as this machine's midnight, and its moment.
func dates(b []byte, now time.Time) (sent, gm uint32) {
	at, when := now, now
	if v := field(b[:headerSize(b)], "Date"); v != "" {
		if t, err := mail.ParseDate(v); err == nil {
			at, when = t, t
		}
	}
	day := time.Date(at.Year(), at.Month(), at.Day(), 0, 0, 0, 0, time.Local)
	return uint32(day.Unix()), uint32(when.Unix()) //nolint:gosec // G115: the format's own range
}

// field finds a header field's first line; dates are not folded.
func field(header []byte, name string) string {
	for line := range bytes.Lines(header) {
		key, value, ok := bytes.Cut(line, []byte{':'})
		if ok && textproto.CanonicalMIMEHeaderKey(string(key)) == name {
			return string(bytes.TrimSpace(value))
		}
	}
	return ""
}

// commit syncs the files' directory, then writes records and header.
func (a *appending) commit(ctx context.Context) error {
	if a.count == 0 {
		return nil
	}
	dir, err := os.Open(a.dir)
	if err != nil {
		return fmt.Errorf("cyrus: %w: %w", mailstore.ErrTemporary, err)
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return fmt.Errorf("cyrus: %w: %w", mailstore.ErrTemporary, err)
	}
	if err := a.chargeQuota(ctx, a.octets, a.count, 0); err != nil {
		return err
	}
	l := a.index.header.layout
	before := a.index.len() - int(a.count)
	if _, err := a.file.WriteAt(a.records, int64(l.start+before*l.record)); err != nil {
		return fmt.Errorf("cyrus: %w: %w", mailstore.ErrTemporary, err)
	}
	return a.commitHeader(ctx)
}

// Expunge removes messages by UID as another program would: at once and beside
// open sessions. which is asked for each visible message's place from 1.
func (s *Store) Expunge(ctx context.Context, mailbox string, which func(place int) bool) error {
	box, err := s.locate(ctx, mailbox)
	if err != nil {
		return err
	}
	o, err := s.open(ctx, box, toChange)
	if err != nil {
		return err
	}
	defer o.release()
	c := s.change(o, box)
	place := 0
	for i := range o.index.len() {
		r := o.index.record(i)
		if r.has(flagExpunged) {
			continue
		}
		place++
		if !which(place) {
			continue
		}
		if err := c.expunge(&entry{uid: r.u32(rUID), guid: r.guid()}); err != nil {
			return err
		}
	}
	return c.commit(ctx)
}
