package cyrus

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"

	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/cyrus/cyrusdb"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
)

// ownerRights are what Cyrus gives the owner of an INBOX (RFC 4314).
const ownerRights = "lrswipkxtecdan"

// syncAnnotBase is the annotation sum of an empty mailbox since Cyrus 3.2.
const syncAnnotBase = 12345678

// Prepare makes what a spool without Cyrus begins with: its directories and an
// empty mailboxes.db. What is there stays.
func (s *Store) Prepare(ctx context.Context) error {
	for _, dir := range []string{"db", "socket", "quota", "user", "lock", "proc", "log", "msg", "sync"} {
		if err := os.MkdirAll(filepath.Join(s.config.Dir, dir), 0o700); err != nil {
			return fmt.Errorf("cyrus: %w", err)
		}
	}
	for _, p := range s.config.Layout.Partitions {
		if err := os.MkdirAll(p.Root, 0o700); err != nil {
			return fmt.Errorf("cyrus: %w", err)
		}
	}
	return cyrusdb.Create(ctx, s.config.Databases.Mailboxes)
}

// Create makes user's INBOX, in the layout that Cyrus 3.6 would give it.
func (s *Store) Create(ctx context.Context, user string) error {
	name, err := s.config.Names.ParseUserid(user)
	if err != nil {
		return fmt.Errorf("cyrus: %w: %w", mailstore.ErrUnknown, err)
	}
	now := s.options.Now().Unix()
	e := cyrusdb.MailboxEntry{
		Name: name, Kind: 'e', UniqueID: newUniqueID(), Partition: s.config.Layout.DefaultPartition,
		UIDValidity: uint32(now), CreatedModSeq: 1, FolderModSeq: 1, MTime: now, //nolint:gosec // G115: the format's own range
		ACL: []cyrusdb.Right{{Identifier: user, Rights: ownerRights}},
	}
	box := e.Mailbox()
	var h held
	defer h.release()
	namespace, err := s.config.NamespaceLock(name)
	if err != nil {
		return err
	}
	lock, err := s.config.MailboxLock(box)
	if err != nil {
		return err
	}
	if err := errors.Join(h.lockPath(ctx, namespace, true), h.lockPath(ctx, lock, true)); err != nil {
		return err
	}
	return s.locations.Create(ctx, e, func() error { return s.makeFiles(box, &e) })
}

// newUniqueID is 24 characters of [0-9a-z], as Debian's Cyrus makes them.
func newUniqueID() string {
	const alphabet = "0123456789abcdefghijklmnopqrstuvwxyz"
	b := make([]byte, 24)
	_, _ = rand.Read(b) // never fails
	for i := range b {
		b[i] = alphabet[int(b[i])%len(alphabet)]
	}
	return string(b)
}

func (s *Store) makeFiles(box imapdconf.Mailbox, e *cyrusdb.MailboxEntry) error {
	for _, file := range []imapdconf.File{imapdconf.MessageFile, imapdconf.HeaderFile, imapdconf.IndexFile} {
		dir, err := s.config.Directory(box, file)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("cyrus: %w", err)
		}
	}
	var d cyrusdb.Dlist
	d.Kind = cyrusdb.DlistMap
	d.SetText("T", "e")
	d.SetText("N", box.Name.Intname())
	d.SetText("I", box.UniqueID)
	acl := cyrusdb.Dlist{Kind: cyrusdb.DlistMap}
	for _, r := range e.ACL {
		acl.SetText(r.Identifier, r.Rights)
	}
	d.Set("A", acl)
	text := append(d.Append([]byte(headerMagic)), '\n')
	path, err := s.config.Path(box, imapdconf.HeaderFile)
	if err != nil {
		return err
	}
	if err := writeNew(path, text); err != nil {
		return err
	}
	if path, err = s.config.Path(box, imapdconf.IndexFile); err != nil {
		return err
	}
	return writeNew(path, newIndex(e, crc32.ChecksumIEEE(text)))
}

// newIndex is the index of an empty mailbox.
func newIndex(e *cyrusdb.MailboxEntry, headerCRC uint32) []byte {
	l := layoutOf(newVersion)
	h := header{make([]byte, l.start), l}
	for at, v := range map[int]uint32{
		hVersion: newVersion, hStart: uint32(l.start), hRecordSize: uint32(l.record), //nolint:gosec // G115: small constants
		hUIDValidity: e.UIDValidity, hOptions: optionNewUIDL, hHeaderCRC: headerCRC,
		hSyncAnnot: syncAnnotBase, hEpoch: uint32(e.MTime), //nolint:gosec // G115: the format's own range
	} {
		h.put32(at, v)
	}
	h.put64(hModSeq, 1)
	h.put64(hCreated, 1)
	binary.BigEndian.PutUint32(h.raw[hGeneration:], 0)
	h.seal()
	return h.raw
}
