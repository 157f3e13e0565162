package logs

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"

	"github.com/coreos/go-systemd/v22/journal"
)

// A Sender is journal.Send.
type Sender func(message string, priority journal.Priority, fields map[string]string) error

// NewJournal writes to journald. A record's message is the line of the text
// format without time and level, which journald has; its attributes are fields
// besides, KPOPD_SESSION and so on.
func NewJournal(level slog.Leveler, send Sender) slog.Handler {
	line := &lineBuffer{}
	o := &slog.HandlerOptions{Level: level, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
			return slog.Attr{}
		}
		return a
	}}
	return &journald{text: slog.NewTextHandler(&line.b, o), line: line, send: send}
}

type lineBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

type journald struct {
	text   slog.Handler // writes to line
	line   *lineBuffer
	send   Sender
	prefix string            // of the groups
	fields map[string]string // of With
}

func (j *journald) Enabled(ctx context.Context, level slog.Level) bool {
	return j.text.Enabled(ctx, level)
}

func (j *journald) Handle(ctx context.Context, r slog.Record) error {
	fields := make(map[string]string, len(j.fields)+r.NumAttrs())
	for k, v := range j.fields {
		fields[k] = v
	}
	r.Attrs(func(a slog.Attr) bool {
		addField(fields, j.prefix, a)
		return true
	})
	text, err := j.render(ctx, r)
	if err != nil {
		return err
	}
	return j.send(text, priority(r.Level), fields)
}

func (j *journald) render(ctx context.Context, r slog.Record) (string, error) {
	j.line.mu.Lock()
	defer j.line.mu.Unlock()
	j.line.b.Reset()
	err := j.text.Handle(ctx, r)
	return strings.TrimSuffix(j.line.b.String(), "\n"), err
}

func (j *journald) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := *j
	next.text = j.text.WithAttrs(attrs)
	next.fields = make(map[string]string, len(j.fields)+len(attrs))
	for k, v := range j.fields {
		next.fields[k] = v
	}
	for _, a := range attrs {
		addField(next.fields, j.prefix, a)
	}
	return &next
}

func (j *journald) WithGroup(name string) slog.Handler {
	next := *j
	next.text = j.text.WithGroup(name)
	next.prefix = j.prefix + name + "_"
	return &next
}

func addField(fields map[string]string, prefix string, a slog.Attr) {
	v := a.Value.Resolve()
	if v.Kind() != slog.KindGroup {
		fields[fieldName(prefix+a.Key)] = v.String()
		return
	}
	if a.Key != "" {
		prefix += a.Key + "_"
	}
	for _, inner := range v.Group() {
		addField(fields, prefix, inner)
	}
}

// fieldName: journald wants capitals, digits and underscores, and drops the rest
// of a field's name silently.
func fieldName(key string) string {
	return "KPOPD_" + strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, key)
}

func priority(level slog.Level) journal.Priority {
	switch {
	case level >= slog.LevelError:
		return journal.PriErr
	case level >= slog.LevelWarn:
		return journal.PriWarning
	case level >= slog.LevelInfo:
		return journal.PriInfo
	}
	return journal.PriDebug
}
