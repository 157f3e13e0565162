// Package storetest is what any mailstore.Store must do, as tests.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kpopd/kpopd/mailstore"
)

// A Subject is a store with one mailbox, made anew for each test.
type Subject struct {
	Store   mailstore.Store
	Mailbox string

	// Append adds a message as another program than a POP server does.
	Append func(t *testing.T, message string)
	// Expunge removes a message so that its file is gone too.
	Expunge func(t *testing.T, n mailstore.Number)
	// Verify looks for damage; nil: there is nothing to look at.
	Verify func(t *testing.T)
}

// Run tests the store that make gives, an empty mailbox each time.
func Run(t *testing.T, make func(t *testing.T) Subject) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, Subject)
	}{
		{"lock", lock},
		{"unknown mailbox", unknown},
		{"empty", empty},
		{"order and octets", octets},
		{"snapshot", snapshot},
		{"unique-ids", uniqueIDs},
		{"update", update},
		{"no update", noUpdate},
		{"all deleted", allDeleted},
		{"gone", gone},
		{"rest", rest},
		{"8-bit headers", eightBit},
		{"folders", folderTree},
		{"folders' names", folderNames},
		{"folders' messages", folderMessages},
		{"folders' flags", folderFlags},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := make(t)
			test.run(t, s)
			if s.Verify != nil {
				s.Verify(t)
			}
		})
	}
}

// Sent is what RETR makes of a stored message before byte-stuffing, said as
// plainly as can be (RFC 1939 sections 3 and 11).
func Sent(stored string) string {
	var b strings.Builder
	for i := range len(stored) {
		if stored[i] == '\n' && (i == 0 || stored[i-1] != '\r') {
			b.WriteByte('\r')
		}
		b.WriteByte(stored[i])
	}
	if stored != "" && !strings.HasSuffix(stored, "\n") {
		b.WriteString("\r\n")
	}
	return b.String()
}

