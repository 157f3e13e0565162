//go:build integration

package operate_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kpopd/kpopd/cmd/control"
	"github.com/kpopd/kpopd/integration/player"
)

// A beside is a kpopd of a test's own beside the realm's, in the same realm: one
// listener, whose socket it inherits as from systemd.
type beside struct {
	*exec.Cmd
	t    *testing.T
	dir  string
	port int
	ours []*os.File // that the child has as well
}

// newBeside makes one that start starts; text is its whole configuration but for state_dir and
// the listener, which are put before it. {dir} in it stands for a directory that
// is its own.
func newBeside(t *testing.T, listener, text string, env ...string) *beside {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "kpopd-beside") // whose parents everybody may pass
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	b := &beside{t: t, dir: dir}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.port = l.Addr().(*net.TCPAddr).Port
	socket, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close() // socket is another descriptor of it
	text = "hostname = \"localhost\"\nstate_dir = \"{dir}/state\"\n" + text + "\n[listen.only]\naddress = \"127.0.0.1:0\"\n" + listener + "\n"
	b.write("kpopd.toml", strings.ReplaceAll(text, "{dir}", b.dir))
	log, err := os.Create(filepath.Join(b.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	b.Cmd = exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ WATCHDOG_PID=$$ exec "$0" serve --config "$1"`, realm.Kpopd, filepath.Join(b.dir, "kpopd.toml"))
	b.Env = append(append(os.Environ(), "LISTEN_FDS=1", "LISTEN_FDNAMES=only"), env...)
	b.ExtraFiles, b.Stdout, b.Stderr = []*os.File{socket}, log, log
	b.ours = []*os.File{socket, log}
	return b
}

func (b *beside) start() {
	b.t.Helper()
	err := b.Start()
	for _, f := range b.ours {
		_ = f.Close()
	}
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		if b.ProcessState == nil {
			_ = b.Process.Kill()
			_ = b.Wait()
		}
		if b.t.Failed() {
			b.t.Logf("its log:\n%s", b.read("log"))
		}
	})
	player.Until(b.t, "it serves", func() bool { return strings.Contains(b.read("log"), "serving") })
}

// end tells it to end, and waits.
func (b *beside) end() {
	b.t.Helper()
	if err := b.Process.Signal(syscall.SIGTERM); err != nil {
		b.t.Fatal(err)
	}
	if err := b.Wait(); err != nil {
		b.t.Error(err)
	}
}

func (b *beside) write(name, text string) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

func (b *beside) read(name string) string {
	text, err := os.ReadFile(filepath.Join(b.dir, name))
	if err != nil {
		b.t.Fatal(err)
	}
	return string(text)
}

// ask speaks to it over its control socket.
func (b *beside) ask(r control.Request, result any) {
	b.t.Helper()
	if err := control.Ask(b.t.Context(), filepath.Join(b.dir, "state", "control.sock"), r, result); err != nil {
		b.t.Fatal(err)
	}
}

// files are the parts of a configuration that the realm has.
func files() string {
	root := ""
	if os.Getuid() == 0 {
		root = "user = \"root\"\n"
	}
	return fmt.Sprintf(`%s[kerberos]
keytab = %q
krb5_conf = %q
[tls]
certificate = %q
key = %q
[password]
check = "none"
[spool]
imapd_conf = %q
mode = "embedded"
`, root, realm.Path("server.keytab"), realm.Path("krb5.conf"), realm.Path("server.pem"), realm.Path("server.key"), realm.Path("imapd.conf"))
}

// TestSystemd: the socket is inherited and systemd is told of every state.
func TestSystemd(t *testing.T) {
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer notify.Close() //nolint:errcheck // at the test's end
	b := newBeside(t, "protocol = \"pop3\"", files(), "NOTIFY_SOCKET="+notify.LocalAddr().String(), "WATCHDOG_USEC=400000")
	b.start()
	expect := func(words ...string) {
		t.Helper()
		_ = notify.SetReadDeadline(time.Now().Add(player.Patience))
		for _, word := range words {
			for got := ""; !strings.Contains(got, word); {
				message := make([]byte, 4096)
				n, err := notify.Read(message)
				if err != nil {
					t.Fatalf("%s is not told: %v", word, err)
				}
				got = string(message[:n])
			}
		}
	}
	expect("READY=1", "WATCHDOG=1")
	player.Dial(t, b.port).Play("S: +OK\nC: QUIT\nS: +OK\n")
	if err := b.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	expect("RELOADING=1", "READY=1")
	if err := b.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	expect("STOPPING=1")
	if err := b.Wait(); err != nil {
		t.Error(err)
	}
}

// TestProxyAndAudit: behind a load balancer the client's own address is in the
// log, for who and in the audit, which has all that it must have.
func TestProxyAndAudit(t *testing.T) {
	fill(t, "alice", 1)
	b := newBeside(t, "protocol = \"kpop\"\nproxy_from = [\"127.0.0.1\"]", files()+"[log]\nformat = \"json\"\naudit = \"{dir}/audit\"\n")
	b.start()
	connect := func(header string, request []byte) *player.Peer {
		p := player.Dial(t, b.port)
		p.Send(header + player.Hello + string(player.Prefixed(request)))
		return p
	}
	request := player.APReq(t, realm, "alice", "pop")
	p := connect("PROXY TCP4 203.0.113.7 192.0.2.1 40000 1109\r\n", request)
	greeted := func(p *player.Peer) {
		t.Helper()
		for line := ""; !strings.HasSuffix(line, "+OK localhost KPOP server ready\r\n"); {
			line = p.Expect("") // behind the octets of sendauth
		}
	}
	greeted(p)
	p.Play("C: USER alice\nS: +OK\nC: PASS x\nS: +OK\n")
	var who []control.Session
	b.ask(control.Request{Command: control.Who, Address: "203.0.113.0/24"}, &who)
	if len(who) != 1 || who[0].Remote != "203.0.113.7:40000" || who[0].User != "alice" || who[0].Detail["kvno"] == "" {
		t.Errorf("%+v", who)
	}
	_ = connect("PROXY TCP4 203.0.113.8 192.0.2.1 40000 1109\r\n", request).Rest() // a replay
	if rest := connect("", player.APReq(t, realm, "alice", "pop")).Rest(); rest != "" {
		t.Errorf("without a header: %q", rest)
	}
	b.ask(control.Request{Command: control.Reload}, nil)
	b.ask(control.Request{Command: control.Trace, Target: "bob", For: time.Minute}, nil)
	b.ask(control.Request{Command: control.Kick, User: "alice"}, nil)
	_ = p.Rest()
	b.end()

	seen := map[string]string{}
	for line := range bytes.Lines([]byte(b.read("audit"))) {
		var record struct{ Msg, Remote, Code string }
		if err := json.Unmarshal(line, &record); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		seen[record.Msg] += record.Remote + record.Code + " "
	}
	for message, want := range map[string]string{
		"login": "203.0.113.7:40000 ", "login refused": "203.0.113.8:40000AUTH ", "kick": "203.0.113.7:40000 ",
		"reloaded": " ", "trace": " ", "key loaded": " ",
	} {
		if got, ok := seen[message]; !ok || !strings.HasPrefix(got, want) {
			t.Errorf("%s: audited is %q of %q", message, got, seen)
		}
	}
	if len(seen) != 6 {
		t.Errorf("%q", seen)
	}
}

// refusesRoot: without a user to become kpopd does not serve as root.
func refusesRoot(b *beside) {
	b.t.Helper()
	b.write("root.toml", strings.Replace(b.read("kpopd.toml"), "user = \"nobody\"\n", "", 1))
	ctx, cancel := context.WithTimeout(b.t.Context(), player.Patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, realm.Kpopd, "serve", "--config", filepath.Join(b.dir, "root.toml")).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "running as root") {
		b.t.Errorf("serving as root: %v, %s", err, out)
	}
}

// TestStartsAsRoot: kpopd becomes its user before it opens a file of its own, for
// good, and serves. Without root it has nobody to become, and all other tests
// are of that.
func TestStartsAsRoot(t *testing.T) {
	if os.Getuid() != 0 {
		if _, err := exec.Command(realm.Kpopd, "serve", "--config", realm.Path("kpopd.toml")).CombinedOutput(); err == nil {
			t.Error("two of them serve the same ports")
		}
		return
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	uid, err := strconv.Atoi(nobody.Uid)
	if err != nil {
		t.Fatal(err)
	}
	text := "user = \"nobody\"\n[kerberos]\nkeytab = \"{dir}/keytab\"\nkrb5_conf = \"{dir}/krb5.conf\"\n[password]\ncheck = \"none\"\n[spool]\nimapd_conf = \"{dir}/imapd.conf\"\nmode = \"embedded\"\n" +
		"[log]\naudit = \"{dir}/audit\"\n"
	b := newBeside(t, "protocol = \"pop3\"", text)
	for name, from := range map[string]string{"keytab": "server.keytab", "krb5.conf": "krb5.conf"} {
		octets, err := os.ReadFile(realm.Path(from))
		if err != nil {
			t.Fatal(err)
		}
		b.write(name, string(octets))
	}
	b.write("imapd.conf", "configdirectory: "+b.dir+"/conf\npartition-default: "+b.dir+"/spool\ndefaultpartition: default\n")
	for _, dir := range []string{"conf", "spool", "."} {
		if err := os.MkdirAll(filepath.Join(b.dir, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"conf", "spool", ".", "keytab", "krb5.conf", "imapd.conf", "kpopd.toml"} {
		if err := os.Chown(filepath.Join(b.dir, name), uid, -1); err != nil {
			t.Fatal(err)
		}
	}
	refusesRoot(b)
	b.start()
	status, err := os.Open(fmt.Sprintf("/proc/%d/status", b.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	defer status.Close() //nolint:errcheck // read
	found := 0
	for lines := bufio.NewScanner(status); lines.Scan(); {
		switch f := strings.Fields(lines.Text()); f[0] {
		case "Uid:":
			found++
			if want := strings.Repeat(" "+nobody.Uid, 4); strings.Join(f[1:], " ") != want[1:] {
				t.Error(f)
			}
		case "CapEff:", "CapPrm:", "CapInh:", "CapAmb:":
			found++
			if strings.Trim(f[1], "0") != "" {
				t.Error(f)
			}
		}
	}
	if found != 5 {
		t.Error("only", found, "lines of the status are known")
	}
	p := player.Dial(t, b.port)
	p.Play("S: +OK\nC: CAPA\nS: +OK\nS: ...\nC: QUIT\nS: +OK\n")
	if rest, err := io.ReadAll(p.In); err != nil || len(rest) != 0 {
		t.Errorf("%q, %v", rest, err)
	}
	for _, name := range []string{"state", "audit"} {
		if info, err := os.Stat(filepath.Join(b.dir, name)); err != nil || info.Sys().(*syscall.Stat_t).Uid != uint32(uid) {
			t.Error(name, "is not its user's", err)
		}
	}
	b.ask(control.Request{Command: control.Reload}, nil) // opens the audit again, which root must not have made
	b.end()
}

// TestFilesOfEverybody: what lies in a directory of everybody's, as in /etc, and
// was replaced cannot be read by a confined daemon. A reload for another file's
// sake goes on without; the configuration itself must have a directory of its
// own, and the refusal says so.
func TestFilesOfEverybody(t *testing.T) {
	everybodys := func(from string) string {
		f, err := os.CreateTemp("/tmp", "kpopd-test")
		if err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
		t.Cleanup(func() { _ = os.Remove(f.Name()) })
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		replace(t, f.Name(), string(text))
		return f.Name()
	}
	krb5, imapd := everybodys(realm.Path("krb5.conf")), everybodys(realm.Path("imapd.conf"))
	text := strings.NewReplacer(realm.Path("krb5.conf"), krb5, realm.Path("imapd.conf"), imapd).Replace(files())
	b := newBeside(t, "protocol = \"pop3\"", text)
	b.start()
	if strings.Contains(b.read("log"), "not confined") {
		t.Log("this kernel has no Landlock; the log says so")
		return
	}
	if log := b.read("log"); !strings.Contains(log, krb5) || !strings.Contains(log, imapd) {
		t.Errorf("the log does not name %s and %s", krb5, imapd)
	}
	for path, from := range map[string]string{krb5: "krb5.conf", imapd: "imapd.conf"} {
		octets, err := os.ReadFile(realm.Path(from))
		if err != nil {
			t.Fatal(err)
		}
		replace(t, path, string(octets))
	}
	b.ask(control.Request{Command: control.Reload}, nil)
	if !strings.Contains(b.read("log"), "krb5.conf cannot be read again before a restart") {
		t.Error("the log does not say that krb5.conf is the old one")
	}
	player.Dial(t, b.port).Play("S: +OK\nC: QUIT\nS: +OK\n")
	b.end()
}
