package kpop_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kpopd/kpopd/kpop"
	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/cyrus"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
	"github.com/kpopd/kpopd/mailstore/memdrop"
)

// A letter is a message of the model: its text, and whether \Flagged is set.
type letter struct {
	text    string
	flagged bool
}

// A tree is POP4 in small: folders of messages, and the selected folder as the
// session sees it.
type tree struct {
	folders  map[string][]*letter
	selected string
	seen     []*letter
	marked   map[int]bool
	stored   int // messages that STOR has made
	ended    bool
}

func newTree(texts []string) *tree {
	m := &tree{folders: map[string][]*letter{"INBOX": nil}, selected: "INBOX", marked: map[int]bool{}}
	for _, text := range texts {
		m.folders["INBOX"] = append(m.folders["INBOX"], &letter{text: text})
	}
	m.seen = slices.Clone(m.folders["INBOX"])
	return m
}

func parent(name string) string { return name[:max(0, strings.LastIndexByte(name, '/'))] }

func (m *tree) below(name string) (names []string) {
	for each := range m.folders {
		if strings.HasPrefix(each, name+"/") {
			names = append(names, each)
		}
	}
	return names
}

// vacant says why a folder cannot be made or come to be called so.
func (m *tree) vacant(name string) string {
	_, exists := m.folders[name]
	above := parent(name)
	_, ok := m.folders[above]
	switch {
	case strings.HasPrefix(name, "INBOX/"):
		return "-ERR Folder name is not allowed"
	case exists:
		return "-ERR Folder exists already"
	case above != "" && !ok:
		return "-ERR No such folder"
	}
	return ""
}

func (m *tree) rename(from, to, done string) string {
	_, exists := m.folders[from]
	_, taken := m.folders[to]
	switch {
	case from == "INBOX":
		return "-ERR INBOX can be neither removed nor renamed"
	case !exists:
		return "-ERR No such folder"
	case taken:
		return "-ERR Folder exists already"
	case strings.HasPrefix(to, from+"/"):
		return "-ERR Folder name is not allowed"
	}
	if refusal := m.vacant(to); refusal != "" {
		return refusal
	}
	moved := append([]string{from}, m.below(from)...)
	if slices.Contains(moved, m.selected) {
		return "-ERR [IN-USE] Maildrop is in use by another session"
	}
	for _, each := range moved {
		m.folders[to+each[len(from):]] = m.folders[each]
		delete(m.folders, each)
	}
	return done
}

func (m *tree) number(n int) string {
	switch {
	case n < 1 || n > len(m.seen):
		return "-ERR No such message"
	case m.marked[n]:
		return "-ERR Message is marked as deleted"
	}
	return ""
}

func (m *tree) totals() (count, octets int) {
	for i, l := range m.seen {
		if !m.marked[i+1] {
			count, octets = count+1, octets+len(l.text)
		}
	}
	return count, octets
}

func (m *tree) lfld() []string {
	lines := []string{"+OK Folder list follows"}
	names := slices.Sorted(maps.Keys(m.folders))
	names = append([]string{"INBOX"}, slices.DeleteFunc(names, func(n string) bool { return n == "INBOX" })...)
	for _, name := range names {
		octets := 0
		for _, l := range m.folders[name] {
			octets += len(l.text)
		}
		lines = append(lines, fmt.Sprintf("%d %d %s", len(m.folders[name]), octets, name))
	}
	return append(lines, ".")
}

// do is what the server must answer.
func (m *tree) do(verb string, n int, a, b string) []string {
	one := func(s string) []string { return []string{s} }
	switch verb {
	case "LFLD":
		return m.lfld()
	case "STAT":
		count, octets := m.totals()
		return one(fmt.Sprintf("+OK %d %d", count, octets))
	case "RSET":
		clear(m.marked)
		return one("+OK No message is marked")
	case "QUIT":
		m.quit()
		return one("+OK Goodbye")
	case "CFLD":
		if refusal := m.vacant(a); refusal != "" {
			return one(refusal)
		}
		m.folders[a] = nil
		return one("+OK Folder was made")
	case "DFLD":
		return one(m.remove(a))
	case "RENF":
		return one(m.rename(a, strings.TrimPrefix(parent(a)+"/"+b, "/"), "+OK Folder was renamed"))
	case "MOVF":
		to := a[strings.LastIndexByte(a, '/')+1:]
		if b != "INBOX" {
			to = b + "/" + to
		}
		return one(m.rename(a, to, "+OK Folder was moved"))
	case "SFLD":
		return one(m.sfld(a))
	case "STOR":
		return m.stor(a)
	}
	if refusal := m.number(n); refusal != "" {
		return one(refusal)
	}
	return one(m.message(verb, n, a))
}

