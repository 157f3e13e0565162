//go:build integration

package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// TestUnitIsHardened: the threshold is ten times the exposure level.
func TestUnitIsHardened(t *testing.T) {
	t.Parallel()
	run(t, "systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", "systemd/kpopd.service")
}

// TestUnitsAreWellFormed: systemd has nothing to say about the units but that the
// programs are not here, and before version 253 that it does not know
// notify-reload.
func TestUnitsAreWellFormed(t *testing.T) {
	t.Parallel()
	sockets, err := filepath.Glob("systemd/*.socket")
	if err != nil || len(sockets) != 3 {
		t.Fatal(sockets, err)
	}
	out, _ := exec.Command("systemd-analyze", append([]string{"verify", "--man=no", "systemd/kpopd.service"}, sockets...)...).CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "kpopd") && !strings.Contains(line, "notify-reload") && !strings.HasSuffix(strings.TrimSpace(line), "is not executable: No such file or directory") {
			t.Error(line)
		}
	}
}

// TestSysusers makes the user in an empty tree.
func TestSysusers(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for _, dir := range []string{"etc", "usr/lib/sysusers.d"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile("systemd/kpopd.sysusers")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "usr/lib/sysusers.d/kpopd.conf"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "systemd-sysusers", "--root="+root)
	passwd, err := os.ReadFile(filepath.Join(root, "etc/passwd"))
	if err != nil || !strings.HasPrefix(string(passwd), "cyrus:") {
		t.Errorf("%s, %v", passwd, err)
	}
}

// TestFilter: what counts is counted for the address that it came from, in every
// form of the log, whatever a client calls itself.
func TestFilter(t *testing.T) {
	t.Parallel()
	got := strings.Fields(run(t, "fail2ban-regex", "-o", "ip", "fail2ban/testdata/sample.log", "fail2ban/filter.conf"))
	want := []string{"192.0.2.1", "2001:db8::1", "192.0.2.3", "192.0.2.5", "192.0.2.6", "192.0.2.7"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
