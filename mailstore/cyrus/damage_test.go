package cyrus

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
	"github.com/kpopd/kpopd/mailstore/cyrus/ofd"
)

// A spool of Cyrus's with one mailbox, which a test damages.
type damaged struct {
	store *Store
	dir   string
	index []byte
}

func newDamaged(t *testing.T) *damaged {
	root := filepath.Join(unpack(t, "uuid-v17/"), "uuid-v17")
	s := fixtureStore(t, root, nil)
	d := &damaged{store: s, dir: directory(t, s, "quota")}
	d.index = contents(t, d.path("cyrus.index"))
	return d
}

func (d *damaged) path(name string) string { return filepath.Join(d.dir, name) }

// header changes a field of the index header and makes its CRC right again.
func (d *damaged) header(t *testing.T, change func(*IndexHeader)) {
	l, h, err := decodeHeader("", d.index)
	if err != nil {
		t.Fatal(err)
	}
	change(&h)
	if err := h.encode(l, "", d.index); err != nil {
		t.Fatal(err)
	}
	write(t, d.path("cyrus.index"), d.index)
}

// record changes record i and makes its CRC right again.
func (d *damaged) record(t *testing.T, i int, change func(*Record)) {
	l, _, err := decodeHeader("", d.index)
	if err != nil {
		t.Fatal(err)
	}
	b := d.index[160+112*i:][:112]
	r := l.decodeRecord(b)
	change(&r)
	if err := l.encodeRecord("", &r, b); err != nil {
		t.Fatal(err)
	}
	write(t, d.path("cyrus.index"), d.index)
}

// word stores one word of the index, and leaves the CRCs alone.
func (d *damaged) word(t *testing.T, at int, value uint32) {
	binary.BigEndian.PutUint32(d.index[at:], value)
	write(t, d.path("cyrus.index"), d.index)
}

// A fault is one damage, and where it must be told: when the maildrop is
// opened, when its first message is, when messages are removed, or by Check.
type damage struct {
	name  string
	do    func(t *testing.T, d *damaged)
	stage string // open, read, update, check
	says  string
}

