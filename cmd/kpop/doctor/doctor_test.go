package doctor_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kpopd/kpopd/cmd/kpop/doctor"
)

// A machine without Kerberos, mail or network still gets a whole report.
func bare(t *testing.T) *doctor.Site {
	t.Helper()
	return &doctor.Site{
		Hostname: "mail.realm.test", StateDir: t.TempDir(), Resolver: zone{}.serve(t),
		Kerberos: doctor.Kerberos{Keytab: "/nonexistent", Services: []string{"pop"}},
		Machine:  doctor.Machine{Root: t.TempDir(), Run: func(context.Context, string, ...string) (string, error) { return "", errors.New("none") }},
	}
}

func TestBareMachine(t *testing.T) {
	t.Parallel()
	r := doctor.Server(t.Context(), bare(t))
	remedied(t, r)
	expect(t, r, "keytab", doctor.Wrong, "no such file")
	expect(t, r, "krb5.conf", doctor.Wrong, "no krb5.conf")
	expect(t, r, "dns", doctor.Wrong, "mail.realm.test has no address")
	expect(t, r, "tls", doctor.Warning, "no certificate")
	if r.Worst() != doctor.Wrong {
		t.Error(r.Worst())
	}
}

// TestHandedOver: what systemd hands over is there while kpopd runs, and nobody is told
// to make it.
func TestHandedOver(t *testing.T) {
	t.Parallel()
	const dir = "/run/credentials/kpopd-that-is-not.service/"
	s := bare(t)
	s.Kerberos.Keytab = dir + "keytab"
	s.Certificate = doctor.Certificate{File: "doctor_test.go", Key: dir + "tls.key"}
	r := doctor.Server(t.Context(), s)
	remedied(t, r)
	expect(t, r, "keytab", doctor.Wrong, dir+"keytab is not there")
	expect(t, r, "tls", doctor.Wrong, dir+"tls.key is not there")
	for _, l := range r.Lines() {
		if strings.Contains(l.What, dir) && !strings.HasPrefix(l.Remedy, "systemctl start kpopd") {
			t.Errorf("%s: %s", l.What, l.Remedy)
		}
	}
}

func TestReportForms(t *testing.T) {
	t.Parallel()
	r := doctor.Server(t.Context(), bare(t))
	var b strings.Builder
	if err := r.JSON(&b); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Grade string
		Lines []struct{ Check, Grade, What, Remedy string }
	}
	if err := json.Unmarshal([]byte(b.String()), &got); err != nil {
		t.Fatal(err)
	}
	if got.Grade != "wrong" || len(got.Lines) != len(r.Lines()) || got.Lines[0].Remedy != r.Lines()[0].Remedy {
		t.Errorf("%s", b.String())
	}
	if s := text(t, r); !strings.Contains(s, "\n                   -> ") || !strings.HasSuffix(s, " wrong\n") {
		t.Error(s)
	}
}

// Whatever DNS says, the doctor says who will ask for what.
func TestNames(t *testing.T) {
	t.Parallel()
	const alias, host = "pop.realm.test", "node1.realm.test"
	for _, c := range []struct {
		name, typed string
		zone        zone
		grade       doctor.Grade
		want        []string // words of lines
	}{
		{
			"agree", host,
			zone{a: map[string]string{host: "192.0.2.1"}, ptr: map[string]string{"1.2.0.192.in-addr.arpa": host}},
			doctor.OK, []string{"is at 192.0.2.1", "192.0.2.1 is node1.realm.test backwards too"},
		},
		{
			"alias", alias,
			zone{a: map[string]string{host: "192.0.2.1"}, cname: map[string]string{alias: host}, ptr: map[string]string{"1.2.0.192.in-addr.arpa": host}},
			doctor.OK, []string{"pop.realm.test is an alias of node1.realm.test"},
		},
		{
			"no reverse", host,
			zone{a: map[string]string{host: "192.0.2.1"}},
			doctor.Warning, []string{"192.0.2.1 has no name"},
		},
		{
			"another reverse", host,
			zone{a: map[string]string{host: "192.0.2.1"}, ptr: map[string]string{"1.2.0.192.in-addr.arpa": "dhcp17.realm.test"}},
			doctor.Warning, []string{"192.0.2.1 is dhcp17.realm.test backwards, not node1.realm.test"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := doctor.Client(t.Context(), &doctor.Target{Host: c.typed, Resolver: c.zone.serve(t)})
			for _, words := range c.want {
				if c.grade == doctor.OK {
					expect(t, r, "dns", doctor.OK, words)
				}
			}
			if c.grade != doctor.OK {
				expect(t, r, "dns", c.grade, c.want...)
			}
		})
	}
}

func TestDenials(t *testing.T) {
	t.Parallel()
	const (
		apparmor = `audit: type=1400 apparmor="DENIED" operation="open" profile="kpopd" name="/srv/spool" comm="kpopd"`
		selinux  = `type=AVC msg=audit(1): avc:  denied  { read } for  pid=1 comm="kpopd" name="keytab"`
		others   = `audit: type=1400 apparmor="DENIED" operation="open" profile="cupsd" comm="cupsd"`
	)
	for _, c := range []struct {
		name, unit, journal, file, text string
		grade                           doctor.Grade
		want                            string
	}{
		{name: "none", journal: others, grade: doctor.OK, want: "no denial"},
		{name: "apparmor in the journal", journal: apparmor, grade: doctor.Wrong, want: "/srv/spool"},
		{name: "apparmor in kern.log", file: "var/log/kern.log", text: apparmor, grade: doctor.Wrong, want: "/srv/spool"},
		{name: "selinux", file: "var/log/audit/audit.log", text: selinux, grade: doctor.Wrong, want: "keytab"},
		{name: "selinux enforces", file: "sys/fs/selinux/enforce", text: "1", grade: doctor.OK, want: "SELinux is enforcing"},
		{name: "apparmor confines", file: "sys/kernel/security/apparmor/profiles", text: "kpopd (enforce)\n", grade: doctor.OK, want: "AppArmor confines"},
		{name: "unit failed", unit: "LoadState=loaded\nActiveState=failed\nResult=exit-code\nNRestarts=0\n", grade: doctor.Wrong, want: "exit-code"},
		{name: "unit restarted", unit: "LoadState=loaded\nActiveState=active\nResult=success\nNRestarts=3\n", grade: doctor.Warning, want: "3 times"},
		{name: "unit active", unit: "LoadState=loaded\nActiveState=active\nResult=success\nNRestarts=0\n", grade: doctor.OK, want: "kpopd is active"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := bare(t)
			s.Machine.Run = func(_ context.Context, name string, _ ...string) (string, error) {
				return map[string]string{"systemctl": c.unit, "journalctl": c.journal + "\n"}[name], nil
			}
			if c.file != "" {
				path := filepath.Join(s.Machine.Root, c.file)
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			expect(t, doctor.Server(t.Context(), s), "denials", c.grade, c.want)
		})
	}
}

func TestGradesAreOrdered(t *testing.T) {
	t.Parallel()
	if diff := cmp.Diff([]string{"ok", "warning", "wrong"}, []string{doctor.OK.String(), doctor.Warning.String(), doctor.Wrong.String()}); diff != "" {
		t.Error(diff)
	}
}
