//go:build integration

// Package docs_test runs what the documents tell people to type, in a realm of
// its own. A fence of a document is one of
//
//	sh              commands, which must succeed
//	sh login        the same, and somebody must have logged in by them
//	sh deb, compose commands that make test-docker runs: they want containers
//	file PATH       the contents of a file in the home directory
//	toml            a part of kpopd.toml, which must be taken
//	text            what is only to be read
package docs_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/kpopd/kpopd/cmd/config"
	"github.com/kpopd/kpopd/integration"
)

// onScreen, when it is set, makes of this test the program of its arguments, on a
// terminal: script(1) without a terminal of its own loses one in many.
const onScreen = "KPOPD_DOCS_SCREEN"

func TestMain(m *testing.M) {
	if os.Getenv(onScreen) == "" {
		os.Exit(m.Run())
	}
	if err := runOnScreen(exec.Command(os.Args[1], os.Args[2:]...)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// runOnScreen runs a program on a terminal of 24 lines and writes what it draws to
// standard output.
func runOnScreen(cmd *exec.Cmd) error {
	screen, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: 80})
	if err != nil {
		return err
	}
	defer screen.Close()              //nolint:errcheck // nothing was written
	_, _ = io.Copy(os.Stdout, screen) // ends with EIO when the program does
	return cmd.Wait()
}

// documents are run in this order: installing makes what the others need.
var documents = []string{"install.md", "clients.md", "operations.md", "migration.md", "security.md", "identity.md", "spool.md", "cyrus.md"}

// A fence is a fenced block of a document.
type fence struct {
	info, text string
	line       int
}

func fences(t *testing.T, file string) []fence {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out []fence
	open := false
	for i, line := range strings.Split(string(b), "\n") {
		info, isFence := strings.CutPrefix(line, "```")
		switch {
		case isFence && !open:
			out, open = append(out, fence{info: info, line: i + 1}), true
		case isFence:
			open = false
		case open:
			out[len(out)-1].text += line + "\n"
		}
	}
	if open {
		t.Errorf("%s: a fence is left open", file)
	}
	return out
}

// Every fence says what it is.
func TestFencesAreKnown(t *testing.T) {
	t.Parallel()
	all, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range all {
		for _, f := range fences(t, file) {
			kind, _, _ := strings.Cut(f.info, " ")
			if !slices.Contains([]string{"sh", "file", "toml", "text"}, kind) {
				t.Errorf("%s:%d: fence %q", file, f.line, f.info)
			}
		}
	}
}

// A reader is somebody who follows the documents.
type reader struct {
	realm   *integration.Realm
	home    string
	replace *strings.Replacer
}

func TestDocuments(t *testing.T) {
	r := newReader(t)
	for _, file := range documents {
		t.Run(file, func(t *testing.T) {
			for _, f := range fences(t, file) {
				r.follow(t, file, f)
			}
		})
	}
	t.Run("directories of identity.md", r.directories)
}