func (s *Subject) open(t *testing.T) mailstore.Maildrop {
	t.Helper()
	d, err := s.Store.Open(context.Background(), s.Mailbox, holder())
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func holder() mailstore.Holder {
	return mailstore.Holder{User: "alice", Remote: "192.0.2.1", Session: "s1", Since: time.Unix(1700000000, 0)}
}

func (s *Subject) fill(t *testing.T, n int) {
	t.Helper()
	for i := range n {
		s.Append(t, numbered(i+1))
	}
}

func numbered(n int) string {
	return fmt.Sprintf("Subject: message %d\r\n\r\n%s\r\n", n, strings.Repeat("x", n))
}

func read(t *testing.T, d mailstore.Maildrop, n mailstore.Number) string {
	t.Helper()
	m, err := d.Open(n)
	if err != nil {
		t.Fatalf("open message %d: %v", n, err)
	}
	defer m.Close()
	b, err := io.ReadAll(m)
	if err != nil {
		t.Fatalf("read message %d: %v", n, err)
	}
	if m.Stored() != int64(len(b)) {
		t.Errorf("message %d: Stored is %d, it gave %d octets", n, m.Stored(), len(b))
	}
	if m.Canonical() && Sent(string(b)) != string(b) {
		t.Errorf("message %d is called canonical: %q", n, b)
	}
	return string(b)
}

func list(t *testing.T, d mailstore.Maildrop) []string {
	t.Helper()
	var all []string
	for n := range mailstore.Number(d.Len()) {
		all = append(all, read(t, d, n+1))
	}
	return all
}

func lock(t *testing.T, s Subject) {
	d := s.open(t)
	_, err := s.Store.Open(context.Background(), s.Mailbox, mailstore.Holder{})
	if !errors.Is(err, mailstore.ErrInUse) {
		t.Fatalf("a second session: %v", err)
	}
	if in := (*mailstore.InUseError)(nil); !errors.As(err, &in) || in.Holder != holder() {
		t.Errorf("the holder is not told: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	again := s.open(t)
	if err := d.Close(); err != nil {
		t.Errorf("closing twice: %v", err)
	}
	if _, err := s.Store.Open(context.Background(), s.Mailbox, mailstore.Holder{}); !errors.Is(err, mailstore.ErrInUse) {
		t.Errorf("a second Close freed another session's lock: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

func unknown(t *testing.T, s Subject) {
	for _, name := range []string{"nobody", "", "../" + s.Mailbox, s.Mailbox + "/", "a\x00b"} {
		if _, err := s.Store.Open(context.Background(), name, holder()); !errors.Is(err, mailstore.ErrUnknown) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func empty(t *testing.T, s Subject) {
	d := s.open(t)
	n, err := d.Octets()
	if d.Len() != 0 || n != 0 || err != nil {
		t.Errorf("%d messages, %d octets, %v", d.Len(), n, err)
	}
	if err := d.Update(context.Background(), mailstore.Changes{}); err != nil {
		t.Error(err)
	}
}

func octets(t *testing.T, s Subject) {
	messages := []string{
		"Subject: crlf\r\n\r\nbody\r\n", "Subject: bare\n\nline\nfeeds\n", "Subject: no end\r\n\r\nlast", "no end, bare\n\nx\ny",
		"\n", "\r\n", "Subject: nul\r\n\r\na\x00b\r\n", ".\r\n..\r\n", "Subject: cr\r\n\r\na\rb\r\r\n", "ends in cr\r",
		"Subject: long\n\n" + strings.Repeat("0123456789abcde\n", 40000), strings.Repeat("x", 300000),
	}
	for _, m := range messages {
		s.Append(t, m)
	}
	d := s.open(t)
	if d.Len() != len(messages) {
		t.Fatalf("%d messages of %d", d.Len(), len(messages))
	}
	var sum int64
	for i, m := range messages {
		n := mailstore.Number(i + 1)
		want := Sent(m)
		if got := Sent(read(t, d, n)); got != want {
			t.Errorf("message %d: %d octets, not those put in (%d)", n, len(got), len(want))
		}
		size, err := d.Size(n)
		if err != nil || size != int64(len(want)) {
			t.Errorf("message %d: Size %d, %v; RETR sends %d", n, size, err, len(want))
		}
		sum += size
		appended(t, d, n)
	}
	if total, err := d.Octets(); err != nil || total != sum {
		t.Errorf("Octets %d, %v; the sizes' sum is %d", total, err, sum)
	}
}

// appended compares AppendMessage with Open.
func appended(t *testing.T, d mailstore.Maildrop, n mailstore.Number) {
	t.Helper()
	a, ok := d.(mailstore.Appender)
	if !ok {
		return
	}
	want := read(t, d, n)
	before := []byte("before")
	out, canonical, ok, err := a.AppendMessage(before, n, int64(len(want)))
	if err != nil || !ok || string(out) != "before"+want {
		t.Errorf("AppendMessage %d: %d octets, %v, %v", n, len(out), ok, err)
	}
	if canonical && Sent(want) != want {
		t.Errorf("AppendMessage calls message %d canonical", n)
	}
	out, _, ok, err = a.AppendMessage(before, n, int64(len(want))-1)
	if err != nil || ok || !bytes.Equal(out, before) {
		t.Errorf("AppendMessage %d above the limit: %q, %v, %v", n, out, ok, err)
	}
}

func snapshot(t *testing.T, s Subject) {
	s.fill(t, 3)
	d := s.open(t)
	before := list(t, d)
	s.Append(t, numbered(4))
	if d.Len() != 3 || !slices.Equal(list(t, d), before) {
		t.Errorf("new mail shows in an open maildrop")
	}
	if err := d.Update(context.Background(), mailstore.Changes{Deleted: []mailstore.Number{1, 2, 3}}); err != nil {
		t.Fatal(err)
	}
	d.Close()
	if got := list(t, s.open(t)); !slices.Equal(got, []string{numbered(4)}) {
		t.Errorf("after the update: %q", got)
	}
}

func ids(d mailstore.Maildrop) []string {
	var all []string
	for n := range mailstore.Number(d.Len()) {
		all = append(all, strings.TrimPrefix(string(d.AppendUniqueID([]byte("x"), n+1)), "x"))
	}
	return all
}

func uniqueIDs(t *testing.T, s Subject) {
	s.fill(t, 12)
	d := s.open(t)
	first := ids(d)
	for i, id := range first {
		if len(id) < 1 || len(id) > 70 || strings.ContainsFunc(id, func(r rune) bool { return r < 0x21 || r > 0x7e }) {
			t.Errorf("unique-id %q (RFC 1939 section 7)", id)
		}
		if slices.Contains(first[:i], id) {
			t.Errorf("unique-id %q twice", id)
		}
	}
	if err := d.Update(context.Background(), mailstore.Changes{Deleted: []mailstore.Number{1, 5, 12}}); err != nil {
		t.Fatal(err)
	}
	d.Close()
	s.fill(t, 1)
	second := ids(s.open(t))
	want := slices.Concat(first[1:4], first[5:11])
	if len(second) != len(want)+1 || !slices.Equal(second[:len(want)], want) {
		t.Errorf("unique-ids changed: %q, then %q", first, second)
	}
	if slices.Contains(first, second[len(second)-1]) {
		t.Errorf("new mail got an old unique-id, %q", second[len(second)-1])
	}
}

func update(t *testing.T, s Subject) {
	s.fill(t, 9)
	d := s.open(t)
	all := list(t, d)
	if err := d.Update(context.Background(), mailstore.Changes{Deleted: []mailstore.Number{2, 3, 9}, Retrieved: []mailstore.Number{1, 2}}); err != nil {
		t.Fatal(err)
	}
	d.Close()
	want := slices.Concat(all[:1], all[3:8])
	if got := list(t, s.open(t)); !slices.Equal(got, want) {
		t.Errorf("left: %q", got)
	}
}

func noUpdate(t *testing.T, s Subject) {
	s.fill(t, 3)
	d := s.open(t)
	d.Close()
	if n := s.open(t).Len(); n != 3 {
		t.Errorf("%d messages after a session without Update", n)
	}
}

func allDeleted(t *testing.T, s Subject) {
	s.fill(t, 3)
	d := s.open(t)
	if err := d.Update(context.Background(), mailstore.Changes{Deleted: []mailstore.Number{1, 2, 3}}); err != nil {
		t.Fatal(err)
	}
	d.Close()
	d = s.open(t)
	if n, err := d.Octets(); d.Len() != 0 || n != 0 || err != nil {
		t.Errorf("%d messages, %d octets, %v", d.Len(), n, err)
	}
}

func gone(t *testing.T, s Subject) {
	s.fill(t, 3)
	d := s.open(t)
	s.Expunge(t, 2)
	if _, err := d.Open(2); !errors.Is(err, mailstore.ErrGone) {
		t.Errorf("an expunged message: %v", err)
	}
	if a, ok := d.(mailstore.Appender); ok {
		if _, _, _, err := a.AppendMessage(nil, 2, 1<<20); !errors.Is(err, mailstore.ErrGone) {
			t.Errorf("an expunged message, AppendMessage: %v", err)
		}
	}
	if d.Len() != 3 || read(t, d, 3) != numbered(3) {
		t.Errorf("the other messages' numbers changed")
	}
	if err := d.Update(context.Background(), mailstore.Changes{Deleted: []mailstore.Number{2, 3}}); err != nil {
		t.Fatal(err)
	}
	d.Close()
	if got := list(t, s.open(t)); !slices.Equal(got, []string{numbered(1)}) {
		t.Errorf("left: %q", got)
	}
}

func rest(t *testing.T, s Subject) {
	const n = 200
	s.fill(t, n)
	d := s.open(t)
	r, ok := d.(mailstore.Rester)
	if !ok {
		return
	}
	r.Rest()
	before := ids(d)
	total, err := d.Octets()
	if err != nil {
		t.Fatal(err)
	}
	s.Append(t, numbered(1))
	r.Rest()
	if d.Len() != n || !slices.Equal(ids(d), before) {
		t.Errorf("the maildrop is another one after its rest")
	}
	if again, err := d.Octets(); err != nil || again != total {
		t.Errorf("Octets %d, %v; before %d", again, err, total)
	}
	r.Rest()
	if size, err := d.Size(n); err != nil || size != int64(len(numbered(n))) {
		t.Errorf("Size %d, %v", size, err)
	}
	r.Rest()
	if got := read(t, d, 77); got != numbered(77) {
		t.Errorf("message 77: %q", got)
	}
	r.Rest()
	if err := d.Update(context.Background(), mailstore.Changes{Deleted: []mailstore.Number{77, n}}); err != nil {
		t.Fatal(err)
	}
	d.Close()
	if got := len(list(t, s.open(t))); got != n-1 {
		t.Errorf("%d messages left", got)
	}
}
