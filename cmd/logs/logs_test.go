package logs_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/google/go-cmp/cmp"

	"github.com/kpopd/kpopd/cmd/config"
	"github.com/kpopd/kpopd/cmd/logs"
)

// TestAudit: what is marked goes to both streams, as JSON whatever the log's
// form, and behind a level that would hide it.
func TestAudit(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "audit")
	var main bytes.Buffer
	l := logs.Open(config.Log{Level: "warn", Format: "text", Audit: path}, &main)
	l.Log.Info("listening")
	if _, err := os.Lstat(path); err == nil {
		t.Error("root has made the file")
	}
	if err := l.OpenAudit(); err != nil {
		t.Fatal(err)
	}
	l.Log.Info("session ended", "user", "alice")
	l.Log.Info("login", logs.AuditKey, true, "user", "alice")
	l.Log.With(logs.AuditKey, true).WithGroup("g").Warn("key loaded", "kvno", 3)
	l.Log.Error("disk", logs.AuditKey, false)

	// logrotate moves the file away and sends SIGHUP.
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	if err := l.Reload(config.Log{Level: "info"}); err != nil {
		t.Fatal(err)
	}
	l.Log.Info("kick", logs.AuditKey, true)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got := messages(t, path+".1"); !cmp.Equal(got, []string{"login", "key loaded"}) {
		t.Error(got)
	}
	if got := messages(t, path); !cmp.Equal(got, []string{"kick"}) {
		t.Error(got)
	}
	text := main.String()
	if strings.Contains(text, "session ended") || strings.Contains(text, "login") || !strings.Contains(text, "key loaded") || !strings.Contains(text, "kick") {
		t.Error(text)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info, err)
	}
}

func messages(t *testing.T, path string) (out []string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(b) {
		var record struct{ Msg string }
		if err := json.Unmarshal(line, &record); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		out = append(out, record.Msg)
	}
	return out
}

func TestFormats(t *testing.T) {
	t.Parallel()
	for format, want := range map[string]string{
		"text": `msg="login refused" remote=[::1]:5`, "json": `"msg":"login refused","remote":"[::1]:5"`,
	} {
		var b bytes.Buffer
		l := logs.Open(config.Log{Level: "info", Format: format}, &b)
		l.Log.Info("login refused", "remote", "[::1]:5")
		l.Log.Debug("hidden")
		if !strings.Contains(b.String(), want) || strings.Contains(b.String(), "hidden") {
			t.Errorf("%s: %s", format, b.String())
		}
	}
}

func TestJournal(t *testing.T) {
	t.Parallel()
	type sent struct {
		text     string
		priority journal.Priority
		fields   map[string]string
	}
	var got []sent
	log := slog.New(logs.NewJournal(slog.LevelInfo, func(text string, p journal.Priority, fields map[string]string) error {
		got = append(got, sent{text, p, fields})
		return nil
	}))
	log.Info("login refused", "session", "a1", "remote", "192.0.2.1:4", "err", slog.GroupValue(slog.String("code", "KP-104")))
	log.With("audit", true).WithGroup("key").Warn("key loaded", "kvno", 3, "new line", "a\nb")
	log.Debug("hidden")
	want := []sent{
		{
			`msg="login refused" session=a1 remote=192.0.2.1:4 err.code=KP-104`, journal.PriInfo,
			map[string]string{"KPOPD_SESSION": "a1", "KPOPD_REMOTE": "192.0.2.1:4", "KPOPD_ERR_CODE": "KP-104"},
		},
		{
			`msg="key loaded" audit=true key.kvno=3 "key.new line"="a\nb"`, journal.PriWarning,
			map[string]string{"KPOPD_AUDIT": "true", "KPOPD_KEY_KVNO": "3", "KPOPD_KEY_NEW_LINE": "a\nb"},
		},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(sent{})); diff != "" {
		t.Error(diff)
	}
}

func TestTraces(t *testing.T) {
	t.Parallel()
	var traces logs.Traces
	now := time.Unix(1e9, 0)
	address := func(s string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s)) }
	for _, what := range []string{"alice", "192.0.2.0/24", "2001:db8::1"} {
		if err := traces.Add(what, time.Hour, now); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		user, remote string
		after        time.Duration
		want         bool
	}{
		{"alice", "203.0.113.1:9", 0, true},
		{"alice", "203.0.113.1:9", time.Hour, false},
		{"bob", "203.0.113.1:9", 0, false},
		{"", "203.0.113.1:9", 0, false},
		{"", "192.0.2.77:9", 0, true},
		{"", "[::ffff:192.0.2.77]:9", 0, true},
		{"bob", "[2001:db8::1]:9", time.Minute, true},
		{"bob", "[2001:db8::2]:9", 0, false},
	} {
		if got := traces.Wants(c.user, address(c.remote), now.Add(c.after)); got != c.want {
			t.Errorf("%+v gives %v", c, got)
		}
	}
	if err := traces.Add("alice", 0, now); err != nil || traces.Wants("alice", address("203.0.113.1:9"), now) || len(traces.List(now)) != 2 {
		t.Error("the trace does not end", err, traces.List(now))
	}
	for what, long := range map[string]time.Duration{"": time.Hour, "a b": time.Hour, "bob": 25 * time.Hour, "eve": -1} {
		if err := traces.Add(what, long, now); err == nil {
			t.Errorf("%q for %s is taken", what, long)
		}
	}
	if got := traces.List(now.Add(2 * time.Hour)); len(got) != 0 {
		t.Error(got)
	}
}
