//go:build integration

package operate_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/kpopd/kpopd/cmd/control"
	"github.com/kpopd/kpopd/integration"
	"github.com/kpopd/kpopd/integration/player"
)

// realm is one for all tests, which run one after the other.
var realm *integration.Realm

func TestMain(m *testing.M) {
	os.Exit(player.Main(m, &realm, func(dir string) (string, error) {
		return "failure_delay = \"1ms\"\n[metrics]\nlisten = \"unix:" + dir + "/state/metrics.sock\"\n", nil
	}))
}

// filter is fail2ban's.
const filter = "../../deploy/fail2ban/filter.conf"

const message = "From: a@realm.test\r\nSubject: canary\r\n\r\nThe body holds a canary-of-the-text.\r\n"

// fill gives user n messages.
func fill(t *testing.T, user string, n int) {
	t.Helper()
	dir := t.TempDir()
	for i := range n {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.eml", i)), []byte(message), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := realm.Fill(t.Context(), user, dir); err != nil {
		t.Fatal(err)
	}
}

func password(t *testing.T, user string) string {
	t.Helper()
	p, err := realm.Password(user)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// login has user's maildrop open, over POP3S by password.
func login(t *testing.T, user string) *player.Peer {
	t.Helper()
	p := player.Dial(t, realm.Ports.POP3S)
	p.Secure(realm)
	p.Play("S: +OK\nC: USER " + user + "\nS: +OK\nC: PASS " + password(t, user) + "\nS: +OK\n")
	return p
}

// kpop runs the operator's tool and decodes what it prints.
func kpop(t *testing.T, result any, args ...string) {
	t.Helper()
	out, err := realm.Tool("").Run(t.Context(), realm.Kpop(), append(args, "--json", "--config", realm.Path("kpopd.toml"))...)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(out), result); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
}

func TestWhoAndKick(t *testing.T) {
	fill(t, "alice", 2)
	p := login(t, "alice")
	p.Play("C: RETR 1\nS: +OK\nS: ...\nC: DELE 1\nS: +OK\n")
	var who []control.Session
	kpop(t, &who, "who", "--mailbox", "alice")
	if len(who) != 1 {
		t.Fatalf("%+v", who)
	}
	s := who[0]
	if s.User != "alice" || s.Holds == "" || s.Listener != "pop3s" || s.Mechanism != "USER" || s.Authcid != "alice@"+integration.RealmName ||
		s.Retrieved != 1 || s.Octets == 0 || !strings.HasPrefix(s.Remote, "127.0.0.1:") || !strings.HasPrefix(s.TLS, "TLS 1.3 ") || s.Detail["kvno"] == "" ||
		!strings.HasPrefix(s.Detail["enctype"], "aes") {
		t.Errorf("%+v", s)
	}
	other := player.Dial(t, realm.Ports.POP3S)
	other.Secure(realm)
	other.Play("S: +OK\nC: USER alice\nS: +OK\nC: PASS " + password(t, "alice") + "\nS: -ERR [IN-USE]\n")
	var kicked control.Kicked
	kpop(t, &kicked, "kick", "--mailbox", "alice")
	if len(kicked.Sessions) != 1 || kicked.Sessions[0] != s.ID {
		t.Errorf("%+v", kicked)
	}
	if rest := p.Rest(); strings.Contains(rest, "+OK") {
		t.Errorf("%q", rest)
	}
	player.Logged(t, realm, "msg=kick", "audit=true", "session="+s.ID)
	player.Logged(t, realm, `msg="session ended"`, "session="+s.ID, "end=kicked", "retr=1", "dele=0", "kvno=", "enctype=", "tls=", "authcid=alice@")
	player.Holds(t, realm, "alice", 2) // free, and nothing was deleted
	if out, err := realm.Tool("").Run(t.Context(), realm.Kpop(), "kick", s.ID, "--config", realm.Path("kpopd.toml")); err == nil {
		t.Error("a session is kicked twice:", out)
	}
	out, err := realm.Tool("").Run(t.Context(), realm.Kpop(), "who", "--config", realm.Path("kpopd.toml"))
	if err != nil || !strings.HasPrefix(out, "SESSION") {
		t.Error(out, err)
	}
}

