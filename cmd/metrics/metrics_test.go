package metrics_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/kpopd/kpopd/auth/krb5"
	"github.com/kpopd/kpopd/cmd/metrics"
	"github.com/kpopd/kpopd/kpop"
	"github.com/kpopd/kpopd/krb5conf"
	"github.com/kpopd/kpopd/mailstore"
)

// busy is a Metrics to which everything has happened once.
func busy() *metrics.Metrics {
	m := metrics.New("1.0")
	o := m.Observer()
	remote := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 5}
	o.Connected("pop3", remote)
	o.Connected("pop3", remote)
	o.Connected("kpop", remote)
	o.TurnedAway("kpop", remote, "too many connections")
	s := kpop.SessionInfo{
		Port: "pop3", Mechanism: "GSSAPI", LoggedIn: true, Since: time.Now(), Retrieved: 2, Topped: 3, Deleted: 1,
		Octets: 900, RetrievedOctets: 700, DeletedOctets: 300,
		Detail: []slog.Attr{slog.Uint64("kvno", 3), slog.String("enctype", "aes"), slog.Int64("skew_ms", -2000)},
	}
	o.LoggedIn(s)
	o.Refused(kpop.SessionInfo{Port: "kpop", Mechanism: "KPOP"}, "AUTH", fmt.Errorf("wrapped: %w", &krb5.Refusal{ID: "KP-104"}))
	o.Refused(kpop.SessionInfo{Port: "pop3", Mechanism: "PLAIN"}, "", errors.New("broken"))
	o.Command("RETR", time.Millisecond)
	o.Ended(s, "quit")
	o.Panic("fault", nil)
	m.Panicked("fault in a login", nil)
	m.KDC(time.Second, nil)
	m.LDAP("ldap://a", "search", time.Second, errors.New("down"))
	m.LockWait(time.Millisecond)
	m.Reloaded(errors.New("bad"))
	full := m.Deliveries(fullStore{})
	_ = full.Deliver(context.Background(), "alice", strings.NewReader(""), "")
	if err := full.(mailstore.Verifier).Accepts(context.Background(), "alice", 1); !errors.Is(err, mailstore.ErrOverQuota) {
		panic("nobody is asked beforehand any more")
	}
	key := krb5conf.Key{Principal: "pop/h@R", KVNO: 3, Enctype: 18, Written: time.Now().Add(-time.Hour)}
	m.Watch(metrics.State{
		Keys:        func() []krb5conf.Key { return []krb5conf.Key{key, key} },
		Replay:      func() int { return 7 },
		Certificate: func() time.Time { return time.Unix(2e9, 0) },
	})
	return m
}

// fullStore takes no mail.
type fullStore struct{}

func (fullStore) Deliver(context.Context, string, io.Reader, string) error {
	return mailstore.ErrOverQuota
}
func (fullStore) Accepts(context.Context, string, int64) error { return mailstore.ErrOverQuota }

func TestValues(t *testing.T) {
	t.Parallel()
	got, err := busy().Values()
	if err != nil {
		t.Fatal(err)
	}
	const aes = `{enctype="aes256-cts-hmac-sha1-96",kvno="3",principal="pop/h@R"}`
	for name, want := range map[string]float64{
		`kpopd_build_info{version="1.0"}`:                                                     1,
		`kpopd_connections_total{listener="pop3"}`:                                            2,
		`kpopd_turned_away_total{listener="kpop",reason="too many connections"}`:              1,
		`kpopd_sessions{listener="pop3"}`:                                                     1,
		`kpopd_sessions{listener="kpop"}`:                                                     0,
		`kpopd_sessions_logged_in{listener="pop3"}`:                                           0,
		`kpopd_logins_total{listener="pop3",mechanism="GSSAPI",refusal="",result="ok"}`:       1,
		`kpopd_logins_total{listener="kpop",mechanism="KPOP",refusal="KP-104",result="AUTH"}`: 1,
		`kpopd_logins_total{listener="pop3",mechanism="PLAIN",refusal="",result="none"}`:      1,
		`kpopd_logins_by_key_total{enctype="aes",kvno="3"}`:                                   1,
		`kpopd_client_skew_seconds_sum`:                                                       -2,
		`kpopd_command_seconds_count{verb="RETR"}`:                                            1,
		`kpopd_messages_retrieved_total`:                                                      2,
		`kpopd_messages_topped_total`:                                                         3,
		`kpopd_messages_deleted_total`:                                                        1,
		`kpopd_octets_total{kind="sent"}`:                                                     900,
		`kpopd_octets_total{kind="retrieved"}`:                                                700,
		`kpopd_octets_total{kind="deleted"}`:                                                  300,
		`kpopd_panics_total`:                                                                  2,
		`kpopd_kdc_seconds_count{result="ok"}`:                                                1,
		`kpopd_ldap_seconds_count{operation="search",result="error",server="ldap://a"}`:       1,
		`kpopd_delivery_seconds_count{result="over quota"}`:                                   1,
		`kpopd_lock_wait_seconds_count`:                                                       1,
		`kpopd_reloads_total{result="error"}`:                                                 1,
		`kpopd_last_reload_successful`:                                                        0,
		`kpopd_keytab_kvno` + aes:                                                             3,
		`kpopd_replay_entries`:                                                                7,
		`kpopd_certificate_expiry_timestamp_seconds`:                                          2e9,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s is %v, %v; want %v", name, v, ok, want)
		}
	}
	if age := got["kpopd_keytab_key_age_seconds"+aes]; age < 3600 || age > 3700 {
		t.Error("age", age)
	}
}

// TestNames: what promtool check metrics would say.
func TestNames(t *testing.T) {
	t.Parallel()
	families, err := busy().Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "kpopd_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

func TestHandler(t *testing.T) {
	t.Parallel()
	var fault error
	s := httptest.NewServer(busy().Handler(func() error { return fault }, slog.New(slog.DiscardHandler)))
	defer s.Close()
	get := func(path string) (int, string) {
		r, err := s.Client().Get(s.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return r.StatusCode, string(b)
	}
	if code, text := get("/metrics"); code != http.StatusOK || !strings.Contains(text, "kpopd_replay_entries 7") || !strings.Contains(text, "go_goroutines") || !strings.Contains(text, "process_open_fds") {
		t.Error(code, text)
	}
	if code, text := get("/healthz"); code != http.StatusOK || text != "ok\n" {
		t.Error(code, text)
	}
	if code, text := get("/readyz"); code != http.StatusOK || text != "ready\n" {
		t.Error(code, text)
	}
	fault = errors.New("draining")
	if code, text := get("/readyz"); code != http.StatusServiceUnavailable || text != "draining\n" {
		t.Error(code, text)
	}
}

func TestListen(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "m")
	l, err := metrics.Listen("unix:" + path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Error(info, err)
	}
	if _, err := metrics.Listen("unix:" + path); err == nil {
		t.Error("a socket in use is taken away")
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = l.Close() // leaves the name, as a crash does
	again, err := metrics.Listen("unix:" + path)
	if err != nil {
		t.Fatal(err)
	}
	_ = again.Close()
}
