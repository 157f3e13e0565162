package cyrus

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
	"github.com/kpopd/kpopd/mailstore/cyrus/ofd"
)

// expected is what an independent reader (in Python) made of a mailbox.
type expected struct {
	Header struct {
		ACL       any // a string of old headers
		Flags     []*string
		Kind      string
		Name      string
		QuotaRoot string
		UniqueID  string
	}
	Index   map[string]uint64
	Records []struct {
		UID, InternalDate, SentDate, Size, Flags, GMTime uint64
		HeaderSize                                       uint64    `json:"header_size"`
		CacheOffset                                      uint64    `json:"cache_lo"`
		LastUpdated                                      uint64    `json:"last_updated"`
		UserFlags                                        [4]uint32 `json:"uf"`
		SaveDate, ModSeq, CID, CreatedModSeq             uint64
		CacheVersion                                     uint64 `json:"cv"`
		GUID                                             *string
		CacheCRC                                         uint64 `json:"cache_crc"`
	}
	POP []map[string]any
}

// goldenIndex gives the header by the names in expected.json.
func goldenIndex(h *IndexHeader) map[string]uint64 {
	return map[string]uint64{
		"answered": h.Answered, "changes_epoch": h.ChangesEpoch, "createdmodseq": h.CreatedModSeq, "deleted": h.Deleted,
		"deletedmodseq": h.DeletedModSeq, "exists": h.Exists, "first_expunged": h.FirstExpunged, "flagged": h.Flagged,
		"format": h.Format, "generation": h.Generation, "header_file_crc": h.HeaderFileCRC,
		"highestmodseq": h.HighestModSeq, "last_appenddate": h.LastAppend, "last_repack": h.LastRepack,
		"last_uid": h.LastUID, "leaked": h.Leaked, "minor": h.Minor, "num_records": h.Records, "options": h.Options,
		"pop3_last_login": h.LastLogin, "pop3_show_after": h.ShowAfter, "quota_annot": h.QuotaAnnot,
		"quota_used": h.QuotaUsed, "recenttime": h.RecentTime, "recentuid": h.RecentUID, "recsize": h.RecordSize,
		"start": h.Start, "sync_annot": h.SyncAnnot, "sync_basic": h.SyncBasic, "uidvalidity": h.UIDValidity,
		"unseen": h.Unseen,
	}
}

// TestGolden decodes every mailbox that Cyrus has written, in every version.
func TestGolden(t *testing.T) {
	t.Parallel()
	root := unpack(t, "")
	files, err := filepath.Glob(filepath.Join(root, "*", "expected.json"))
	if err != nil || len(files) != 6 {
		t.Fatalf("%d fixtures, %v", len(files), err)
	}
	s := newStore(t, newConfig(t))
	for _, file := range files {
		all := map[string]expected{}
		if err := json.Unmarshal(contents(t, file), &all); err != nil {
			t.Fatal(err)
		}
		for where, want := range all {
			t.Run(filepath.Base(filepath.Dir(file))+"/"+where, func(t *testing.T) {
				goldenMailbox(t, s, filepath.Dir(file), where, &want)
			})
		}
	}
}