func TestStatsAndMetrics(t *testing.T) {
	fill(t, "bob", 1)
	p := login(t, "bob")
	p.Play("C: RETR 1\nS: +OK\nS: ...\nC: DELE 1\nS: +OK\nC: QUIT\nS: +OK\n")
	request := player.APReq(t, realm, "bob", "pop")
	for range 2 { // the second is a replay
		player.Sendauth(t, realm, request)
	}
	has := func(values map[string]float64, start string, least float64) bool {
		for name, v := range values {
			if strings.HasPrefix(name, start) && v >= least {
				return true
			}
		}
		return false
	}
	var n control.Numbers
	player.Until(t, "the session is counted", func() bool {
		kpop(t, &n, "stats")
		return has(n.Values, "kpopd_messages_deleted_total", 1)
	})
	for start, least := range map[string]float64{
		`kpopd_logins_total{listener="pop3s",mechanism="USER",refusal="",result="ok"}`: 1,
		`kpopd_logins_total{listener="kpop",mechanism="KPOP",refusal="KP-`:             1,
		`kpopd_messages_retrieved_total`:                                               1,
		`kpopd_octets_total{kind="deleted"}`:                                           50,
		`kpopd_octets_total{kind="retrieved"}`:                                         50,
		`kpopd_kdc_seconds_count{result="ok"}`:                                         1,
		`kpopd_ldap_seconds_count`:                                                     1,
		`kpopd_replay_entries`:                                                         1,
		`kpopd_certificate_expiry_timestamp_seconds`:                                   1e9,
		`kpopd_keytab_kvno{enctype="aes256-cts-hmac-sha1-96",kvno="`:                   1,
		`kpopd_keytab_key_age_seconds`:                                                 0,
		`kpopd_last_reload_successful`:                                                 1,
		`kpopd_logins_by_key_total`:                                                    1,
		`kpopd_panics_total`:                                                           0,
	} {
		if !has(n.Values, start, least) {
			t.Errorf("no %s of at least %v", start, least)
		}
	}
	kpop(t, &struct{}{}, "ready")
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", realm.Path("state/metrics.sock"))
	}}}
	defer client.CloseIdleConnections()
	for path, want := range map[string]string{
		"/metrics": `kpopd_sessions{listener="pop3s"}`, "/healthz": "ok", "/readyz": "ready",
	} {
		r, err := client.Get("http://kpopd" + path)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r.Body)
		_ = r.Body.Close()
		if err != nil || r.StatusCode != http.StatusOK || !strings.Contains(string(b), want) {
			t.Errorf("%s: %s, %v\n%.2000s", path, r.Status, err, b)
		}
	}
}

// change edits kpopd.toml for the rest of the test.
func change(t *testing.T, old, now string) {
	t.Helper()
	path := realm.Path("kpopd.toml")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), old) {
		t.Fatalf("%s has no %q", path, old)
	}
	replace(t, path, strings.Replace(string(b), old, now, 1))
	t.Cleanup(func() {
		replace(t, path, string(b))
		if err := realm.Ask(control.Request{Command: control.Reload}, nil); err != nil {
			t.Error(err)
		}
	})
}

// replace puts a file in another's place, as careful tools do.
func replace(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func certificate(t *testing.T) string {
	t.Helper()
	c, err := tls.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(realm.Ports.POP3S)), &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // only to look
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // looked at
	return string(c.ConnectionState().PeerCertificates[0].Raw)
}

// TestReload: configuration and certificate change under an open session, which
// goes on.
func TestReload(t *testing.T) {
	fill(t, "alice", 1)
	p := login(t, "alice")
	before := certificate(t)
	if err := realm.RenewCertificate(); err != nil {
		t.Fatal(err)
	}
	change(t, `hostname = "localhost"`, `hostname = "renewed.test"`)
	pid, _ := realm.Pid()
	if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	player.Until(t, "a greeting with the new name", func() bool {
		return strings.Contains(player.Dial(t, realm.Ports.POP3).Expect("+OK"), "renewed.test")
	})
	if certificate(t) == before {
		t.Error("the certificate is the old one")
	}
	p.Play("C: STAT\nS: +OK 1\nC: DELE 1\nS: +OK\nC: QUIT\nS: +OK\n")
	player.Holds(t, realm, "alice", 0)
	if now, alive := realm.Pid(); !alive || now != pid {
		t.Error("it is another process")
	}
	player.Logged(t, realm, "msg=reloaded", "audit=true")
}

