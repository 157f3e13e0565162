//go:build integration

package integration_test

import (
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/kpopd/kpopd/integration"
)

// What Emacs's movemail and Heimdal's push do on the wire, by libkrb5 itself:
// the service pop3, and a ticket without mutual authentication with all commands
// in one piece behind it.
func TestLibkrb5Clients(t *testing.T) {
	fill(t, "alice")
	tool := realm.Tool(cacheOf(t, "alice"))
	program := filepath.Join(t.TempDir(), "sendauth")
	if _, err := tool.Run(t.Context(), "gcc", "-Wall", "-o", program, source(t, "sendauth.c"), "-lkrb5"); err != nil {
		t.Fatal(err)
	}
	port := strconv.Itoa(realm.Ports.KPOP)
	for name, c := range map[string]struct{ service, mutual, says string }{
		"Emacs":                  {"pop3", "1", "+OK 5 "},
		"Heimdal push":           {"pop", "0", "+OK 5 "},
		"another service's host": {"host", "1", "refused: 35"},
	} {
		t.Run(name, func(t *testing.T) {
			out, _ := tool.Input(t.Context(), "USER alice\r\nPASS hej\r\nSTAT\r\nRETR 1\r\nQUIT\r\n", program, port, c.service, c.mutual)
			if !strings.Contains(out, c.says) {
				t.Errorf("got %q, want %q", out, c.says)
			}
			if strings.HasPrefix(c.says, "+OK") && !strings.Contains(out, integration.SampleMail()["1-plain.eml"]) {
				t.Errorf("message 1 is not in %q", out)
			}
		})
	}
}

func source(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// neomutt draws on a terminal: script(1) gives it one. It opens the maildrop,
// marks the first message and leaves with the deletion done.
func TestNeomutt(t *testing.T) {
	fill(t, "alice")
	dir := t.TempDir()
	tool := realm.Tool(cacheOf(t, "alice"))
	tool.Env = append(tool.Env, "TERM=xterm", "HOME="+dir)
	rc := filepath.Join(dir, "rc")
	write(t, rc, `set pop_authenticators="gssapi"
set ssl_force_tls=no ssl_starttls=no pop_delete=yes delete=yes confirmappend=no wait_key=no
set folder="`+dir+`" spoolfile="`+dir+`/spool" header_cache="" message_cachedir=""
push "<first-entry><delete-message><quit>"
`)
	command := "neomutt -n -F " + rc + " -f pop://alice@" + integration.Host + ":" + strconv.Itoa(realm.Ports.POP3)
	out, err := tool.Run(t.Context(), "script", "-qec", command, "/dev/null")
	if err != nil {
		t.Fatal(err, out)
	}
	p, code := sendauth(t, apReq(t, "alice", "pop"))
	if code != 0 {
		t.Fatalf("KRB-ERROR %d", code)
	}
	p.Expect("+OK")
	p.Send("USER alice\r\nPASS x\r\nSTAT\r\nQUIT\r\n")
	p.Expect("+OK")
	p.Expect("+OK")
	p.Expect("+OK 4 ")
}
