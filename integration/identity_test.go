//go:build integration

package integration_test

import (
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kpopd/kpopd/auth/ldapdir/ldaptest"
	"github.com/kpopd/kpopd/integration"
	"github.com/kpopd/kpopd/integration/player"
)

// reconfigure starts the realm's kpopd with other values for the length of a
// test. Pairs are what is replaced and by what.
func reconfigure(t *testing.T, pairs ...string) {
	t.Helper()
	path := realm.Path("kpopd.toml")
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := string(old)
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("kpopd.toml has no %s", pairs[i])
		}
		text = strings.Replace(text, pairs[i], pairs[i+1], 1)
	}
	write(t, path, text)
	t.Cleanup(func() {
		write(t, path, string(old))
		if err := realm.Restart(); err != nil {
			t.Error(err)
		}
	})
	if err := realm.Restart(); err != nil {
		t.Fatal(err)
	}
}

// people makes users, by kadmin's words for what is odd about each.
func people(t *testing.T, odd map[string]string) {
	t.Helper()
	var script strings.Builder
	for user, how := range odd {
		if err := realm.AddUser(t.Context(), user); err != nil {
			t.Fatal(err)
		}
		if how != "" {
			fmt.Fprintf(&script, "modprinc %s %s\n", how, user)
		}
	}
	if _, err := realm.Kadmin(t.Context(), script.String()); err != nil {
		t.Fatal(err)
	}
}

func passwordOf(t *testing.T, user string) string {
	t.Helper()
	password, err := realm.Password(user)
	if err != nil {
		t.Fatal(err)
	}
	return password
}

// secure connects to POP3S from one of loopback's addresses.
func secure(t *testing.T, from string) *player.Peer {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.DialContext(t.Context(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(realm.Ports.POP3S)))
	if err != nil {
		t.Fatal(err)
	}
	p := player.On(t, c)
	p.Secure(realm)
	p.Expect("+OK")
	return p
}

// plain makes a whole AUTH PLAIN command (RFC 4616 section 2).
func plain(authzid, authcid, password string) string {
	return "AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte(authzid+"\x00"+authcid+"\x00"+password)) + "\r\n"
}

// try logs in by password over POP3S and gives the answer.
func try(t *testing.T, from, authzid, authcid, password string) string {
	t.Helper()
	p := secure(t, from)
	defer p.Close() //nolint:errcheck // the answer is what is wanted
	p.Send(plain(authzid, authcid, password))
	answer := p.Expect("")
	if strings.HasPrefix(answer, "+OK") {
		p.Send("QUIT\r\n")
		p.Expect("+OK")
	}
	return answer
}

var tries = flag.Int("refusals", 3, "how often TestRefusalsAreAlike tries each; from 50 on it compares medians")