func goldenMailbox(t *testing.T, s *Store, fixture, where string, want *expected) {
	meta := filepath.Join(fixture, where)
	if _, err := os.Stat(filepath.Join(meta, "cyrus.index")); err != nil {
		meta = filepath.Join(fixture, strings.Replace(where, "spool", "meta", 1))
	}
	f, err := ofd.Open(filepath.Join(meta, "cyrus.index"), os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m := &mailbox{store: s, index: f, path: f.Name()}
	x, err := m.readIndex()
	if err != nil {
		t.Fatal(err)
	}
	got := goldenIndex(&x.header)
	for name, value := range want.Index {
		if name == "options" && x.header.Exists == 0 {
			value |= OptionNewUIDL
		}
		if got[name] != value {
			t.Errorf("%s is %d, should be %d", name, got[name], value)
		}
	}
	goldenRecords(t, s, x, want)
	goldenHeader(t, filepath.Join(meta, "cyrus.header"), x, want)
}

func goldenRecords(t *testing.T, s *Store, x *indexFile, want *expected) {
	n := 0
	err := s.scan(x, func(i uint64, b []byte) error {
		r, w := x.layout.decodeRecord(b), want.Records[n]
		n++
		guid := ""
		if w.GUID != nil {
			guid = *w.GUID
		} else {
			r.GUID = GUID{}
			guid = GUID{}.String()
		}
		if x.layout.minor < 12 {
			w.GMTime = 0 // the header size again
		}
		due := Record{
			UID: uint32(w.UID), InternalDate: w.InternalDate, SentDate: w.SentDate, Size: w.Size, HeaderSize: w.HeaderSize,
			GMTime: w.GMTime, CacheOffset: w.CacheOffset, LastUpdated: w.LastUpdated, Flags: Flags(w.Flags),
			UserFlags: w.UserFlags, SaveDate: w.SaveDate, CacheVersion: w.CacheVersion, GUID: r.GUID, ModSeq: w.ModSeq,
			CID: w.CID, CreatedModSeq: w.CreatedModSeq, CacheCRC: uint32(w.CacheCRC),
		}
		if r != due || r.GUID.String() != guid {
			t.Errorf("record %d:\n got %+v\nwant %+v", i, r, due)
		}
		return encodesAgain(x, &r, b)
	})
	if err != nil || n != len(want.Records) {
		t.Errorf("%d records of %d: %v", n, len(want.Records), err)
	}
}

// encodesAgain: what is written is what Cyrus has written.
func encodesAgain(x *indexFile, r *Record, b []byte) error {
	if !x.layout.writable {
		return nil
	}
	again := make([]byte, len(b))
	if err := x.layout.encodeRecord(x.path, r, again); err != nil {
		return err
	}
	if !bytes.Equal(again, b) {
		return fmt.Errorf("record of UID %d is encoded otherwise:\n%x\n%x", r.UID, again, b)
	}
	return nil
}

func goldenHeader(t *testing.T, path string, x *indexFile, want *expected) {
	octets := contents(t, path)
	h, err := ParseMailboxHeader(path, octets)
	if err != nil {
		t.Fatal(err)
	}
	if h.UniqueID != want.Header.UniqueID || h.QuotaRoot != want.Header.QuotaRoot || h.Old != (want.Header.Kind != "dlist") {
		t.Errorf("header %+v", h)
	}
	acl, isMap := want.Header.ACL.(map[string]any)
	for _, r := range h.ACL {
		if isMap && acl[r.Identifier] != r.Rights {
			t.Errorf("%s has %q, should have %v", r.Identifier, r.Rights, acl[r.Identifier])
		}
	}
	var flags []string
	for _, f := range want.Header.Flags {
		if f == nil {
			f = new(string)
		}
		flags = append(flags, *f)
	}
	if !slices.Equal(h.Flags, flags) {
		t.Errorf("keywords %q, should be %q", h.Flags, flags)
	}
	if again := h.Append(nil); !bytes.Equal(again, octets) {
		t.Errorf("header is written otherwise:\n%q\n%q", again, octets)
	}
	if sum := uint64(crc32.ChecksumIEEE(octets)); x.layout.hasCRC() && sum != x.header.HeaderFileCRC {
		t.Errorf("header's CRC %d, the index says %d", sum, x.header.HeaderFileCRC)
	}
	if x.layout.writable {
		raw := bytes.Clone(x.raw[:x.layout.headerSize])
		head := x.header
		head.Options = want.Index["options"]
		if err := head.encode(x.layout, path, raw); err != nil || !bytes.Equal(raw, x.raw[:x.layout.headerSize]) {
			t.Errorf("index header is written otherwise (%v)", err)
		}
	}
}

// goldenUsers are the mailboxes that the fixtures' mailboxes.db knows.
func goldenUsers() map[string][]string {
	return map[string][]string{
		"uuid-v17":         {"fresh", "deliv", "popexp", "flags", "quota", "annot", "imm", "first.last", "flags+Archive"},
		"legacy-2.4-2.5":   {"gina", "hank"},
		"go-style-written": {"ivy", "jo.an", "zed"},
		"byname-v17-meta-fulldirhash-virtdomains": {"dave", "d.dot", "eve@dom.example"},
		"conversations-v17":                       {"fred"},
	}
}

// TestGoldenMaildrop opens what Cyrus's pop3d has served: the same messages,
// sizes and unique-ids in each format.
func TestGoldenMaildrop(t *testing.T) {
	t.Parallel()
	for fixture, users := range goldenUsers() {
		t.Run(fixture, func(t *testing.T) {
			t.Parallel()
			root := filepath.Join(unpack(t, fixture+"/"), fixture)
			s := fixtureStore(t, root, func(c *imapdconf.Config) { c.POP.Subfolders = true })
			all := map[string]expected{}
			if err := json.Unmarshal(contents(t, filepath.Join(root, "expected.json")), &all); err != nil {
				t.Fatal(err)
			}
			for _, user := range users {
				goldenDrop(t, s, root, user, all)
				clean(t, s, user)
			}
		})
	}
}

func goldenDrop(t *testing.T, s *Store, root, user string, all map[string]expected) {
	t.Helper()
	for _, style := range []string{"cyrus", "uidonly", "dovecot", "courier"} {
		drop, err := s.Open(context.Background(), user, mailstore.Holder{UIDStyle: style})
		if err != nil {
			t.Errorf("%s: %v", user, err)
			return
		}
		d := drop.(*maildrop)
		where, err := filepath.Rel(root, d.directory)
		if err != nil {
			t.Fatal(err)
		}
		want, found := all[where]
		if !found { // where the index lies apart
			want, found = all[strings.Replace(where, "spool", "meta", 1)]
		}
		if !found || len(want.POP) != d.Len() {
			t.Errorf("%s (%s): %d messages, should be %d", user, where, d.Len(), len(want.POP))
		}
		var sum int64
		for i, w := range want.POP {
			n := mailstore.Number(i + 1)
			size, err := d.Size(n)
			if err != nil || float64(size) != w["size"] {
				t.Errorf("%s: message %d of %d octets, %v; should be %v", user, n, size, err, w["size"])
			}
			sum += size
			if id := string(d.AppendUniqueID(nil, n)); id != w["uidl_"+style] {
				t.Errorf("%s: unique-id %q, should be %q", user, id, w["uidl_"+style])
			}
			m, err := d.Open(n)
			if err != nil || !m.Canonical() {
				t.Errorf("%s: message %d: %v", user, n, err)
				continue
			}
			m.Close()
		}
		if octets, err := d.Octets(); octets != sum || err != nil {
			t.Errorf("%s: %d octets, %v", user, octets, err)
		}
		d.Close()
	}
}
