package kpopd_test

import (
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/kpopd/kpopd/"

// rooms says which of our packages each room may import (ARCHITECTURE.md). A
// room is its directory and everything below; the longest prefix rules.
var rooms = map[string][]string{
	"auth":                      {},
	"auth/":                     {"auth"},
	"auth/kdc":                  {},
	"auth/password":             {"auth", "auth/kdc"},
	"mailstore":                 {},
	"mailstore/":                {"mailstore", "mailstore/utf7", "mailstore/cyrus/"},
	"mailstore/lmtp":            {"mailstore"},
	"mailstore/cyrus/imapproxy": {"mailstore", "mailstore/cyrus", "mailstore/cyrus/imapdconf"},
	"krb5conf":                  {},
	"kpop":                      {"auth", "mailstore", "mailstore/utf7", "kpop/"},
	"kpop/lang":                 {},
	"kpop/mimepart":             {},
	"kpop/surrogate":            {"kpop/mimepart"},
	"cmd/":                      nil, // anything: it wires
	"integration":               nil,
	"integration/":              nil,
	"auth/ldapdir":              {"auth", "auth/rules"},
	"auth/ldapdir/":             {"auth", "auth/ldapdir", "auth/rules", "integration/loopback"},
	"auth/ldapdir/gssbind":      {"auth/kdc"},
	"mailstore/cyrus":           {"mailstore", "mailstore/utf7", "mailstore/cyrus/"},
}

func TestImportsKeepTheRoomsApart(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f",
		`{{.ImportPath}} {{join .Imports " "}}`, "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		from := strings.TrimPrefix(fields[0], module)
		allowed, free := allowedFrom(from)
		for _, imported := range fields[1:] {
			to, ours := strings.CutPrefix(imported, module)
			if ours && !free && !permits(allowed, to) {
				t.Errorf("%s imports %s, which ARCHITECTURE.md forbids", from, to)
			}
		}
	}
}

func allowedFrom(from string) (allowed []string, free bool) {
	best := ""
	for room := range rooms {
		match := room == from || strings.HasSuffix(room, "/") && strings.HasPrefix(from+"/", room)
		if match && len(room) > len(best) {
			best = room
		}
	}
	return rooms[best], best == "" || rooms[best] == nil
}

func permits(allowed []string, to string) bool {
	for _, a := range allowed {
		if a == to || strings.HasSuffix(a, "/") && strings.HasPrefix(to, a) {
			return true
		}
	}
	return false
}

// TestDaemonAsksKDCsItself: gokrb5's client, which takes as much memory as whoever
// answers announces, is the operator's tool's alone.
func TestDaemonAsksKDCsItself(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "./cmd/kpopd").Output()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(out), "github.com/jcmturner/gokrb5/v8/client\n") || !strings.Contains(string(out), module+"auth/kdc\n") {
		t.Error("kpopd does not ask KDCs by auth/kdc alone")
	}
}