func damages() []damage {
	flip := func(t *testing.T, path string, at int) {
		b := contents(t, path)
		b[at] ^= 0x20
		write(t, path, b)
	}
	return []damage{
		{"index missing", func(t *testing.T, d *damaged) { os.Remove(d.path("cyrus.index")) }, "open", "there is no index"},
		{"index empty", func(t *testing.T, d *damaged) { write(t, d.path("cyrus.index"), nil) }, "open", "short of a header"},
		{"index cut in header", func(t *testing.T, d *damaged) { write(t, d.path("cyrus.index"), d.index[:100]) }, "open", "ends within its header"},
		{"index cut in record", func(t *testing.T, d *damaged) { write(t, d.path("cyrus.index"), d.index[:len(d.index)-1]) }, "open", "cut short"},
		{"index is a link", func(t *testing.T, d *damaged) {
			os.Rename(d.path("cyrus.index"), d.path("elsewhere"))
			os.Symlink("elsewhere", d.path("cyrus.index"))
		}, "open", "there is no index"},
		{"index is a directory", func(t *testing.T, d *damaged) {
			os.Remove(d.path("cyrus.index"))
			os.Mkdir(d.path("cyrus.index"), 0o700)
		}, "open", "not a regular file"},
		{"format 1", func(t *testing.T, d *damaged) { d.word(t, 4, 1) }, "open", "format 1 is not known"},
		{"version 11", func(t *testing.T, d *damaged) { d.word(t, 8, 11) }, "open", "version 11 is not known"},
		{"version 18", func(t *testing.T, d *damaged) { d.word(t, 8, 18) }, "open", "version 18 is not known"},
		{"version 21", func(t *testing.T, d *damaged) { d.word(t, 8, 21) }, "open", "version 21 is not known"},
		{"header size", func(t *testing.T, d *damaged) { d.word(t, 12, 192) }, "open", "header of 192 octets; version 17 has 160"},
		{"record size", func(t *testing.T, d *damaged) { d.word(t, 16, 144) }, "open", "records of 144 octets; version 17 has 112"},
		{"2^32-1 records", func(t *testing.T, d *damaged) {
			d.header(t, func(h *IndexHeader) { h.Records = 1<<32 - 1 })
		}, "open", "4294967295 records should end"},
		{"header CRC", func(t *testing.T, d *damaged) { d.word(t, 156, 1) }, "open", "header CRC"},
		{"header field", func(t *testing.T, d *damaged) { d.word(t, 84, 1) }, "open", "header CRC"},
		{"record CRC", func(t *testing.T, d *damaged) { d.word(t, 160+112+108, 1) }, "open", "record CRC"},
		{"record field", func(t *testing.T, d *damaged) { d.word(t, 160+112+12, 1) }, "open", "record CRC"},
		{"UIDs not ascending", func(t *testing.T, d *damaged) {
			d.record(t, 3, func(r *Record) { r.UID = 2 })
		}, "open", "UID 2 after 3"},
		{"UID 0", func(t *testing.T, d *damaged) { d.record(t, 0, func(r *Record) { r.UID = 0 }) }, "open", "UID 0 after 0"},
		{"UID of the future", func(t *testing.T, d *damaged) {
			d.record(t, 4, func(r *Record) { r.UID = 99 })
		}, "open", "last UID is 5, but there is a record of 99"},
		{"message shorter", func(t *testing.T, d *damaged) { write(t, d.path("1."), []byte("x")) }, "read", "1 octets, its record says"},
		{"message longer", func(t *testing.T, d *damaged) {
			write(t, d.path("1."), append(contents(t, d.path("1.")), 'x'))
		}, "read", "its record says"},
		{"message a link", func(t *testing.T, d *damaged) {
			os.Remove(d.path("1."))
			os.Symlink("/etc/passwd", d.path("1."))
		}, "read", "symbolic link"},
		{"message a FIFO", func(t *testing.T, d *damaged) {
			os.Remove(d.path("1."))
			unix.Mkfifo(d.path("1."), 0o600)
		}, "read", "not a regular file"},
		{"message a directory", func(t *testing.T, d *damaged) {
			os.Remove(d.path("1."))
			os.Mkdir(d.path("1."), 0o700)
		}, "read", "not a regular file"},
		{"message a socket", func(t *testing.T, d *damaged) {
			os.Remove(d.path("1."))
			unix.Mknod(d.path("1."), unix.S_IFSOCK|0o600, 0)
		}, "read", "temporarily unavailable"},
		{"header missing", func(t *testing.T, d *damaged) { os.Remove(d.path("cyrus.header")) }, "update", "there is no such file"},
		{"header magic", func(t *testing.T, d *damaged) { flip(t, d.path("cyrus.header"), 0) }, "update", "does not begin as"},
		{"header octet", func(t *testing.T, d *damaged) { flip(t, d.path("cyrus.header"), 130) }, "update", "CRC in the index"},
		{"header cut", func(t *testing.T, d *damaged) { os.Truncate(d.path("cyrus.header"), 140) }, "update", "mailbox header"},
		{"header uniqueid", func(t *testing.T, d *damaged) {
			b := bytes.Replace(contents(t, d.path("cyrus.header")), []byte("I rr5e"), []byte("I aa5e"), 1)
			write(t, d.path("cyrus.header"), b)
			d.header(t, func(h *IndexHeader) { h.HeaderFileCRC = uint64(crc32.ChecksumIEEE(b)) })
		}, "update", "mailboxes.db says"},
		{"annotations damaged", func(t *testing.T, d *damaged) { write(t, d.path("cyrus.annotations"), []byte("nonsense")) }, "update", "cyrus.annotations"},
		{"quota file damaged", func(t *testing.T, d *damaged) {
			write(t, filepath.Join(d.store.conf.Dir, "quota", "q", "user.quota"), []byte("%(S (\n"))
		}, "update", "quota"},
		{"exists", func(t *testing.T, d *damaged) { d.header(t, func(h *IndexHeader) { h.Exists++ }) }, "check", "exists is 5"},
		{"quota used", func(t *testing.T, d *damaged) { d.header(t, func(h *IndexHeader) { h.QuotaUsed++ }) }, "check", "quota used"},
		{"deleted", func(t *testing.T, d *damaged) { d.header(t, func(h *IndexHeader) { h.Deleted++ }) }, "check", "deleted is 1"},
		{"answered", func(t *testing.T, d *damaged) { d.header(t, func(h *IndexHeader) { h.Answered++ }) }, "check", "answered is 1"},
		{"flagged", func(t *testing.T, d *damaged) { d.header(t, func(h *IndexHeader) { h.Flagged++ }) }, "check", "flagged is 1"},
		{"unseen", func(t *testing.T, d *damaged) { d.header(t, func(h *IndexHeader) { h.Unseen++ }) }, "check", "unseen is"},
		{"sync CRC", func(t *testing.T, d *damaged) { d.header(t, func(h *IndexHeader) { h.SyncBasic ^= 1 }) }, "check", "sync CRC"},
		{"annotation CRC", func(t *testing.T, d *damaged) { d.header(t, func(h *IndexHeader) { h.SyncAnnot ^= 1 }) }, "check", "annotation CRC"},
		{"annotation quota", func(t *testing.T, d *damaged) { d.header(t, func(h *IndexHeader) { h.QuotaAnnot++ }) }, "check", "annotations' quota"},
		{"modseq of the future", func(t *testing.T, d *damaged) {
			d.record(t, 0, func(r *Record) { r.ModSeq = 1 << 40 })
		}, "check", "highest modseq"},
		{"first expunged", func(t *testing.T, d *damaged) { d.header(t, func(h *IndexHeader) { h.FirstExpunged = 0 }) }, "check", "first expunged"},
		{"uidvalidity", func(t *testing.T, d *damaged) { d.header(t, func(h *IndexHeader) { h.UIDValidity++ }) }, "check", "uidvalidity"},
		{"generation", func(t *testing.T, d *damaged) { d.header(t, func(h *IndexHeader) { h.Generation++ }) }, "check", "generation 0, the index is of 1"},
		{"GUID", func(t *testing.T, d *damaged) { d.record(t, 0, func(r *Record) { r.GUID[0]++ }) }, "check", "its SHA-1 is"},
		{"message octet", func(t *testing.T, d *damaged) { flip(t, d.path("1."), 0) }, "check", "its SHA-1 is"},
		{"message missing", func(t *testing.T, d *damaged) { os.Remove(d.path("1.")) }, "check", "message cannot be opened"},
		{"message orphaned", func(t *testing.T, d *damaged) { write(t, d.path("77."), []byte("x")) }, "check", "no record has this message"},
		{"cache octet", func(t *testing.T, d *damaged) { flip(t, d.path("cyrus.cache"), 40) }, "check", "cache record of UID 1 is damaged"},
		{"cache missing", func(t *testing.T, d *damaged) { os.Remove(d.path("cyrus.cache")) }, "check", "there is no cache"},
		{"quota count", func(t *testing.T, d *damaged) {
			write(t, filepath.Join(d.store.conf.Dir, "quota", "q", "user.quota"), []byte("%(S (1 100) M (4 50) AS (0) NF (1) MODSEQ 8)\n"))
		}, "check", "storage used is 1"},
		{"quota file missing", func(t *testing.T, d *damaged) {
			os.Remove(filepath.Join(d.store.conf.Dir, "quota", "q", "user.quota"))
		}, "check", "quota"},
	}
}