// From outside nobody can tell why a login is refused: the words are the same,
// and so is the time.
func TestRefusalsAreAlike(t *testing.T) {
	const floor = 150 * time.Millisecond
	reconfigure(t, `failure_delay = "1ms"`, `failure_delay = "`+floor.String()+`"`)
	people(t, map[string]string{
		"rrevoked": "-allow_tix", "rexpired": "-pwexpire yesterday", "rchange": "+needchange", "rgone": "-expire yesterday",
		"rlocked": "", "rboxless": "", "rtwice": "", "rgood": "", "rclosed": "",
	})
	directory := realm.LDAP()
	principal := func(user string) string { return user + "@" + integration.RealmName }
	for _, err := range []error{
		directory.Set("rlocked", "kpopLocked", "20260101000000Z"),
		directory.Set("rboxless", "kpopMailbox"),
		directory.Set("rclosed", "kpopProtocol", "KPOP"),
		directory.Add(ldaptest.User{Name: "rtwice2", Mailbox: "x", More: map[string][]string{"krbPrincipalName": {principal("rtwice")}}}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = directory.Remove("rtwice2") })
	if err := realm.AddUser(t.Context(), "runmapped"); err != nil {
		t.Fatal(err)
	}
	if err := directory.Remove("runmapped"); err != nil {
		t.Fatal(err)
	}
	good := passwordOf(t, "rgood")
	cases := []struct{ name, authzid, authcid, password, reason string }{
		{"unknown user", "", "rnobody", "x", "unknown principal"},
		{"wrong password", "", "rgood", good + "x", "wrong password"},
		{"locked at the KDC", "", "rrevoked", passwordOf(t, "rrevoked"), "account is locked"},
		{"password expired", "", "rexpired", passwordOf(t, "rexpired"), "password has expired or must be changed"},
		{"must change", "", "rchange", passwordOf(t, "rchange"), "password has expired or must be changed"},
		{"account expired", "", "rgone", passwordOf(t, "rgone"), "account has expired"},
		{"locked in the directory", "", "rlocked", passwordOf(t, "rlocked"), "refused (locked)"},
		{"no entry", "", "runmapped", passwordOf(t, "runmapped"), "refused (no-entry)"},
		{"no mailbox", "", "rboxless", passwordOf(t, "rboxless"), "refused (no-mailbox)"},
		{"two entries", "", "rtwice", passwordOf(t, "rtwice"), "refused (many-entries)"},
		{"protocol", "", "rclosed", passwordOf(t, "rclosed"), "refused (protocol)"},
		{"another's maildrop", "alice", "rgood", good, "refused (not-authorized)"},
		{"nobody's maildrop", "rnobody", "rgood", good, "refused (not-authorized)"},
		{"bad name", "", "r/good", good, "malformed"},
	}
	took := make([][]time.Duration, len(cases))
	for range *tries {
		for i, c := range cases {
			p := secure(t, "127.0.0.1")
			began := time.Now()
			p.Send(plain(c.authzid, c.authcid, c.password))
			answer := p.Expect("-ERR")
			elapsed := time.Since(began)
			_ = p.Close()
			if answer != "-ERR [AUTH] Authentication failed\r\n" {
				t.Errorf("%s: %q", c.name, answer)
			}
			if elapsed < floor {
				t.Errorf("%s: after %v, before %v", c.name, elapsed, floor)
			}
			took[i] = append(took[i], elapsed)
		}
	}
	for _, c := range cases {
		logged(t, "login refused", c.reason)
	}
	least, most := time.Hour, time.Duration(0)
	for i, c := range cases {
		slices.Sort(took[i])
		median := took[i][len(took[i])/2]
		t.Logf("%-24s median of %d: %v", c.name, len(took[i]), median.Round(10*time.Microsecond))
		least, most = min(least, median), max(most, median)
	}
	if *tries >= 50 && float64(most) > 1.1*float64(least) {
		t.Errorf("medians lie between %v and %v, more than 10 %% apart", least, most)
	}
	ticketsAlike(t, floor)
	if answer := try(t, "127.0.0.1", "", "rgood", good); !strings.HasPrefix(answer, "+OK") {
		t.Errorf("the right password: %s", answer)
	}
}

// ticketsAlike does the same for those who proved by a ticket who they are.
func ticketsAlike(t *testing.T, floor time.Duration) {
	t.Helper()
	for _, c := range []struct{ principal, user string }{
		{"rgood", "alice"}, {"rgood", "rnobody"}, {"rgood", "r/good"}, {"rlocked", "rlocked"}, {"runmapped", "runmapped"},
		{"rboxless", "rboxless"}, {"rtwice", "rtwice"}, {"alice-admin", "alice-admin"}, {"alice-admin", "alice"},
	} {
		p, code := sendauth(t, apReq(t, c.principal, "pop"))
		if code != 0 {
			t.Fatalf("%s: KRB-ERROR %d", c.principal, code)
		}
		p.Expect("+OK")
		p.Send("USER " + c.user + "\r\n")
		p.Expect("+OK")
		began := time.Now()
		p.Send("PASS x\r\n")
		if answer := p.Expect(""); answer != "-ERR [AUTH] Authentication failed\r\n" || time.Since(began) < floor {
			t.Errorf("%s asks for %s: %q after %v", c.principal, c.user, answer, time.Since(began))
		}
		p.Send("QUIT\r\n")
		p.Rest()
	}
}

