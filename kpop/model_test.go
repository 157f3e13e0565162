package kpop_test

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kpopd/kpopd/kpop"
)

// A model is RFC 1939 in small: a maildrop, marks, and what each command says.
type model struct {
	sizes   []int
	marked  []bool
	ended   bool
	removed bool // by QUIT
}

func (m *model) number(arg string) (int, string) {
	var n int
	if _, err := fmt.Sscanf(arg, "%d", &n); err != nil || n < 0 {
		return 0, "-ERR Message-number expected"
	}
	switch {
	case n < 1 || n > len(m.sizes):
		return 0, "-ERR No such message"
	case m.marked[n-1]:
		return 0, "-ERR Message is marked as deleted"
	}
	return n, ""
}

// do is what the server must answer, a line for each line, without message
// text: RETR and TOP stand for their first line and their end mark.
func (m *model) do(command string) []string {
	verb, arg, _ := strings.Cut(command, " ")
	switch verb {
	case "STAT":
		count, octets := m.totals()
		return []string{fmt.Sprintf("+OK %d %d", count, octets)}
	case "LIST", "UIDL":
		return m.listing(verb, arg)
	case "NOOP":
		return []string{"+OK Nothing done"}
	case "RSET":
		m.marked = make([]bool, len(m.sizes))
		return []string{"+OK No message is marked"}
	case "QUIT":
		m.ended, m.removed = true, true
		return []string{"+OK Goodbye"}
	case "DELE", "RETR", "TOP":
		first, _, _ := strings.Cut(arg, " ")
		n, refusal := m.number(first)
		if refusal != "" {
			return []string{refusal}
		}
		switch verb {
		case "DELE":
			m.marked[n-1] = true
			return []string{"+OK Marked"}
		case "RETR":
			return []string{fmt.Sprintf("+OK %d octets", m.sizes[n-1]), "."}
		}
		return []string{"+OK", "."}
	}
	return []string{"-ERR Unknown command"}
}

func (m *model) totals() (count, octets int) {
	for i, size := range m.sizes {
		if !m.marked[i] {
			count, octets = count+1, octets+size
		}
	}
	return count, octets
}

func (m *model) value(verb string, n int) string {
	if verb == "UIDL" {
		return fmt.Sprintf("%d uid-%d", n, n)
	}
	return fmt.Sprintf("%d %d", n, m.sizes[n-1])
}

func (m *model) listing(verb, arg string) []string {
	if arg != "" {
		n, refusal := m.number(arg)
		if refusal != "" {
			return []string{refusal}
		}
		return []string{"+OK " + m.value(verb, n)}
	}
	count, _ := m.totals()
	lines := []string{fmt.Sprintf("+OK %d messages", count)}
	for i := range m.sizes {
		if !m.marked[i] {
			lines = append(lines, m.value(verb, i+1))
		}
	}
	return append(lines, ".")
}

// left is the maildrop after the session.
func (m *model) left() []int {
	uids := []int{}
	for i := range m.sizes {
		if !m.removed || !m.marked[i] {
			uids = append(uids, i+1)
		}
	}
	return uids
}

var commandGen = rapid.Custom(func(t *rapid.T) string {
	verb := rapid.SampledFrom([]string{"STAT", "LIST", "LIST n", "UIDL", "UIDL n", "RETR n", "TOP n 1", "DELE n", "DELE n", "NOOP", "RSET", "XYZZY", "QUIT"}).Draw(t, "verb")
	return strings.Replace(verb, "n", rapid.SampledFrom([]string{"1", "2", "3", "4", "5", "0", "99", "-1", "x"}).Draw(t, "n"), 1)
})

// TestModel plays random sessions, cut into random segments and sometimes
// broken off, against the model: the same answers, and the same maildrop
// afterwards.
func TestModel(t *testing.T) {
	t.Parallel()
	store := newStore()
	r := newRig(t, store, func(s *kpop.Server, _ *kpop.Port) { s.Limits.BadCommands = 1000 })
	message := rapid.StringMatching(`([a-z.]{0,5}(\n|\r\n)){0,6}[a-z.]{0,3}`)
	rapid.Check(t, func(rt *rapid.T) {
		texts := rapid.SliceOfN(message, 0, 5).Draw(rt, "messages")
		store.fill("alice", texts...)
		store.appends = rapid.Bool().Draw(rt, "appender")
		m := &model{marked: make([]bool, len(texts))}
		for _, text := range texts {
			m.sizes = append(m.sizes, len(normal([]byte(text))))
		}
		commands := rapid.SliceOfN(commandGen, 0, 25).Draw(rt, "commands")
		var input strings.Builder
		var want []string
		for _, command := range commands {
			if m.ended {
				break
			}
			want = append(want, m.do(command)...)
			input.WriteString(command + "\r\n")
		}
		if !m.ended && rapid.Bool().Draw(rt, "half a QUIT") {
			input.WriteString("QUIT")
		}
		got := r.segments(rt, "USER alice\r\nPASS "+secret+"\r\n"+input.String())
		if !slices.Equal(got[3:], want) {
			rt.Fatalf("got  %q\nwant %q", got[3:], want)
		}
		eventually(t, "maildrop free", func() bool { return store.opened.Load() == 0 })
		if left := store.uids("alice"); !slices.Equal(left, m.left()) {
			rt.Fatalf("left %v, want %v", left, m.left())
		}
	})
}

// segments sends input in pieces of random length and returns the reply lines,
// message text left out.
func (r *rig) segments(rt *rapid.T, input string) []string {
	nc, err := net.Dial("tcp", r.addr)
	if err != nil {
		rt.Fatal(err)
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(patience))
	for len(input) > 0 {
		n := rapid.IntRange(1, len(input)).Draw(rt, "segment")
		if _, err := io.WriteString(nc, input[:n]); err != nil {
			break // QUIT was behind us
		}
		input = input[n:]
	}
	_ = nc.(*net.TCPConn).CloseWrite()
	all, err := io.ReadAll(nc)
	if err != nil && isTimeout(err) {
		rt.Fatalf("no end of the replies behind %q: %v", all, err)
	}
	return withoutText(string(all))
}

func withoutText(all string) []string {
	var lines []string
	text := false
	for line := range strings.SplitSeq(strings.TrimSuffix(all, "\r\n"), "\r\n") {
		if text = text && line != "."; text {
			continue
		}
		lines = append(lines, line)
		text = line == "+OK" || strings.HasSuffix(line, " octets")
	}
	return lines
}
