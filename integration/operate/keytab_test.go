//go:build integration

package operate_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/kpopd/kpopd/integration"
	"github.com/kpopd/kpopd/integration/player"
)

// TestKeytabBySIGHUP: a keytab behind a link that is turned elsewhere is not
// noticed, since the directory that is watched is another one. SIGHUP has it read;
// one that is half written leaves the keys as they were, and the log says so.
func TestKeytabBySIGHUP(t *testing.T) {
	text := strings.Replace(files(), realm.Path("server.keytab"), "{dir}/keys/now/keytab", 1)
	b := newBeside(t, `protocol = "kpop"`, text+"[sandbox]\nlandlock = \"off\"\n")
	keys := filepath.Join(b.dir, "keys")
	pop := extract(t, filepath.Join(keys, "1"), "pop")
	both := append(pop, extract(t, filepath.Join(keys, "2"), "pop3")[2:]...) // but for the version of the file
	b.write("keys/2/keytab", string(both))
	turn(t, keys, "1")
	b.start()
	beside := *realm
	beside.Ports.KPOP = b.port
	refused := func(service string) int32 {
		t.Helper()
		_, code := player.Sendauth(t, &beside, player.APReq(t, realm, "alice", service))
		return code
	}
	if code := refused("pop3"); code != 35 {
		t.Errorf("without a key of pop3: KRB-ERROR %d, want 35", code)
	}

	if err := os.Mkdir(filepath.Join(keys, "3"), 0o700); err != nil {
		t.Fatal(err)
	}
	b.write("keys/3/keytab", string(both[:len(both)-20]))
	hangup(t, b, keys, "3", "reload refused; what was loaded before stays in use")
	if !strings.Contains(b.read("log"), filepath.Join(keys, "now", "keytab")) {
		t.Error("the log does not name the keytab")
	}
	if code := refused("pop"); code != 0 {
		t.Errorf("by the key from before the half-written keytab: KRB-ERROR %d", code)
	}
	if code := refused("pop3"); code != 35 {
		t.Errorf("by the half-written keytab: KRB-ERROR %d, want 35", code)
	}

	hangup(t, b, keys, "2", "msg=reloaded")
	for _, service := range []string{"pop", "pop3"} {
		if code := refused(service); code != 0 {
			t.Errorf("%s, by the new keytab: KRB-ERROR %d", service, code)
		}
	}
	b.end()
}

// extract writes the keys of a service of the realm into a directory's keytab, as
// they are, and gives the file's octets.
func extract(t *testing.T, dir, service string) []byte {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "keytab")
	if _, err := realm.Kadmin(t.Context(), "ktadd -norandkey -k "+file+" "+service+"/"+integration.Host+"\n"); err != nil {
		t.Fatal(err)
	}
	octets, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return octets
}

// turn makes keys/now a link to one of its neighbours.
func turn(t *testing.T, keys, to string) {
	t.Helper()
	fresh := filepath.Join(keys, "new")
	if err := os.Symlink(to, fresh); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(fresh, filepath.Join(keys, "now")); err != nil {
		t.Fatal(err)
	}
}

// hangup turns the link, sends SIGHUP and waits for what the log says of it.
func hangup(t *testing.T, b *beside, keys, to, says string) {
	t.Helper()
	turn(t, keys, to)
	if err := b.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	player.Until(t, says, func() bool { return strings.Contains(b.read("log"), says) })
}