// TestBadConfigurationIsRefused: what was loaded before serves on.
func TestBadConfigurationIsRefused(t *testing.T) {
	fill(t, "bob", 1)
	p := login(t, "bob")
	for name, c := range map[string]struct{ old, now, says string }{
		"malformed":      {"[limits]", "[limits\n", "config"},
		"unknown key":    {"[limits]", "[limits]\nper_usr = 3", "per_usr"},
		"other port":     {`address = "127.0.0.1:`, `address = "127.0.0.2:`, "restart"},
		"no certificate": {"/server.pem", "/absent.pem", "absent.pem"},
		"no keytab":      {"/server.keytab", "/absent.keytab", "absent.keytab"},
	} {
		t.Run(name, func(t *testing.T) {
			change(t, c.old, c.now)
			err := realm.Ask(control.Request{Command: control.Reload}, nil)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("reload gives %v", err)
			}
			if name != "malformed" { // then the file does not even say where the socket is
				asked(t, c.says)
			}
			login(t, "carol").Play("C: QUIT\nS: +OK\n")
		})
	}
	player.Logged(t, realm, "reload refused", "audit=true")
	p.Play("C: STAT\nS: +OK 1\nC: QUIT\nS: +OK\n")
}

// asked has the operator's tool find the daemon by a file that is wrong: the daemon
// refuses a reload and answers as ever.
func asked(t *testing.T, says string) {
	t.Helper()
	out, err := realm.Tool("").Run(t.Context(), realm.Kpop(), "reload", "--config", realm.Path("kpopd.toml"))
	if err == nil || !strings.Contains(out, "kpopd refuses") || !strings.Contains(out, says) {
		t.Errorf("kpop reload: %v\n%s", err, out)
	}
	var n control.Numbers
	kpop(t, &n, "stats")
	if n.Values["kpopd_last_reload_successful"] != 0 {
		t.Errorf("a refused reload is not counted: %v", n.Values["kpopd_last_reload_successful"])
	}
	kpop(t, &struct{}{}, "ready")
}