// A flood of guesses slows the guesser, and nobody elsewhere.
func TestGuessesAreSlowed(t *testing.T) {
	reconfigure(t, "free_per_user = 1000000000", "free_per_user = 2\nfade = \"1h\"\nfirst_wait = \"10ms\"\nmax_wait = \"40ms\"")
	people(t, map[string]string{"guessed": "", "beside": ""})
	password := passwordOf(t, "guessed")
	held := false
	for n := 0; n < 30 && !held; n++ {
		switch answer := try(t, "127.0.0.2", "", "guessed+host.test", "wrong"+strconv.Itoa(n)); {
		case strings.HasPrefix(answer, "-ERR [SYS/TEMP]"):
			held = true
		case !strings.HasPrefix(answer, "-ERR [AUTH]"):
			t.Fatal(answer)
		}
	}
	if !held {
		t.Fatal("thirty guesses, and no end")
	}
	logged(t, "too many wrong guesses from here")
	for _, c := range []struct{ from, user, answer string }{
		{"127.0.0.2", "guessed", "-ERR [SYS/TEMP]"},
		{"127.0.0.3", "guessed", "+OK"},
		{"127.0.0.1", "guessed", "+OK"},
		{"127.0.0.2", "beside", "+OK"},
	} {
		right := password
		if c.user != "guessed" {
			right = passwordOf(t, c.user)
		}
		if answer := try(t, c.from, "", c.user, right); !strings.HasPrefix(answer, c.answer) {
			t.Errorf("%s from %s with the right password: %s, want %s", c.user, c.from, answer, c.answer)
		}
	}
	if answer := login(t, "guessed", "guessed"); !strings.HasPrefix(answer, "+OK") {
		t.Errorf("by ticket: %s", answer)
	}
}

// A directory that is down is never a wrong password: whom it has seen lately
// goes on, everybody else is told to come back.
func TestDirectoryDown(t *testing.T) {
	reconfigure(t, `found = "1s"`, `found = "1ms"`)
	people(t, map[string]string{"seen": "", "unseen": ""})
	if answer := login(t, "seen", "seen"); !strings.HasPrefix(answer, "+OK") {
		t.Fatal(answer)
	}
	open, code := sendauth(t, apReq(t, "seen", "pop"))
	if code != 0 {
		t.Fatalf("KRB-ERROR %d", code)
	}
	open.Expect("+OK")
	open.Send("USER seen\r\nPASS x\r\n")
	open.Expect("+OK")
	open.Expect("+OK")
	if err := realm.StopSlapd(); err != nil {
		t.Fatal(err)
	}
	open.Send("STAT\r\nQUIT\r\n") // who is in stays in
	open.Expect("+OK 0 0")
	open.Expect("+OK")
	open.Rest()
	for user, want := range map[string]string{"seen": "+OK", "unseen": "-ERR [SYS/TEMP]"} {
		if answer := login(t, user, user); !strings.HasPrefix(answer, want) {
			t.Errorf("%s by ticket: %s, want %s", user, answer, want)
		}
		if answer := try(t, "127.0.0.1", "", user, passwordOf(t, user)); !strings.HasPrefix(answer, want) {
			t.Errorf("%s by password: %s, want %s", user, answer, want)
		}
	}
	logged(t, "ldap is down, using the last known entry", "uid=seen")
	if out, status := kpopMap(t, "unseen@"+integration.RealmName); status != 2 {
		t.Errorf("kpop map with no directory: status %d, %s", status, out)
	}
	if err := realm.StartSlapd(t.Context()); err != nil {
		t.Fatal(err)
	}
	var answer string
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if answer = login(t, "unseen", "unseen"); strings.HasPrefix(answer, "+OK") {
			return
		}
	}
	t.Errorf("the directory is back, and still: %s", answer)
}

// kpopMap runs kpop map on the realm's configuration.
func kpopMap(t *testing.T, args ...string) (out string, status int) {
	t.Helper()
	c := exec.CommandContext(t.Context(), realm.Kpop(), append([]string{"map", "--config", realm.Path("kpopd.toml")}, args...)...)
	b, err := c.CombinedOutput()
	if c.ProcessState == nil {
		t.Fatal(err)
	}
	return string(b), c.ProcessState.ExitCode()
}