// newReader brings a realm up and puts beside it the programs that a document
// names and that would reach out of the realm.
func newReader(t *testing.T) *reader {
	t.Helper()
	bin, err := filepath.Abs("../bin")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "kpopd-docs")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	realm, err := integration.Up(t.Context(), dir, integration.Options{
		Kpopd: filepath.Join(bin, "kpopd"), Tool: filepath.Join(bin, "realm"),
	})
	if err != nil {
		t.Fatal("the realm does not come up; run make deps build: ", err)
	}
	t.Cleanup(func() {
		if b, err := os.ReadFile(realm.Path("kpopd.log")); err == nil && t.Failed() {
			t.Logf("the daemon's log ends in\n%s", b[max(0, len(b)-8000):])
		}
		if err := realm.Down(); err != nil {
			t.Error(err)
		}
	})
	r := &reader{realm: realm, home: filepath.Join(dir, "home")}
	r.replace = strings.NewReplacer(
		"mail.example.org:1109", "localhost:"+strconv.Itoa(realm.Ports.KPOP),
		"mail.example.org:110", "localhost:"+strconv.Itoa(realm.Ports.POP3),
		"mail.example.org:995", "localhost:"+strconv.Itoa(realm.Ports.POP3S),
		"service 110", "service \""+strconv.Itoa(realm.Ports.POP3)+"\"", "service 995", "service \""+strconv.Itoa(realm.Ports.POP3S)+"\"",
		"port 110", "port "+strconv.Itoa(realm.Ports.POP3), "-p 110", "-p "+strconv.Itoa(realm.Ports.POP3),
		"mail.example.org", "localhost", "example.org", "realm.test", "EXAMPLE.ORG", "REALM.TEST",
		"/etc/ssl/mail-ca.pem", realm.Path("ca.pem"), "/etc/ssl/kpopd.pem", realm.Path("server.pem"), "/etc/ssl/private/kpopd.key", realm.Path("server.key"),
		"/etc/kpopd/kpopd.toml", realm.Path("kpopd.toml"), "/etc/kpopd/kpopd.keytab", realm.Path("server.keytab"), "/etc/krb5.conf", realm.Path("krb5.conf"),
		"/etc/imapd.conf", realm.Path("imapd.conf"), "/var/lib/kpopd", realm.Path("state"), "/run/kpopd", realm.Path("state"), "seconds=20", "seconds=1",
		"~/", r.home+"/",
	)
	r.stubs(t, bin)
	folder := t.TempDir()
	r.write(t, filepath.Join(r.home, "Mail", "none"), "", 0o600) // neomutt asks for it
	for name, text := range integration.SampleMail() {
		r.write(t, filepath.Join(folder, name), text, 0o600)
	}
	if err := realm.Fill(t.Context(), "alice", folder); err != nil {
		t.Fatal(err)
	}
	password, err := realm.Password("alice")
	if err != nil {
		t.Fatal(err)
	}
	r.write(t, filepath.Join(r.home, "alice.password"), password, 0o600)
	r.write(t, filepath.Join(r.home, "message"), "Subject: hello\r\n\r\nGood morning.\r\n", 0o600)
	r.watchable(t)
	r.uninstall(t)
	return r
}

// watchable gives the daemon, from its next start on, the socket for profiles.
func (r *reader) watchable(t *testing.T) {
	t.Helper()
	path := r.realm.Path("kpopd.toml")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r.write(t, path, string(b)+"\n[control]\npprof = \""+r.realm.Path("state/pprof.sock")+"\"\n", 0o600)
}

// uninstall takes away what installing is to make.
func (r *reader) uninstall(t *testing.T) {
	t.Helper()
	if _, err := r.realm.Kadmin(t.Context(), "delprinc -force pop/localhost\ndelprinc -force pop3/localhost\n"); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(r.realm.Path("server.keytab")); err != nil {
		t.Fatal(err)
	}
}

// stubs are programs that stand for those of a whole machine: kadmin for one
// with an administrator's password, systemctl for one that manages the machine.
func (r *reader) stubs(t *testing.T, bin string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"kadmin": `out=$(/usr/sbin/kadmin.local -r REALM.TEST "$@" 2>&1); echo "$out"; case $out in *"while "*|*Usage:*) exit 1;; esac`,
		"kinit":  `[ "$*" = alice ] && exec /usr/bin/kinit alice <"$HOME/alice.password"; exec /usr/bin/kinit "$@"`,
		"kpop": `ports="--ports kpop=` + fmt.Sprintf("%d,pop3=%d,pop3s=%d", r.realm.Ports.KPOP, r.realm.Ports.POP3, r.realm.Ports.POP3S) + `"
case "$*" in "doctor --client"*) ;; *) ports=;; esac
config=; case "$1" in doctor|map|spool|deliver|who|kick|stats|reload|trace) config="--config ` + r.realm.Path("kpopd.toml") + `";; esac
case "$*" in *--client*|*--config*) config=;; esac
exec ` + bin + `/kpop "$@" $config $ports`,
		"kpopd":      `exec ` + bin + `/kpopd "$@"`,
		"systemctl":  `case $1 in restart) exec ` + r.realm.Path("restart") + `;; reload) kill -HUP $(cat ` + r.realm.Path("kpopd.pid") + `);; esac`,
		"journalctl": `cat ` + r.realm.Path("kpopd.log"),
		"sudo":       `exec "$@"`,
		"neomutt":    `TERM=xterm ` + onScreen + `=yes exec ` + self + ` /usr/bin/neomutt -F "$HOME/.neomuttrc" -e 'set wait_key=no quit=yes pop_delete=no' -e 'push q' "$@"`,
		"fetchmail":  `exec /usr/bin/fetchmail -f "$HOME/.fetchmailrc" --nosyslog --pidfile "$HOME/fetchmail.pid" --idfile "$HOME/fetchids" "$@"`,
		"mpop":       `exec /usr/bin/mpop -C "$HOME/.mpoprc" "$@"`,
		"logger":     `exit 0`,
		"go":         `HOME=` + os.Getenv("HOME") + ` exec ` + goTool(t) + ` "$@"`,
	} {
		r.write(t, filepath.Join(r.home, "bin", name), "#!/bin/bash\n"+text+"\n", 0o700)
	}
}