// TestConfined: the running daemon cannot read /etc/passwd, not even where its
// configuration says so.
func TestConfined(t *testing.T) {
	log, err := os.ReadFile(realm.Path("kpopd.log"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(log), "not confined") {
		t.Log("this kernel has no Landlock; the log says so")
		return
	}
	change(t, realm.Path("server.pem"), "/etc/passwd")
	err = realm.Ask(control.Request{Command: control.Reload}, nil)
	if err == nil || !strings.Contains(err.Error(), "/etc/passwd: permission denied") {
		t.Errorf("reload gives %v", err)
	}
}

// TestTraceHidesSecrets: with everybody traced, no password, no response that
// holds one, no ticket and no text of a message is in the log.
func TestTraceHidesSecrets(t *testing.T) {
	fill(t, "carol", 1)
	var list []map[string]any
	kpop(t, &list, "trace", "127.0.0.0/8", "--for", "10m")
	if len(list) != 1 {
		t.Errorf("%+v", list)
	}
	secret := password(t, "carol")
	request := player.APReq(t, realm, "carol", "pop")
	plain := base64.StdEncoding.EncodeToString([]byte("\x00carol\x00" + secret))
	wrong := "mistyped-" + secret[:8]
	login(t, "carol").Play("C: RETR 1\nS: +OK\nS: ...\nC: TOP 1 5\nS: +OK\nS: ...\nC: PASS " + wrong + "\nS: -ERR\nC: QUIT\nS: +OK\n")
	for _, script := range []string{
		"C: AUTH PLAIN " + plain + "\nS: +OK\nC: QUIT\nS: +OK\n",
		"C: AUTH PLAIN\nS: +\nC: " + plain + "\nS: +OK\nC: QUIT\nS: +OK\n",
		"C: AUTH LOGIN\nS: +\nC: " + base64.StdEncoding.EncodeToString([]byte("carol")) + "\nS: +\nC: " + base64.StdEncoding.EncodeToString([]byte(secret)) + "\nS: +OK\nC: QUIT\nS: +OK\n",
		"C: USER carol\nS: +OK\nC: PASS " + wrong + "\nS: -ERR\nC: " + secret + "\nS: -ERR\nC: QUIT\nS: +OK\n",
	} {
		p := player.Dial(t, realm.Ports.POP3S)
		p.Secure(realm)
		p.Play("S: +OK\n" + script)
	}
	if p, code := player.Sendauth(t, realm, request); code == 0 {
		p.Play("S: +OK\nC: USER carol\nS: +OK\nC: PASS " + secret + "\nS: +OK\nC: QUIT\nS: +OK\n")
	} else {
		t.Error("KRB-ERROR", code)
	}
	cache := filepath.Join(t.TempDir(), "cc")
	if err := realm.Kinit(t.Context(), "alice", cache); err != nil {
		t.Fatal(err)
	}
	fill(t, "alice", 1)
	if _, err := realm.Mpop(t.Context(), io.Discard, cache, realm.Ports.POP3, integration.MpopSTLS); err != nil {
		t.Fatal(err)
	}
	player.Logged(t, realm, "msg=trace", "AUTH GSSAPI")
	player.Logged(t, realm, "msg=trace", `line="USER carol"`)
	player.Logged(t, realm, "msg=trace", `line="PASS ***"`)
	player.Logged(t, realm, "msg=trace", `line=(message)`)
	kpop(t, &list, "trace", "127.0.0.0/8", "--for", "0s")
	if len(list) != 0 {
		t.Errorf("%+v", list)
	}
	log, err := os.ReadFile(realm.Path("kpopd.log"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"the password": secret, "a mistyped password": wrong, "a response of PLAIN": plain,
		"a response of LOGIN": base64.StdEncoding.EncodeToString([]byte(secret)),
		"the ticket":          string(request[len(request)/2 : len(request)/2+24]),
		"a message's subject": "canary", "alice's password": password(t, "alice"), "bob's password": password(t, "bob"),
	} {
		if strings.Contains(string(log), text) {
			t.Errorf("the log holds %s", name)
		}
	}
	// Nor has it anything that could be a token of GSSAPI.
	if line := regexp.MustCompile(`msg=trace .*[A-Za-z0-9+/]{60,}.*`).Find(log); line != nil {
		t.Errorf("the log holds %s", line)
	}
}

// TestFilterReadsTheLog: fail2ban's filter finds the refused logins of the real
// log, and nothing else.
func TestFilterReadsTheLog(t *testing.T) {
	for _, user := range []string{"alice", "nobody", `remote=9.9.9.9:1`} {
		p := player.Dial(t, realm.Ports.POP3S)
		p.Secure(realm)
		p.Play("S: +OK\nC: USER " + user + "\nS: +OK\nC: PASS wrong\nS: -ERR [AUTH]\nC: QUIT\nS: +OK\n")
	}
	p := player.Dial(t, realm.Ports.POP3)
	p.Play("S: +OK\nC: A\nS: -ERR\nC: B\nS: -ERR\nC: C\nS: -ERR\n")
	p.Rest()
	player.Logged(t, realm, `msg="session ended"`, `end="too many bad commands"`)
	login(t, "carol").Play("C: QUIT\nS: +OK\n")
	log, err := os.ReadFile(realm.Path("kpopd.log"))
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "log") // the log itself goes on
	if err := os.WriteFile(copied, log, 0o600); err != nil {
		t.Fatal(err)
	}
	want := strings.Count(string(log), "audit=true code=AUTH ") + strings.Count(string(log), `end="too many bad commands"`)
	rules, err := filepath.Abs(filter)
	if err != nil {
		t.Fatal(err)
	}
	out, err := realm.Tool("").Run(t.Context(), "fail2ban-regex", "-o", "ip", copied, rules)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(out, "127.0.0.1\n"); got != want || want < 4 || strings.Contains(out, "9.9.9.9") {
		t.Errorf("%d of %d are found:\n%s", got, want, out)
	}
}

// TestGracefulEnd: who connects is told to come later, the open session ends as
// it likes, and its deletion is done.
func TestGracefulEnd(t *testing.T) {
	fill(t, "alice", 2)
	p := login(t, "alice")
	p.Play("C: DELE 1\nS: +OK\n")
	pid, _ := realm.Pid()
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	player.Logged(t, realm, "msg=draining")
	player.Until(t, "a new client is turned away", func() bool {
		return strings.HasPrefix(player.Dial(t, realm.Ports.POP3).Expect(""), "-ERR [SYS/TEMP]")
	})
	if out, err := realm.Tool("").Run(t.Context(), realm.Kpop(), "ready", "--config", realm.Path("kpopd.toml")); err == nil || !strings.Contains(out, "draining") {
		t.Errorf("it is ready while it drains: %s, %v", out, err)
	}
	p.Play("C: STAT\nS: +OK 1\nC: QUIT\nS: +OK\n")
	player.Until(t, "kpopd has ended", func() bool { _, alive := realm.Pid(); return !alive })
	if err := realm.StartKpopd(); err != nil {
		t.Fatal(err)
	}
	player.Holds(t, realm, "alice", 1)
}