func (m *tree) remove(a string) string {
	list, exists := m.folders[a]
	switch {
	case a == "INBOX":
		return "-ERR INBOX can be neither removed nor renamed"
	case !exists:
		return "-ERR No such folder"
	case a == m.selected:
		return "-ERR [IN-USE] Maildrop is in use by another session"
	case len(list) > 0 || len(m.below(a)) > 0:
		return "-ERR Folder is not empty"
	}
	delete(m.folders, a)
	return "+OK Folder was removed"
}

func (m *tree) sfld(a string) string {
	list, exists := m.folders[a]
	switch {
	case len(m.marked) > 0:
		return "-ERR Messages are marked as deleted, send RSET or QUIT first"
	case !exists:
		return "-ERR No such folder"
	}
	m.selected, m.seen = a, slices.Clone(list)
	return "+OK Folder is selected"
}

func (m *tree) stor(a string) []string {
	m.stored++
	reply := "+OK Stored"
	if list, exists := m.folders[a]; exists {
		m.folders[a] = append(list, &letter{text: m.storText()})
	} else {
		reply = "-ERR No such folder"
	}
	return []string{"+OK Send the message and a line with a dot", reply}
}

func (m *tree) storText() string { return fmt.Sprintf("Subject: stored %d\r\n\r\n.dot\r\n", m.stored) }

// message is what is done with message n, which is there.
func (m *tree) message(verb string, n int, a string) string {
	l := m.seen[n-1]
	switch verb {
	case "DELE":
		m.marked[n] = true
		return "+OK Marked"
	case "XFLG":
		l.flagged = a != "INBOX" // the folder drawn decides
		if l.flagged {
			return fmt.Sprintf("+OK %d \\Flagged", n)
		}
		return fmt.Sprintf("+OK %d", n)
	}
	if _, exists := m.folders[a]; !exists {
		return "-ERR No such folder"
	}
	copied := *l
	m.folders[a] = append(m.folders[a], &copied)
	if verb == "MOVE" {
		m.marked[n] = true
		return "+OK Copied and marked as deleted here"
	}
	return "+OK Copied"
}

func (m *tree) quit() {
	m.ended = true
	for n := range m.marked {
		gone := m.seen[n-1]
		m.folders[m.selected] = slices.DeleteFunc(m.folders[m.selected], func(l *letter) bool { return l == gone })
	}
}

// contents is all that the folders hold, in words.
func (m *tree) contents() (all []string) {
	for name, list := range m.folders {
		all = append(all, name)
		for i, l := range list {
			all = append(all, fmt.Sprintf("%s %d %q %v", name, i, l.text, l.flagged))
		}
	}
	slices.Sort(all)
	return all
}

// stored is the same of a store.
func stored(t *rapid.T, s mailstore.Store, mailbox string) (all []string) {
	ctx := context.Background()
	m, err := s.Open(ctx, mailbox, mailstore.Holder{})
	if err != nil {
		t.Fatal(err)
	}
	d := m.(mailstore.Folders)
	list, err := d.Folders(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		next, err := d.Select(ctx, f.Name)
		if err != nil {
			t.Fatal(err)
		}
		_ = d.Close()
		d = next
		all = append(all, f.Name)
		for n := range mailstore.Number(d.Len()) {
			all = append(all, fmt.Sprintf("%s %d %s", f.Name, n, inWords(t, d, n+1)))
		}
	}
	_ = d.Close()
	slices.Sort(all)
	return all
}

func inWords(t *rapid.T, d mailstore.Folders, n mailstore.Number) string {
	m, err := d.Open(n)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	text, err := io.ReadAll(m)
	if err != nil {
		t.Fatal(err)
	}
	flags, err := d.Flags(context.Background(), n)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%q %v", text, flags&mailstore.FlagFlagged != 0)
}

// line is the command as it is sent.
func (m *tree) line(verb string, n int, a, b string) string {
	switch verb {
	case "RENF", "MOVF":
		return fmt.Sprintf("%s %s %s\r\n", verb, a, b)
	case "COPY", "MOVE":
		return fmt.Sprintf("%s %d %s\r\n", verb, n, a)
	case "DELE":
		return fmt.Sprintf("DELE %d\r\n", n)
	case "XFLG":
		sign := "+"
		if a == "INBOX" {
			sign = "-"
		}
		return fmt.Sprintf("XFLG %d %s\\Flagged\r\n", n, sign)
	case "CFLD", "DFLD", "SFLD":
		return verb + " " + a + "\r\n"
	case "STOR":
		return "STOR " + a + "\r\n" + strings.ReplaceAll(m.storText(), "\r\n.", "\r\n..") + ".\r\n"
	}
	return verb + "\r\n"
}

