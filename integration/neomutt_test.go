//go:build integration

package integration_test

import (
	"path/filepath"
	"strconv"
	"testing"

	"github.com/kpopd/kpopd/integration"
)

// neomutt marks the first message and leaves with the deletion done.
func TestNeomuttDeletes(t *testing.T) {
	fill(t, "alice")
	dir := t.TempDir()
	tool := realm.Tool(cacheOf(t, "alice"))
	tool.Env = append(tool.Env, "HOME="+dir)
	rc := filepath.Join(dir, "rc")
	write(t, rc, `set ssl_force_tls=no ssl_starttls=no pop_delete=yes delete=yes confirmappend=no wait_key=no
set folder="`+dir+`" spoolfile="`+dir+`/spool" header_cache="" message_cachedir=""
push "<first-entry><delete-message><quit>"
`)
	url := "pop://alice@" + integration.Host + ":" + strconv.Itoa(realm.Ports.POP3)
	onTerminal(t, tool, "neomutt", "-n", "-F", rc, "-f", url).end()
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
