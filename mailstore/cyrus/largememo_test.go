package cyrus

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/cyrus/ofd"
)

// later lets a largeMemo take every index for one that was left alone for long.
func later() time.Time { return time.Now().Add(time.Hour) }

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func closeDrop(t *testing.T, d *maildrop) {
	t.Helper()
	check(t, d.Close())
}

// TestLargeMaildropIsRemembered: a session on an index that nobody has changed begins
// at rest and is as any other; on one that was changed it does not.
func TestLargeMaildropIsRemembered(t *testing.T) {
	t.Parallel()
	s := newMailbox(t)
	s.large.now = later
	grow(t, s, largeFrom)
	for range 6 {
		appendMessage(t, s, "alice", "Subject: a\r\n\r\nb\r\n")
	}
	expunge(t, s, "alice", 1, 7, largeFrom)
	session := func(atRest bool) *maildrop {
		t.Helper()
		d := open(t, s, "alice")
		if (d.rest != nil) != atRest {
			t.Errorf("at rest: %v", d.rest != nil)
		}
		return d
	}
	look := func(d *maildrop) (all string) {
		t.Helper()
		all = fmt.Sprint(d.Len(), must(d.Octets()))
		for n := mailstore.Number(1); int(n) <= d.Len(); n++ {
			all += fmt.Sprint(" ", must(d.Size(n)), string(d.AppendUniqueID(nil, n)))
		}
		b, _, ok, err := d.AppendMessage(nil, mailstore.Number(d.Len()), 1<<10)
		if !ok || err != nil {
			t.Error(ok, err)
		}
		return all + string(b)
	}
	read := session(false)
	want := look(read)
	closeDrop(t, read)
	for range 2 {
		remembered := session(true)
		if got := look(remembered); got != want {
			t.Error("the remembered maildrop is another one")
		}
		closeDrop(t, remembered)
	}

	// What is removed is counted from the records, and the next session reads them.
	d := session(true)
	removed := mailstore.Changes{Deleted: []mailstore.Number{2, mailstore.Number(d.Len())}}
	check(t, d.Update(context.Background(), removed))
	closeDrop(t, d)
	d = session(false)
	if d.Len() != largeFrom+1 {
		t.Errorf("%d messages are left", d.Len())
	}
	closeDrop(t, d)
	closeDrop(t, session(true))
}

// TestLargeMaildropChanges: an index that is changed, copied back or replaced is read.
func TestLargeMaildropChanges(t *testing.T) {
	t.Parallel()
	s := newMailbox(t)
	s.large.now = later
	grow(t, s, largeFrom)
	path := directory(t, s, "alice") + "/cyrus.index"
	octets := contents(t, path)
	for name, change := range map[string]func(){
		"written": func() { write(t, path, octets) },
		"touched": func() { check(t, os.Chtimes(path, testTime(), testTime())) },
		"replaced": func() {
			write(t, path+".new", octets)
			check(t, os.Rename(path+".new", path))
		},
	} {
		closeDrop(t, open(t, s, "alice"))
		if d := open(t, s, "alice"); d.rest == nil {
			t.Errorf("%s: it was not remembered", name)
		} else {
			closeDrop(t, d)
		}
		change()
		d := open(t, s, "alice")
		if d.rest != nil {
			t.Errorf("%s: the index is taken for the former one", name)
		}
		closeDrop(t, d)
	}

	octets[len(octets)-1] ^= 1
	write(t, path, octets)
	if _, err := s.Open(context.Background(), "alice", mailstore.Holder{}); err == nil {
		t.Error("a damaged index is opened")
	}
}

// TestLargeMemoIsBounded: neither too many maildrops are remembered, nor one that
// needs much, nor one whose index was changed just now.
func TestLargeMemoIsBounded(t *testing.T) {
	t.Parallel()
	m := largeMemo{now: time.Now}
	drop := func(gap uint32) *maildrop {
		d := &maildrop{count: largeFrom + 1}
		for i := range uint32(d.count) {
			d.list.uids, d.list.sizes, d.list.tags = append(d.list.uids, 1+i*gap), append(d.list.sizes, 1), append(d.list.tags, 1)
		}
		return d
	}
	whole := drop(1)
	for i := range int64(largeMost + 10) {
		m.note(whole, &ofd.Info{Size: i})
	}
	if last := (ofd.Info{Size: largeMost + 9}); len(m.by) > largeMost || !m.recall(whole, &last) {
		t.Errorf("%d are kept, or not the last", len(m.by))
	}
	scattered := ofd.Info{Size: -1}
	if m.note(drop(2), &scattered); m.recall(&maildrop{}, &scattered) {
		t.Error("a maildrop of many runs is remembered")
	}
	fresh := ofd.Info{Size: -2, Changed: time.Now().UnixNano()}
	if m.note(whole, &fresh); m.recall(&maildrop{}, &fresh) {
		t.Error("an index that was changed just now is remembered")
	}
}
