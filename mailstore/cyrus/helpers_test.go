package cyrus

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha1"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/cyrus/cyrusdb"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
	"github.com/kpopd/kpopd/mailstore/cyrus/ofd"
)

// These tests are inside the package: they put a failing disk under a Store
// and look at octets of index records.

// testTime is when tests happen.
func testTime() time.Time { return time.Unix(1795500000, 0) }

// newConfig is a site without Cyrus, in a directory of its own.
func newConfig(t testing.TB) *imapdconf.Config {
	t.Helper()
	root := t.TempDir()
	c := imapdconf.Defaults()
	c.Dir = filepath.Join(root, "conf")
	c.Layout.DefaultPartition = "default"
	c.Layout.Partitions["default"] = imapdconf.Partition{Root: filepath.Join(root, "spool")}
	for _, dir := range []string{c.Dir, filepath.Join(root, "spool")} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Complete(); err != nil {
		t.Fatal(err)
	}
	return c
}

func newStore(t testing.TB, c *imapdconf.Config) *Store {
	t.Helper()
	s, err := Open(Options{Config: c, Mode: Embedded, Now: testTime, Location: time.UTC})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// newMailbox is a store with an empty mailbox of alice's.
func newMailbox(t testing.TB) *Store {
	t.Helper()
	s := newStore(t, newConfig(t))
	if err := s.CreateMailbox(context.Background(), "alice"); err != nil {
		t.Fatal(err)
	}
	return s
}

func appendMessage(t testing.TB, s *Store, user, text string) uint32 {
	t.Helper()
	uid, err := s.Append(context.Background(), user, strings.NewReader(text), time.Time{})
	if err != nil {
		t.Fatalf("append: %v", err)
	}
	return uid
}

func open(t testing.TB, s *Store, user string) *maildrop {
	t.Helper()
	d, err := s.Open(context.Background(), user, mailstore.Holder{Remote: "192.0.2.1"})
	if err != nil {
		t.Fatalf("open %s: %v", user, err)
	}
	t.Cleanup(func() { d.Close() })
	return d.(*maildrop)
}

// expunge removes messages through a session of their own.
func expunge(t testing.TB, s *Store, user string, ns ...mailstore.Number) {
	t.Helper()
	d := open(t, s, user)
	defer d.Close()
	if err := d.Update(context.Background(), mailstore.Changes{Deleted: ns}); err != nil {
		t.Fatalf("update: %v", err)
	}
}

func clean(t testing.TB, s *Store, user string) {
	t.Helper()
	faults, err := s.Check(context.Background(), user)
	if err != nil {
		t.Fatalf("check %s: %v", user, err)
	}
	for _, f := range faults {
		t.Errorf("%s: %v", user, &f)
	}
}

func directory(t testing.TB, s *Store, user string) string {
	t.Helper()
	d, err := s.Dump(context.Background(), user)
	if err != nil {
		t.Fatal(err)
	}
	return d.Directory
}

// unpack unpacks the fixtures whose names begin with prefix, and gives the
// directory.
func unpack(t testing.TB, prefix string) string {
	t.Helper()
	root := t.TempDir()
	f, err := os.Open("testdata/spools.tar.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return root
		}
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Clean(h.Name)
		if !filepath.IsLocal(name) || !strings.HasPrefix(name, prefix) || h.Typeflag != tar.TypeReg {
			continue
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(root, name), b)
	}
}

func write(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func contents(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// fixtureStore serves one of the spools that Cyrus has written.
func fixtureStore(t testing.TB, root string, adjust func(*imapdconf.Config)) *Store {
	t.Helper()
	path := filepath.Join(root, "imapd.conf")
	write(t, path, bytes.ReplaceAll(contents(t, path), []byte("@ROOT@"), []byte(root)))
	c, err := imapdconf.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if adjust != nil {
		adjust(c)
	}
	return newStore(t, c)
}

// lookup is where a user's mailbox lies.
func (s *Store) lookup(user string) (imapdconf.Mailbox, error) {
	name, err := s.name(user)
	if err != nil {
		return imapdconf.Mailbox{}, err
	}
	e, err := cyrusdb.MailboxList{Database: s.conf.Databases.Mailboxes}.Lookup(context.Background(), name)
	return e.Mailbox(), err
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// appendRaw stores a message octet for octet, with the record that such a file
// would have.
func appendRaw(t testing.TB, s *Store, user, text string) {
	t.Helper()
	place := must(s.lookup(user))
	path := filepath.Join(s.conf.Layout.Partitions[place.Partition].Root, "raw")
	write(t, path, []byte(text))
	f := must(ofd.Open(path, os.O_RDONLY, 0))
	stage := &staged{path: path, file: f, size: int64(len(text)), headerSize: int64(len(text)), guid: sha1.Sum([]byte(text)), arrived: testTime()}
	defer stage.drop(s)
	m, c, err := s.change(context.Background(), place.Name)
	if err != nil {
		t.Fatal(err)
	}
	defer m.release()
	if _, err := c.append(context.Background(), stage); err != nil {
		t.Fatal(err)
	}
}

func crcOf(b []byte) uint64 { return uint64(crc32.ChecksumIEEE(b)) }
