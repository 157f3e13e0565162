package rules

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"
)

// maxFile bounds a table, in octets.
const maxFile = 64 << 20

// A watched file is parsed again when it changes. A new version that cannot be
// read or parsed is told of once, and the old one stays: a typing mistake locks
// nobody out.
type watched[T any] struct {
	path  string
	parse func(text string) (T, error)
	log   *slog.Logger

	mu    sync.Mutex
	stamp stamp
	value T
}

// A stamp tells two versions of a file apart.
type stamp struct {
	size     int64
	modified time.Time
	missing  bool
}

// open reads the file for the first time; here a fault is an error.
func open[T any](path string, log *slog.Logger, parse func(string) (T, error)) (*watched[T], error) {
	if log == nil {
		log = slog.Default()
	}
	w := &watched[T]{path: path, parse: parse, log: log, stamp: stampOf(path)}
	value, err := w.read()
	if err != nil {
		return nil, err
	}
	w.value = value
	return w, nil
}

// current looks whether the file changed, which costs one stat.
func (w *watched[T]) current() T {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := stampOf(w.path)
	if now == w.stamp {
		return w.value
	}
	w.stamp = now
	value, err := w.read()
	if err != nil {
		w.log.Error("table not reloaded, the old one stays", "file", w.path, "error", err.Error())
		return w.value
	}
	w.value = value
	w.log.Info("table reloaded", "file", w.path)
	return w.value
}

func stampOf(path string) stamp {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{missing: true}
	}
	return stamp{size: info.Size(), modified: info.ModTime()}
}

// read takes the file in. Whoever may write it decides who reads whose mail.
func (w *watched[T]) read() (T, error) {
	var none T
	f, err := os.Open(w.path)
	if err != nil {
		return none, fmt.Errorf("rules: %w", err)
	}
	defer f.Close() //nolint:errcheck // read only
	info, err := f.Stat()
	if err != nil {
		return none, fmt.Errorf("rules: %w", err)
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o022 != 0 {
		return none, fmt.Errorf("rules: %s is no regular file or can be written by group or others (mode %v); chmod go-w it", w.path, info.Mode())
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return none, fmt.Errorf("rules: %w", err)
	}
	if len(text) > maxFile {
		return none, fmt.Errorf("rules: %s has more than %d octets", w.path, maxFile)
	}
	value, err := w.parse(string(text))
	if err != nil {
		return none, fmt.Errorf("rules: %s:%w", w.path, err)
	}
	return value, nil
}