// APOP's secret lies in the directory, where only kpopd's own bind can read it.
func TestAPOPFromTheDirectory(t *testing.T) {
	reconfigure(t, `retention = "kpopRetention"`, "retention = \"kpopRetention\"\napop_secret = \"kpopSecret\"")
	people(t, map[string]string{"digest": "", "digestless": "", "digesthers": "", "digesthis": ""})
	// The principal digesthers is another person than the one whose user name that is.
	for _, set := range [][]string{
		{"digest", "kpopSecret", "tanstaaf"}, {"digesthers", "kpopSecret", "sesame"}, {"digesthers", "krbPrincipalName", "digesther@" + integration.RealmName},
		{"digesthis", "krbPrincipalName", "digesthers@" + integration.RealmName}, {"digesthis", "kpopLocked", "TRUE"},
	} {
		if err := realm.LDAP().Set(set[0], set[1], set[2]); err != nil {
			t.Fatal(err)
		}
	}
	stamps := map[string]bool{}
	for _, c := range []struct{ user, secret, answer string }{
		{"digest", "tanstaaf", "+OK"},
		{"digest+host.test", "tanstaaf", "+OK"},
		{"digest@" + integration.RealmName, "tanstaaf", "+OK"},
		{"digesthers", "sesame", "+OK"}, // her own, and not his
		{"digest", "wrong", "-ERR [AUTH]"},
		{"digestless", "", "-ERR [AUTH]"},
		{"nobody-at-all", "tanstaaf", "-ERR [AUTH]"},
		{"*", "tanstaaf", "-ERR [AUTH]"},
	} {
		p := dial(t, realm.Ports.POP3)
		greeting := p.Expect("+OK")
		_, stamp, _ := strings.Cut(strings.TrimSpace(greeting), "<")
		if stamp == "" || stamps[stamp] {
			t.Fatalf("greeting %q has no stamp of its own", greeting)
		}
		stamps[stamp] = true
		sum := md5.Sum([]byte("<" + stamp + c.secret)) //nolint:gosec // RFC 1939 section 7
		p.Send("APOP " + c.user + " " + hex.EncodeToString(sum[:]) + "\r\n")
		if answer := p.Expect(""); !strings.HasPrefix(answer, c.answer) {
			t.Errorf("%s: %s, want %s", c.user, answer, c.answer)
		}
		p.Send("QUIT\r\n")
		p.Rest()
	}
}

// Who may act for another stands in the directory or in the configuration, and
// the log has both names.
func TestActing(t *testing.T) {
	people(t, map[string]string{"helpdesk": "", "patient": "", "robot": ""})
	if err := realm.LDAP().Set("helpdesk", "kpopActsFor", "patient"); err != nil {
		t.Fatal(err)
	}
	reconfigure(t, "[ldap]\n", "acting = [ { who = \"robot@"+integration.RealmName+"\", for = [\"patient\"] } ]\n\n[ldap]\n")
	for _, c := range []struct{ principal, user, answer string }{
		{"helpdesk", "patient", "+OK"},
		{"robot", "patient", "+OK"},
		{"helpdesk", "robot", "-ERR [AUTH]"},
		{"robot", "helpdesk", "-ERR [AUTH]"},
		{"patient", "helpdesk", "-ERR [AUTH]"},
	} {
		if answer := login(t, c.principal, c.user); !strings.HasPrefix(answer, c.answer) {
			t.Errorf("%s opens the maildrop of %s by ticket: %s, want %s", c.principal, c.user, answer, c.answer)
		}
		if answer := try(t, "127.0.0.1", c.user, c.principal, passwordOf(t, c.principal)); !strings.HasPrefix(answer, c.answer) {
			t.Errorf("%s opens the maildrop of %s by PLAIN: %s, want %s", c.principal, c.user, answer, c.answer)
		}
	}
	for _, who := range []string{"helpdesk", "robot"} {
		logged(t, "acting for another", "authcid="+who+"@"+integration.RealmName, "authzid=patient")
	}
}