// TestDamage: each fault is refused where it matters, named, and nothing is
// changed; Check finds all of them.
func TestDamage(t *testing.T) {
	t.Parallel()
	for _, test := range damages() {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			d := newDamaged(t)
			clean(t, d.store, "quota")
			test.do(t, d)
			before, _ := os.ReadFile(d.path("cyrus.index"))
			err := firstFault(t, d.store, test.stage)
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("told: %v; should say %q", err, test.says)
			}
			if test.stage != "check" && !errors.Is(err, mailstore.ErrDamaged) && !errors.Is(err, mailstore.ErrTemporary) {
				t.Errorf("%v is neither ErrDamaged nor ErrTemporary", err)
			}
			if after, _ := os.ReadFile(d.path("cyrus.index")); test.stage != "check" && !bytes.Equal(before, after) {
				t.Error("a damaged mailbox was changed")
			}
			if faults, err := d.store.Check(context.Background(), "quota"); err == nil && len(faults) == 0 {
				t.Error("Check finds nothing")
			}
		})
	}
}

// firstFault goes through a session up to a stage.
func firstFault(t *testing.T, s *Store, stage string) error {
	if stage == "check" {
		faults, err := s.Check(context.Background(), "quota")
		for i := range faults {
			err = errors.Join(err, &faults[i])
		}
		return err
	}
	d, err := s.Open(context.Background(), "quota", mailstore.Holder{})
	if err != nil || stage == "open" {
		return err
	}
	defer d.Close()
	m, err := d.Open(1)
	if _, _, _, same := d.(mailstore.Appender).AppendMessage(nil, 1, 1<<20); fmt.Sprint(same) != fmt.Sprint(err) {
		t.Errorf("Open says %v, AppendMessage %v", err, same)
	}
	if err != nil || stage == "read" {
		return err
	}
	m.Close()
	return d.Update(context.Background(), mailstore.Changes{Deleted: []mailstore.Number{1}})
}

