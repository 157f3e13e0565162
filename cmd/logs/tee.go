package logs

import (
	"context"
	"errors"
	"log/slog"
	"slices"
)

// A tee gives every record to main and those that are marked to audit as well,
// whatever the level of main.
type tee struct {
	main, audit slog.Handler
	marked      bool // by With
}

func (t *tee) Enabled(ctx context.Context, level slog.Level) bool {
	return t.main.Enabled(ctx, level) || t.audit.Enabled(ctx, level)
}

func (t *tee) Handle(ctx context.Context, r slog.Record) error {
	marked := t.marked
	r.Attrs(func(a slog.Attr) bool {
		marked = marked || isMark(a)
		return !marked
	})
	var errs []error
	if t.main.Enabled(ctx, r.Level) {
		errs = append(errs, t.main.Handle(ctx, r))
	}
	if marked && t.audit.Enabled(ctx, r.Level) {
		errs = append(errs, t.audit.Handle(ctx, r))
	}
	return errors.Join(errs...)
}

func (t *tee) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &tee{t.main.WithAttrs(attrs), t.audit.WithAttrs(attrs), t.marked || slices.ContainsFunc(attrs, isMark)}
}

func (t *tee) WithGroup(name string) slog.Handler {
	return &tee{t.main.WithGroup(name), t.audit.WithGroup(name), t.marked}
}

func isMark(a slog.Attr) bool {
	return a.Key == AuditKey && a.Value.Kind() == slog.KindBool && a.Value.Bool()
}