// What a user will meet can be asked for beforehand, with every step.
func TestMap(t *testing.T) {
	people(t, map[string]string{"m-kpop": "", "m-locked": "", "m-acts": ""})
	for _, err := range []error{
		realm.LDAP().Set("m-kpop", "kpopProtocol", "KPOP"), realm.LDAP().Set("m-locked", "kpopLocked", "yes"),
		realm.LDAP().Set("m-acts", "kpopActsFor", "alice"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		args   []string
		status int
		says   []string
	}{
		{[]string{"alice@REALM.TEST"}, 0, []string{"allowed: mailbox alice"}},
		{[]string{"alice"}, 0, []string{"allowed: mailbox alice"}}, // of the default realm
		{[]string{"alice@REALM.TEST", "--why"}, 0, []string{
			"\"REALM.TEST\" is trusted", "ldap filter: (krbPrincipalName=alice@REALM.TEST)", "ldap entry: \"uid=alice,ou=people",
			"ldap attribute: kpopMailbox: [\"alice\"]", "decision: allowed",
		}},
		{[]string{"alice", "--user", "bob", "--why"}, 1, []string{"nothing lets \"alice@REALM.TEST\" open the maildrop of \"bob\"", "not-authorized"}},
		{[]string{"m-acts", "--user", "alice", "--why"}, 0, []string{"m-acts,ou=people", "allowed: mailbox alice, acting for another"}},
		{[]string{"alice", "--user", "alice+host.test"}, 0, []string{"allowed: mailbox alice"}},
		{[]string{"m-kpop"}, 0, []string{"allowed"}},
		{[]string{"m-kpop", "--protocol", "pop3"}, 1, []string{"protocol"}},
		{[]string{"m-locked"}, 1, []string{"locked"}},
		{[]string{"nobody-at-all", "--why"}, 1, []string{"no entry", "auth_to_local: maps", "(uid=nobody-at-all)", "not allowed"}},
		{[]string{"alice/admin@REALM.TEST", "--why"}, 1, []string{"instance"}},
		{[]string{"alice@OTHER.TEST", "--why"}, 1, []string{"\"OTHER.TEST\" is not one of"}},
		{[]string{"alice)(uid=*", "--why"}, 1, []string{`\28uid=\2a`}},
		{[]string{"alice", "--protocol", "imap"}, 1, []string{"neither kpop nor pop3"}},
	} {
		out, status := kpopMap(t, c.args...)
		if status != c.status {
			t.Errorf("kpop map %q: exit status %d, want %d:\n%s", c.args, status, c.status, out)
		}
		for _, text := range c.says {
			if !strings.Contains(out, text) {
				t.Errorf("kpop map %q says no %s:\n%s", c.args, text, out)
			}
		}
	}
}

// The configuration orders where a local name comes from.
func TestOrderOfNames(t *testing.T) {
	people(t, map[string]string{"o-one": ""})
	if err := realm.LDAP().Set("o-one", "uid", "o-one", "o-other"); err != nil {
		t.Fatal(err)
	}
	table := filepath.Join(t.TempDir(), "map")
	write(t, table, "o-one@REALM.TEST bob\n")
	for _, c := range []struct{ order, says string }{
		{`["map", "directory", "auth_to_local"]`, "allowed: mailbox bob"},
		{`["directory", "map", "auth_to_local"]`, "allowed: mailbox o-one"},
		{`["auth_to_local"]`, "allowed: mailbox o-one"},
		{`["map"]`, "allowed: mailbox bob"},
	} {
		b, err := os.ReadFile(realm.Path("kpopd.toml"))
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "kpopd.toml")
		write(t, file, strings.Replace(string(b), "[ldap]\n", "map = \""+table+"\"\norder = "+c.order+"\n\n[ldap]\n", 1))
		out, status := kpopMap(t, "--config", file, "--why", "o-one")
		if status != 0 || !strings.Contains(out, c.says) {
			t.Errorf("order %s: exit status %d, no %q in\n%s", c.order, status, c.says, out)
		}
	}
}