// TestGUIDChanged: the message under a UID is not the one the session saw.
func TestGUIDChanged(t *testing.T) {
	t.Parallel()
	d := newDamaged(t)
	drop := open(t, d.store, "quota")
	d.record(t, 0, func(r *Record) { r.GUID[0]++ })
	err := drop.Update(context.Background(), mailstore.Changes{Deleted: []mailstore.Number{1}})
	if !errors.Is(err, mailstore.ErrDamaged) || !strings.Contains(err.Error(), "another GUID") {
		t.Errorf("%v", err)
	}
}

// TestCountersTold: wrong counters keep nobody out, and the log has file and
// offset.
func TestCountersTold(t *testing.T) {
	t.Parallel()
	for says, change := range map[string]func(*IndexHeader){
		"cyrus.index at octet 84: exists is 5, the records give 4": func(h *IndexHeader) { h.Exists++ },
		"cyrus.index at octet 32: quota used is":                   func(h *IndexHeader) { h.QuotaUsed-- },
		"":                                                         func(*IndexHeader) {},
	} {
		d := newDamaged(t)
		var log bytes.Buffer
		d.store.log = slog.New(slog.NewTextHandler(&log, nil))
		d.header(t, change)
		open(t, d.store, "quota")
		if got := log.String(); !strings.Contains(got, says) || says == "" && got != "" {
			t.Errorf("logged %q, should say %q", got, says)
		}
	}
}

// TestMailboxReplaced: another mailbox has taken the name, or UIDs are new.
func TestMailboxReplaced(t *testing.T) {
	t.Parallel()
	d := newDamaged(t)
	drop := open(t, d.store, "quota")
	d.header(t, func(h *IndexHeader) { h.UIDValidity++ })
	err := drop.Update(context.Background(), mailstore.Changes{Deleted: []mailstore.Number{1}})
	if !errors.Is(err, mailstore.ErrGone) {
		t.Errorf("%v", err)
	}
}

