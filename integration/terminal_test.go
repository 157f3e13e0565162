//go:build integration

package integration_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/kpopd/kpopd/integration"
)

// screenTime is the longest that a program may take to show what it is waited
// for; a busy machine needs a fraction of it.
const screenTime = 90 * time.Second

// pressTime is how long the effect of a key is waited for before it is typed again.
const pressTime = 10 * time.Second

// A terminal runs a program that draws on a screen. A test waits for words on it
// and only then types, so that no speed of the machine matters.
type terminal struct {
	t      *testing.T
	master *os.File
	ended  chan struct{} // closed when the program is gone
	err    error         // of the program, after ended

	mu   sync.Mutex
	seen bytes.Buffer // everything it has drawn
	from int          // of the text drawn; what is before was waited for already
}

// onTerminal starts a program; it is ended with the test.
func onTerminal(t *testing.T, tool integration.Tool, name string, args ...string) *terminal {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*screenTime)
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(append(os.Environ(), tool.Env...), "TERM=xterm", "LINES=24", "COLUMNS=80", "LC_ALL=C.UTF-8")
	cmd.Dir = tool.Dir
	master, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: 80})
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	s := &terminal{t: t, master: master, ended: make(chan struct{})}
	drained := make(chan struct{})
	go s.drain(drained)
	go func() {
		s.err = cmd.Wait()
		close(s.ended)
	}()
	t.Cleanup(func() {
		cancel()
		<-s.ended
		_ = master.Close()
		<-drained
	})
	return s
}

// drain keeps what the program draws until the terminal has no other end.
func (s *terminal) drain(done chan<- struct{}) {
	defer close(done)
	buf := make([]byte, 16<<10)
	for {
		n, err := s.master.Read(buf)
		s.mu.Lock()
		s.seen.Write(buf[:n])
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// shows says whether words have appeared since they were last found so.
func (s *terminal) shows(words string) func() bool {
	return func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		text := drawnText(s.seen.Bytes())[s.from:]
		at := strings.Index(text, words)
		if at < 0 {
			return false
		}
		s.from += at + len(words)
		return true
	}
}

func (s *terminal) hasEnded() bool {
	select {
	case <-s.ended:
		return true
	default:
		return false
	}
}

// waitFor waits until words have appeared.
func (s *terminal) waitFor(words string) {
	s.t.Helper()
	if !within(screenTime, s.shows(words)) {
		s.fail(fmt.Sprintf("%q does not appear", words))
	}
}

// press types until something comes of it: programs throw away what is typed
// while they draw a question.
func (s *terminal) press(keys string, ok func() bool) {
	s.t.Helper()
	for end := time.Now().Add(screenTime); time.Now().Before(end) && !s.hasEnded(); {
		if _, err := s.master.WriteString(keys); err != nil {
			s.t.Fatal(err)
		}
		if within(pressTime, func() bool { return ok() || s.hasEnded() }) {
			return
		}
	}
	s.fail(fmt.Sprintf("nothing comes of typing %q", keys))
}

func within(d time.Duration, ok func() bool) bool {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if ok() {
			return true
		}
	}
	return ok()
}

func (s *terminal) fail(what string) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	text := s.seen.Bytes()
	s.t.Fatalf("%s; the screen ends in %q", what, text[max(0, len(text)-2000):])
}

// end waits for the program's end.
func (s *terminal) end() {
	s.t.Helper()
	if !within(screenTime, s.hasEnded) {
		s.fail("the program does not end")
	}
	if s.err != nil {
		s.t.Fatal(s.err)
	}
}

// drawnText takes the escape sequences of ECMA-48 out of what was drawn.
func drawnText(b []byte) string {
	var out strings.Builder
	for i := 0; i < len(b); i++ {
		if b[i] != 0x1b {
			out.WriteByte(b[i])
			continue
		}
		if i++; i >= len(b) || b[i] != '[' {
			continue
		}
		for i++; i < len(b) && (b[i] < 0x40 || b[i] > 0x7e); i++ { // parameters
		}
	}
	return out.String()
}
