package logs

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"

	"github.com/coreos/go-systemd/v22/journal"

	"github.com/kpopd/kpopd/cmd/config"
)

// AuditKey marks a record, as audit=true, that belongs to the audit stream too:
// logins, refusals, acting for another, kicks, reloads, keys.
const AuditKey = "audit"

// Logs are the logger and what a reload can change of it.
type Logs struct {
	Log *slog.Logger

	level slog.LevelVar
	audit *file // nil: none
}

// Open makes the log that c asks for; text and JSON go to w. The audit stream's file
// is opened by OpenAudit.
func Open(c config.Log, w io.Writer) *Logs {
	l := &Logs{}
	l.setLevel(c)
	o := &slog.HandlerOptions{Level: &l.level}
	var main slog.Handler
	switch c.Format {
	case "json":
		main = slog.NewJSONHandler(w, o)
	case "journald":
		main = NewJournal(&l.level, journal.Send)
	default:
		main = slog.NewTextHandler(w, o)
	}
	if c.Audit != "" {
		l.audit = &file{path: c.Audit}
		main = &tee{main: main, audit: slog.NewJSONHandler(l.audit, nil)}
	}
	l.Log = slog.New(main)
	return l
}

// OpenAudit opens the audit stream's file. It comes when root is given up: who opens
// it again at a reload must have made it. Records from before are in the log only.
func (l *Logs) OpenAudit() error {
	if l.audit == nil {
		return nil
	}
	return l.audit.reopen()
}

// Reload takes a new level and opens the audit stream's file again, which may
// have been rotated. The old file stays in use when it cannot be opened.
func (l *Logs) Reload(c config.Log) error {
	l.setLevel(c)
	return l.OpenAudit()
}

func (l *Logs) setLevel(c config.Log) {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.Level)) // checked with the configuration
	l.level.Set(level)
}

// Close gives the audit stream's file back; records that come later are lost
// there.
func (l *Logs) Close() error {
	if l.audit == nil {
		return nil
	}
	return l.audit.close()
}

// A file is appended to, one record in one write.
type file struct {
	path string
	mu   sync.Mutex
	f    *os.File // nil: not opened yet
}

func (a *file) reopen() error {
	f, err := os.OpenFile(a.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("log.audit: %w; kpopd's user must be able to write there: under systemd in /var/log/kpopd, or where ReadWritePaths= lets it", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.f != nil {
		_ = a.f.Close()
	}
	a.f = f
	return nil
}

func (a *file) Write(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.f == nil {
		return len(p), nil
	}
	return a.f.Write(p)
}

func (a *file) close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.f == nil {
		return nil
	}
	return a.f.Close()
}