// TestEveryOctet flips and cuts a small index at every octet: it is refused,
// or harmless.
func TestEveryOctet(t *testing.T) {
	t.Parallel()
	s := newMailbox(t)
	appendMessage(t, s, "alice", "Subject: a\r\n\r\nb\r\n")
	appendMessage(t, s, "alice", "Subject: c\r\n\r\nd\r\n")
	path := must(s.conf.Path(must(s.lookup("alice")), imapdconf.IndexFile))
	good := contents(t, path)
	try := func(what string, at int, b []byte) {
		write(t, path, b)
		d, err := s.Open(context.Background(), "alice", mailstore.Holder{})
		if err == nil {
			d.Close()
			t.Errorf("%s at %d: accepted", what, at)
			return
		}
		if !errors.Is(err, mailstore.ErrDamaged) {
			t.Errorf("%s at %d: %v", what, at, err)
		}
	}
	for i := range good {
		b := bytes.Clone(good)
		for _, bit := range []byte{1, 0x80} {
			b[i] = good[i] ^ bit
			try("flipped", i, b)
		}
		try("cut", i, good[:i])
	}
	write(t, path, append(bytes.Clone(good), make([]byte, 50)...))
	if d := open(t, s, "alice"); d.Len() != 2 {
		t.Errorf("what lies after the last record: %d messages", d.Len())
	}
}

// FuzzIndex feeds any octets as an index.
func FuzzIndex(f *testing.F) {
	h, err := newIndex(1, 1, 1)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(h)
	for _, minor := range []int{6, 8, 10, 12, 13, 16, 19, 20} {
		l, _ := layoutOf(minor)
		b := make([]byte, l.headerSize+l.recordSize)
		head := IndexHeader{Minor: uint64(minor), Start: uint64(l.headerSize), RecordSize: uint64(l.recordSize), Records: 1, LastUID: 1}
		if l.header.crc.width == 0 {
			l.header.crc = u32(l.headerSize - 4)
		}
		if err := head.encode(l, "", b); err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	s := newStore(f, newConfig(f))
	file := must(ofd.Open(filepath.Join(f.TempDir(), "cyrus.index"), os.O_RDWR|os.O_CREATE, 0o600))
	f.Fuzz(func(t *testing.T, b []byte) {
		must(file.WriteAt(b, 0))
		if err := file.Truncate(int64(len(b))); err != nil {
			t.Fatal(err)
		}
		x, err := (&mailbox{store: s, index: file, path: file.Name()}).readIndex()
		if err != nil {
			if !errors.Is(err, mailstore.ErrDamaged) {
				t.Errorf("%v", err)
			}
			return
		}
		d := &maildrop{store: s}
		if err := d.fill(x); err != nil && !errors.Is(err, mailstore.ErrDamaged) {
			t.Errorf("%v", err)
		}
	})
}

func FuzzMailboxHeader(f *testing.F) {
	f.Add([]byte(headerMagic + "%(T e N user.a I abcdefgh A %(a lrs) U ($K NIL b))\n"))
	f.Add([]byte(headerMagic + "user.a\tabcdefgh\n$K  b\na\tlrs\t\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseMailboxHeader("x", b)
		if err != nil {
			return
		}
		if _, err := ParseMailboxHeader("x", h.Append(nil)); err != nil && !h.Old {
			t.Errorf("%q is not read again: %v", h.Append(nil), err)
		}
	})
}

func FuzzStateFiles(f *testing.F) {
	z := sizeFile{uidValidity: 1, through: 2, odd: []oddSize{{uid: 1, stored: 2, octets: 3, eightBit: true}}}
	f.Add(z.append(nil))
	j := journal{before: make([]byte, 160), after: make([]byte, 160), width: 112, numbers: []uint64{3}, records: make([]byte, 112)}
	f.Add(j.encode())
	f.Add(append(j.encode(), j.encode()...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if z, ok := parseSizes(b); ok && !bytes.Equal(z.append(nil), b) {
			t.Errorf("sizes %+v", z)
		}
		if j, ok := parseJournal(b); ok && !bytes.Equal(j.encode(), b) {
			t.Errorf("journal %+v", j)
		}
		if j, ok := lastJournal(b); ok && !bytes.Contains(b, j.encode()) {
			t.Errorf("last journal %+v", j)
		}
	})
}