// owned is a Cyrus spool that we own.
func owned(t *testing.T) *cyrus.Store {
	t.Helper()
	c := imapdconf.Defaults()
	c.Dir = t.TempDir()
	c.Layout.DefaultPartition = "default"
	c.Layout.Partitions["default"] = imapdconf.Partition{Root: filepath.Join(c.Dir, "spool")}
	if err := c.Complete(); err != nil {
		t.Fatal(err)
	}
	s, err := cyrus.Open(cyrus.Options{Config: c, Mode: cyrus.Embedded})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// TestModelOfFolders plays random sessions of POP4 against the model, over
// memory and over a Cyrus spool: the same answers, and the same folders, texts
// and flags afterwards, however the session ended. On the spool the session gives
// its memory back at each wait.
func TestModelOfFolders(t *testing.T) {
	t.Parallel()
	spool := owned(t)
	memory := &memdrop.Store{}
	over := func(s mailstore.Store, rest time.Duration) *rig {
		r := newRig(t, newStore(), func(server *kpop.Server, p *kpop.Port) {
			server.Store, p.POP4, server.Limits.BadCommands, server.Limits.RestAfter = s, true, 1000, rest
		})
		r.level.Set(slog.LevelWarn)
		return r
	}
	inMemory, onDisk := over(memory, 0), over(spool, time.Microsecond)
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		user := fmt.Sprint("user", run)
		texts := rapid.SliceOfN(rapid.SampledFrom([]string{"A: b\r\n\r\n", "Subject: x\r\n\r\n.\r\n", "\r\n"}), 0, 3).Draw(rt, "messages")
		memory.Put(user, texts...)
		m := newTree(texts)
		input, want := session(rt, m)
		play := func(r *rig, s mailstore.Store) {
			got := r.segments(rt, "USER "+user+"\r\nPASS "+secret+"\r\n"+input)
			if !slices.Equal(got[3:], want) {
				rt.Fatalf("%q\ngot  %q\nwant %q", input, got[3:], want)
			}
			eventually(t, "session over", func() bool { return len(r.server.Sessions()) == 0 })
			if left := stored(rt, s, user); !slices.Equal(left, m.contents()) {
				rt.Fatalf("%q\nleft %q\nwant %q", input, left, m.contents())
			}
		}
		play(inMemory, memory)
		if run%5 != 0 {
			return // a disk is slower
		}
		if err := spool.CreateMailbox(context.Background(), user); err != nil {
			rt.Fatal(err)
		}
		for _, text := range texts {
			if _, err := spool.Append(context.Background(), user, strings.NewReader(text), time.Time{}); err != nil {
				rt.Fatal(err)
			}
		}
		play(onDisk, spool)
		if faults, err := spool.Check(context.Background(), user); err != nil || len(faults) > 0 {
			rt.Fatalf("%v, %v", faults, err)
		}
	})
}

// session draws commands and plays them against the model.
func session(rt *rapid.T, m *tree) (input string, want []string) {
	verbs := []string{"LFLD", "SFLD", "SFLD", "CFLD", "CFLD", "CFLD", "DFLD", "RENF", "MOVF", "COPY", "MOVE", "STOR", "XFLG", "DELE", "STAT", "RSET", "QUIT"}
	folders := []string{"INBOX", "A", "B", "A/x", "B/y", "A/x/z", "C"}
	var all strings.Builder
	for range rapid.IntRange(0, 25).Draw(rt, "commands") {
		if m.ended {
			break
		}
		verb := rapid.SampledFrom(verbs).Draw(rt, "verb")
		n := rapid.IntRange(0, 4).Draw(rt, "n")
		a, b := rapid.SampledFrom(folders).Draw(rt, "a"), rapid.SampledFrom(folders).Draw(rt, "b")
		if verb == "RENF" {
			b = rapid.SampledFrom([]string{"A", "B", "x"}).Draw(rt, "new name")
		}
		if verb == "STOR" {
			m.stored++ // the text is that of the message to come
		}
		line := m.line(verb, n, a, b)
		if verb == "STOR" {
			m.stored--
		}
		all.WriteString(line)
		want = append(want, m.do(verb, n, a, b)...)
	}
	return all.String(), want
}