// goTool is Go's own command, which has made its pprof already: it does that when it
// is first asked, and takes longer than a reader's command may.
func goTool(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("go")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), path, "tool", "-n", "pprof").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

func (r *reader) write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// follow does what a fence says.
func (r *reader) follow(t *testing.T, file string, f fence) {
	t.Helper()
	kind, rest, _ := strings.Cut(f.info, " ")
	switch kind {
	case "file":
		r.write(t, r.replace.Replace(rest), r.replace.Replace(f.text), 0o600)
	case "toml":
		r.take(t, file, f)
	case "sh":
		if rest == "deb" || rest == "compose" {
			return
		}
		before, keys := r.logins(t), r.keys(t)
		out, err := r.run(t, f.text)
		if err != nil {
			t.Errorf("%s:%d:\n%s\n%v", file, f.line, f.text, err)
			return
		}
		if strings.Contains(f.text, "ktadd") && !r.within(func() bool { return r.keys(t) > keys }) {
			t.Errorf("%s:%d: kpopd has not seen the new key:\n%s\n%s", file, f.line, f.text, out)
		}
		if rest == "login" && !r.within(func() bool { return r.logins(t) > before }) {
			t.Errorf("%s:%d: nobody logged in:\n%s\n%s", file, f.line, f.text, out)
		}
	}
}

// run runs commands as the reader would, in a home directory of his own. The
// environment of the test has a ticket cache in it.
func (r *reader) run(t *testing.T, commands string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	tool := r.realm.Tool(filepath.Join(r.home, "krb5cc"))
	tool.Env = append(tool.Env, "HOME="+r.home, "FETCHMAILHOME="+r.home, "PATH="+filepath.Join(r.home, "bin")+":/usr/sbin:/sbin:"+os.Getenv("PATH"), "MAILRC=/dev/null")
	tool.Dir = r.home
	return tool.Run(ctx, r.realm.Path("with-services"), "bash", "-euo", "pipefail", "-c", r.replace.Replace(commands))
}

// take checks a part of the configuration; what it names must be there.
func (r *reader) take(t *testing.T, file string, f fence) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kpopd.toml")
	text := r.replace.Replace(f.text)
	if !strings.Contains(text, "imapd_conf") && !strings.Contains(text, "[spool") {
		text += "[spool]\nimapd_conf = \"" + r.realm.Path("imapd.conf") + "\"\n"
	}
	if !strings.Contains(text, "[listen") {
		text += "[listen.pop3]\naddress = \":110\"\nprotocol = \"pop3\"\n"
	}
	r.write(t, path, text, 0o600)
	if _, err := config.Load(path); err != nil {
		t.Errorf("%s:%d: %v\n%s", file, f.line, err, text)
	}
}

// logins counts those who have logged in.
func (r *reader) logins(t *testing.T) int { return r.logged(t, "mailbox=alice") }

// keys counts the keys that the daemon has read.
func (r *reader) keys(t *testing.T) int {
	return r.logged(t, `msg="key loaded"`) + r.logged(t, `msg="key rewritten"`)
}

func (r *reader) logged(t *testing.T, words string) int {
	t.Helper()
	b, err := os.ReadFile(r.realm.Path("kpopd.log"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(b), words)
}

func (r *reader) within(ok func() bool) bool {
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if ok() {
			return true
		}
	}
	return false
}

// The Arabic page gives the same two commands.
func TestArabicPage(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../README.ar.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"make demo", "make test"} {
		if !strings.Contains(string(b), "\n    "+command) {
			t.Errorf("README.ar.md lacks %q", command)
		}
	}
}
