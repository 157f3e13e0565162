//go:build integration

package krb5conf_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kpopd/kpopd/krb5conf"
)

// buildOracle compiles testdata/oracle.c, which asks the machine's libkrb5.
func buildOracle(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "oracle")
	//nolint:gosec // G204: a constant command
	out, err := exec.CommandContext(t.Context(), "gcc", "-Wall", "-Werror", "-o", program, "testdata/oracle.c", "-lkrb5").CombinedOutput()
	if err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	return program
}

// ask runs the oracle on a configuration and gives its lines.
func ask(t *testing.T, program, text, what string, args ...string) []string {
	t.Helper()
	path := write(t, t.TempDir(), "krb5.conf", text)
	cmd := exec.CommandContext(t.Context(), program, append([]string{what}, args...)...) //nolint:gosec // G204: built above
	cmd.Env = append(os.Environ(), "KRB5_CONFIG="+path)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
}

// TestOracleMap compares each rule set and principal with libkrb5's
// krb5_aname_to_localname: our own answer, and the table of TestMap.
func TestOracleMap(t *testing.T) {
	t.Parallel()
	program := buildOracle(t)
	principals := strings.Fields(rulePrincipals)
	everyone := krb5conf.LocalNameOptions{NamesForeign: true, TrustedRealms: []string{"O.TEST", "OXTEST", "O.TEST.EVIL"}}
	pairs := 0
	for _, c := range ruleCases {
		answers := ask(t, program, realmBlock(c.lines), "map", principals...)
		if len(answers) != len(principals) {
			t.Fatalf("%s: libkrb5 gives %q", c.name, answers)
		}
		l, want := localNames(t, c.lines, everyone), strings.Fields(c.want)
		for i, answer := range answers {
			pairs++
			theirs, mapped := strings.CutPrefix(answer, "=")
			table := theirs
			if !mapped {
				table = "-"
			} else if theirs == "" {
				table = "="
			}
			if want[i] != table {
				t.Errorf("%s: %s: libkrb5 gives %q, the table says %q", c.name, principals[i], answer, want[i])
			}
			ours, err := l.Map(principals[i])
			if mapped && !refused(table) && (err != nil || ours != theirs) || !mapped && (answer != "none" || err == nil) {
				t.Errorf("%s: %s: libkrb5 gives %q, we give %q, %v", c.name, principals[i], answer, ours, err)
			}
		}
	}
	if pairs < 200 {
		t.Errorf("only %d pairs were asked", pairs)
	}
}

func TestOracleProfile(t *testing.T) {
	t.Parallel()
	program := buildOracle(t)
	for _, c := range profileCases {
		p := parse(t, c.text)
		for path := range c.want {
			theirs := ask(t, program, c.text, "get", path)[0]
			if ours := strings.Join(p.Values(strings.Split(path, "/")...), "\x1f"); ours != theirs {
				t.Errorf("%s: %s: libkrb5 gives %q, we give %q", c.name, path, theirs, ours)
			}
		}
	}
	for _, c := range faultCases {
		if strings.Contains(c.name, "relative") {
			continue // libkrb5 fails for another reason
		}
		if got := ask(t, program, c.text, "get", "a/b"); got[0] != "init-error" {
			t.Errorf("%s: libkrb5 takes it: %q", c.name, got)
		}
	}
}

func TestOraclePrincipal(t *testing.T) {
	t.Parallel()
	program := buildOracle(t)
	var texts, want []string
	for _, c := range principalCases {
		texts, want = append(texts, c.text), append(want, "="+c.printed)
	}
	if d := cmp.Diff(want, ask(t, program, realmBlock(""), "parse", texts...)); d != "" {
		t.Error(d)
	}
}
