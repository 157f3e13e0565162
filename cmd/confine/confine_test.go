package confine_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kpopd/kpopd/cmd/confine"
)

// The tests confine a child: this program again, told what to do by its
// environment.
func TestMain(m *testing.M) {
	switch do := os.Getenv("CONFINE_TEST"); do {
	case "":
		os.Exit(m.Run())
	case "landlock":
		landlocked(os.Getenv("CONFINE_DIR"))
	default:
		dropped(do)
	}
}

func child(t *testing.T, env ...string) string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// say prints "name: ok" or "name: refused", or the error that is neither.
func say(name string, err error) {
	switch {
	case err == nil:
		fmt.Println(name + ": ok")
	case errors.Is(err, os.ErrPermission):
		fmt.Println(name + ": refused")
	default:
		fmt.Println(name+":", err)
	}
}

func reads(path string) error { _, err := os.ReadFile(path); return err }

func landlocked(dir string) {
	files := confine.Files{Read: []string{filepath.Join(dir, "conf", "a"), "/etc/hostname"}, WriteTrees: []string{filepath.Join(dir, "spool")}, ReadTrees: []string{"/nowhere"}}
	fixed, err := confine.Landlock(files.And(confine.System()))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(fixed)
	say("passwd", reads("/etc/passwd"))
	say("another's", reads(filepath.Join(dir, "other", "b")))
	say("config", reads(filepath.Join(dir, "conf", "a")))
	say("config's neighbour", reads(filepath.Join(dir, "conf", "c")))
	say("write config", os.WriteFile(filepath.Join(dir, "conf", "a"), nil, 0o600))
	spool := filepath.Join(dir, "spool")
	say("write", os.WriteFile(filepath.Join(spool, "one", "m"), []byte("x"), 0o600))
	say("move", os.Rename(filepath.Join(spool, "one", "m"), filepath.Join(spool, "two", "m")))
	say("link", os.Link(filepath.Join(spool, "two", "m"), filepath.Join(spool, "one", "n")))
	say("remove", os.Remove(filepath.Join(spool, "two", "m")))
	say("own status", reads("/proc/self/status"))
	_, err = exec.Command("/bin/true").CombinedOutput()
	say("run a program", err)
}

func TestLandlock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, d := range []string{"conf", "other", "spool/one", "spool/two"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"conf/a", "conf/c", "other/b"} {
		if err := os.WriteFile(filepath.Join(dir, f), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got := child(t, "CONFINE_TEST=landlock", "CONFINE_DIR="+dir)
	if strings.HasPrefix(got, confine.ErrNoLandlock.Error()) {
		t.Log("this kernel cannot confine; that it is told is all there is to see")
		return
	}
	fixed, got, _ := strings.Cut(got, "\n")
	if !strings.Contains(fixed, "/etc/hostname") || !strings.Contains(fixed, "/etc/hosts") || strings.Contains(fixed, dir) {
		t.Error("fixed are", fixed)
	}
	want := `passwd: refused
another's: refused
config: ok
config's neighbour: ok
write config: refused
write: ok
move: ok
link: ok
remove: ok
own status: ok
run a program: refused
`
	if got != want {
		t.Errorf("got:\n%s", got)
	}
}

func dropped(name string) {
	if err := confine.NoCore(); err != nil {
		fmt.Println(err)
	}
	if err := confine.Drop(name); err != nil {
		fmt.Println(err)
		return
	}
	groups, err := os.Getgroups()
	fmt.Println(os.Getuid() != 0, os.Geteuid() != 0, os.Getgid() != 0, len(groups), err)
	say("root's file", reads("/etc/shadow"))
}

func TestDrop(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		if got := child(t, "CONFINE_TEST=nobody"); !strings.Contains(got, "operation not permitted") {
			t.Error(got)
		}
		return
	}
	if got := child(t, "CONFINE_TEST=nobody"); got != "true true true 1 <nil>\nroot's file: refused\n" {
		t.Error(got)
	}
	for name, want := range map[string]string{"root": "root by another name", "no-such-user": "unknown user"} {
		if got := child(t, "CONFINE_TEST="+name); !strings.Contains(got, want) {
			t.Error(name, got)
		}
	}
}

// TestKeepNameservers: only a resolv.conf that cannot be read any more makes the
// old nameservers be asked.
func TestKeepNameservers(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(file, []byte("# by DHCP\nsearch example.org\nnameserver 192.0.2.1\nnameserver 2001:db8::1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	dial := confine.KeepNameservers(file)
	asks := func(address string) string {
		c, err := dial(t.Context(), "udp", address) // connects, sends nothing
		if err != nil {
			return err.Error()
		}
		defer c.Close()
		return c.RemoteAddr().String()
	}
	if got := asks("127.0.0.1:53"); got != "127.0.0.1:53" {
		t.Error(got)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if got := asks("127.0.0.1:53"); !strings.Contains(got, "192.0.2.1:53") {
		t.Error(got)
	}
	if got := asks("[::1]:53"); !strings.Contains(got, "[2001:db8::1]:53") { // or no route to it
		t.Error(got)
	}
	if got := asks("127.0.0.9:53"); got != "127.0.0.9:53" {
		t.Error(got)
	}
}
