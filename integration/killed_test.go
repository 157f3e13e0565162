//go:build integration

package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kpopd/kpopd/integration"
)

// TestKilledWhileDelivering: what LMTP has answered 250 for is there after a
// kill -9, once each, and the spool is whole.
func TestKilledWhileDelivering(t *testing.T) {
	t.Parallel()
	const clients, before = 3, 30
	dir := filepath.Join(t.TempDir(), "realm")
	r, err := integration.Up(t.Context(), dir, integration.Options{
		Kpopd:     kpopdProgram(t),
		ExtraTOML: "failure_delay = \"1ms\"\n[lmtp]\nlisten = \"" + dir + "/lmtp\"\n",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Down(); err != nil {
			t.Error(err)
		}
	})
	var mu sync.Mutex
	accepted := map[string]bool{}
	enough := make(chan struct{})
	var group sync.WaitGroup
	for i := range clients {
		c := lmtpOf(t, r.Path("lmtp"))
		group.Go(func() {
			for n := 0; ; n++ {
				subject := fmt.Sprintf("%d.%d", i, n)
				if c.deliver("alice@mail.test", "Subject: "+subject+"\r\n\r\nx") != nil {
					return // the server is gone
				}
				mu.Lock()
				accepted[subject] = true
				if len(accepted) == before {
					close(enough)
				}
				mu.Unlock()
			}
		})
	}
	select {
	case <-enough:
	case <-time.After(time.Minute):
		t.Fatal("mail is not taken")
	}
	stopKpopd(t, r, syscall.SIGKILL)
	group.Wait()
	if err := r.StartKpopd(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if b, err := os.ReadFile(r.Path("kpopd.log")); err == nil && t.Failed() {
			t.Logf("%s", b)
		}
	})
	c := popSession(t, r, "alice")
	there := map[string]int{}
	lines, err := c.lines("UIDL")
	if err != nil {
		t.Fatal(err)
	}
	for n := range lines {
		text, err := c.lines(fmt.Sprintf("RETR %d", n+1))
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range subjectsIn(text) {
			there[s]++
		}
	}
	if _, err := c.say("QUIT", "+OK"); err != nil {
		t.Fatal(err)
	}
	for s := range accepted {
		if there[s] != 1 {
			t.Errorf("%s was accepted and is there %d times", s, there[s])
		}
	}
	if len(there) > len(accepted)+clients {
		t.Errorf("%d messages, %d accepted", len(there), len(accepted))
	}
	again := lmtpOf(t, r.Path("lmtp")) // over the socket that the kill has left
	if err := again.deliver("alice@mail.test", "Subject: after\r\n\r\nx"); err != nil {
		t.Error(err)
	}
	kpop(t, r, "", "spool", "check")
}
