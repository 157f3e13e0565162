package cyrus

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
	"github.com/kpopd/kpopd/mailstore/cyrus/ofd"
)

// grow adds n records without files to alice's mailbox, in one change.
func grow(t testing.TB, s *Store, n int) {
	t.Helper()
	m, c, err := s.change(context.Background(), must(s.name("alice")))
	if err != nil {
		t.Fatal(err)
	}
	defer m.release()
	for i := range n {
		r, err := c.nextRecord()
		if err != nil {
			t.Fatal(err)
		}
		r.Size, r.HeaderSize, r.InternalDate = uint64(2000+i%100), 500, c.now
		r.GUID = GUID{1, byte(i), byte(i >> 8), byte(i >> 16)}
		if err := c.add(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.commit(context.Background()); err != nil {
		t.Fatal(err)
	}
	z := sizeFile{uidValidity: uint32(c.x.header.UIDValidity), through: uint32(c.x.header.LastUID)}
	if err := s.saveSizes(m.holdKey(), &z); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkOpenSpool(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := newMailbox(b)
			s.large.now = testTime // it remembers nothing
			grow(b, s, n)
			benchmarkOpen(b, s)
		})
	}
}

// BenchmarkOpenRemembered is BenchmarkOpenSpool on an index that nobody has changed.
func BenchmarkOpenRemembered(b *testing.B) {
	s := newMailbox(b)
	s.large.now = later
	grow(b, s, 100_000)
	benchmarkOpen(b, s)
}

func benchmarkOpen(b *testing.B, s *Store) {
	b.ReportAllocs()
	for b.Loop() {
		d, err := s.Open(context.Background(), "alice", mailstore.Holder{})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := d.Octets(); err != nil {
			b.Fatal(err)
		}
		d.Close()
	}
}

func BenchmarkUpdate(b *testing.B) {
	const n = 10_000
	s := newMailbox(b)
	grow(b, s, n)
	path := must(s.conf.Path(must(s.lookup("alice")), imapdconf.IndexFile))
	before := contents(b, path)
	all := make([]mailstore.Number, n)
	for i := range all {
		all[i] = mailstore.Number(i + 1)
	}
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		if err := os.WriteFile(path, before, 0o600); err != nil {
			b.Fatal(err)
		}
		d := open(b, s, "alice")
		b.StartTimer()
		if err := d.Update(context.Background(), mailstore.Changes{Deleted: all}); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		d.Close()
		b.StartTimer()
	}
}

func BenchmarkList(b *testing.B) {
	s := newMailbox(b)
	grow(b, s, 100_000)
	d := open(b, s, "alice")
	buf := make([]byte, 0, 64)
	b.ReportAllocs()
	for b.Loop() {
		for n := range mailstore.Number(d.Len()) {
			if _, err := d.Size(n + 1); err != nil {
				b.Fatal(err)
			}
			buf = d.AppendUniqueID(buf[:0], n+1)
		}
	}
}

func BenchmarkAppendMessage(b *testing.B) {
	s := newMailbox(b)
	appendMessage(b, s, "alice", string(make([]byte, 4096)))
	d := open(b, s, "alice")
	if _, err := d.Octets(); err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 0, 1<<16)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, _, err := d.AppendMessage(buf, 1, 1<<16); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAppend tells the processor's time too: a delivery waits for the disk.
func BenchmarkAppend(b *testing.B) {
	s := newMailbox(b)
	text := "From: a@origin.test\r\nSubject: x\r\n\r\n" + strings.Repeat(strings.Repeat("x", 76)+"\r\n", 52)
	b.ReportAllocs()
	before := cpuTime(b)
	for b.Loop() {
		appendMessage(b, s, "alice", text)
	}
	b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/float64(b.N), "cpu-µs/op")
}

// BenchmarkAppendDisk is the part of BenchmarkAppend that the disk is for: a message
// made durable, and then its name, and two files that are added to.
func BenchmarkAppendDisk(b *testing.B) {
	dir := b.TempDir()
	box := filepath.Join(dir, "box")
	var d disk
	message, grown := make([]byte, 4<<10), make([]byte, 112)
	files := []*ofd.File{must(d.create(filepath.Join(dir, "cache"), 0o600)), must(d.create(filepath.Join(dir, "index"), 0o600))}
	defer files[0].Close()
	defer files[1].Close()
	if err := d.mkdirAll(box, 0o700); err != nil {
		b.Fatal(err)
	}
	before := cpuTime(b)
	for n := int64(0); b.Loop(); n++ {
		f := must(d.createNew(filepath.Join(box, fmt.Sprint(n)), 0o600))
		err := errors.Join(d.writeAt(f, message, 0), d.sync(f), f.Close(), d.syncDir(box))
		for _, f := range files {
			err = errors.Join(err, d.writeAt(f, grown, n*int64(len(grown))), d.sync(f))
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/float64(b.N), "cpu-µs/op")
}

// cpuTime is what the process has used of the processors.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var use unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &use); err != nil {
		b.Fatal(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}
