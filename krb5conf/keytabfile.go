package krb5conf

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/jcmturner/gokrb5/v8/keytab"
)

// A KeytabFile is a keytab that is read again when it changes. The last one
// that could be read stays in use. It is safe for concurrent use.
type KeytabFile struct {
	path    string
	options KeytabOptions
	current atomic.Pointer[keytab.Keytab]

	mu   sync.Mutex
	keys []heldKey
	seen stamp // of the file that was read last, or failed to be
}

// KeytabOptions are for OpenKeytab. Log is required.
type KeytabOptions struct {
	Log *slog.Logger

	// Retire is how long a key that vanished from the file is kept, from when
	// its absence was seen: tickets made with it live on. A ticket's life is
	// the right measure; zero drops it at once, as after a theft.
	Retire time.Duration

	// Loose lets a keytab be read by its group. Others must never.
	Loose bool

	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// A heldKey is one that is in the file, or was.
type heldKey struct {
	octets string // the entry as in the file; never printed
	key    Key
	gone   time.Time // when it vanished; zero while it is there
}

// same says whether two entries are one key, whenever they were written.
func (k *heldKey) same(o *heldKey) bool {
	return k.key.Principal == o.key.Principal && k.key.KVNO == o.key.KVNO && k.key.Enctype == o.key.Enctype
}

// A stamp tells whether a file is another one than before.
type stamp struct {
	size    int64
	written time.Time
	mode    fs.FileMode
	file    fs.FileInfo
}

func (s stamp) equal(o stamp) bool {
	return s.size == o.size && s.written.Equal(o.written) && s.mode == o.mode && (s.file == nil) == (o.file == nil) &&
		(s.file == nil || os.SameFile(s.file, o.file))
}

func stampOf(path string) stamp {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{}
	}
	return stamp{info.Size(), info.ModTime(), info.Mode(), info}
}

// OpenKeytab reads path. Watch keeps it current.
func OpenKeytab(path string, o KeytabOptions) (*KeytabFile, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	f := &KeytabFile{path: path, options: o}
	if err := f.Reload(); err != nil {
		return nil, err
	}
	return f, nil
}

// Current gives the keytab of now; it is never nil and must not be changed.
func (f *KeytabFile) Current() *keytab.Keytab { return f.current.Load() }

// Path is where the keytab lies.
func (f *KeytabFile) Path() string { return f.path }

// Reload reads the file again. On any error the keys stay as they were.
func (f *KeytabFile) Reload() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen = stampOf(f.path) // before reading: what is written meanwhile is seen later
	b, err := readKeytab(f.path, f.options.Loose)
	if err != nil {
		return err
	}
	entries, err := splitKeytab(b)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrKeytab, f.path, err)
	}
	return f.use(f.merge(entries))
}

// use makes keys the current ones. The caller holds mu.
func (f *KeytabFile) use(keys []heldKey) error {
	kt, err := parseKeytab(keys)
	if err != nil {
		return fmt.Errorf("%w: %s", err, f.path)
	}
	f.report(keys)
	f.keys = keys
	f.current.Store(kt)
	return nil
}

// merge gives the file's keys, and behind them those that vanished, for as long
// as their tickets may live.
func (f *KeytabFile) merge(entries []string) []heldKey {
	out := make([]heldKey, 0, len(entries))
	for _, e := range entries {
		key, _ := parseEntry([]byte(e)) // splitKeytab has checked it
		out = append(out, heldKey{octets: e, key: key})
	}
	present := len(out)
	for _, k := range f.keys {
		// Another key under the same kvno takes its place: an administrator's
		// correction, not a new version.
		if slices.ContainsFunc(out[:present], func(o heldKey) bool { return k.same(&o) }) {
			continue
		}
		if k.gone.IsZero() {
			k.gone = f.options.Now()
		}
		if f.options.Now().Sub(k.gone) < f.options.Retire {
			out = append(out, k)
		}
	}
	return out
}

// expire drops the retired keys whose time is over.
func (f *KeytabFile) expire() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	kept := slices.DeleteFunc(slices.Clone(f.keys), func(k heldKey) bool {
		return !k.gone.IsZero() && f.options.Now().Sub(k.gone) >= f.options.Retire
	})
	if len(kept) == len(f.keys) {
		return nil
	}
	return f.use(kept)
}

// report tells the log, and with it the audit, what came and went.
func (f *KeytabFile) report(keys []heldKey) {
	log := f.options.Log.With("audit", true, "keytab", f.path)
	for i := range keys {
		k := &keys[i]
		before := slices.IndexFunc(f.keys, func(o heldKey) bool { return k.same(&o) })
		switch {
		case k.gone.IsZero() && (before < 0 || !f.keys[before].gone.IsZero()):
			log.Info("key loaded", "key", k.key.String())
		case k.gone.IsZero() && f.keys[before].octets != k.octets:
			log.Info("key rewritten", "key", k.key.String())
		case !k.gone.IsZero() && before >= 0 && f.keys[before].gone.IsZero():
			log.Info("key retired", "key", k.key.String(), "kept_for", f.options.Retire)
		}
	}
	for i := range f.keys {
		if !slices.ContainsFunc(keys, func(k heldKey) bool { return k.same(&f.keys[i]) }) {
			log.Info("key dropped", "key", f.keys[i].key.String())
		}
	}
}

// Keys describes what is held, retired keys too.
func (f *KeytabFile) Keys() []Key {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]Key, len(f.keys))
	for i := range f.keys {
		out[i] = f.keys[i].key
	}
	return out
}

// Intervals of Watch.
const (
	settle = 100 * time.Millisecond // a keytab is read when it was left alone so long: ktadd writes it in pieces
	sweep  = time.Minute            // between looks for expired keys, and for changes that were not notified
)

// Watch reloads the keytab when it changes, until ctx ends. It watches the
// directory, since tools replace the file, and looks by itself now and then: a
// keytab behind a symbolic link or on a network is not notified.
func (f *KeytabFile) Watch(ctx context.Context) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("krb5conf: %w", err)
	}
	if err := w.Add(filepath.Dir(f.path)); err != nil {
		return errors.Join(fmt.Errorf("krb5conf: watching the keytab: %w", err), w.Close())
	}
	go f.follow(ctx, w)
	return nil
}

func (f *KeytabFile) follow(ctx context.Context, w *fsnotify.Watcher) {
	defer w.Close() //nolint:errcheck // nothing is lost
	ticker := time.NewTicker(sweep)
	defer ticker.Stop()
	due := time.NewTimer(settle) // a change between OpenKeytab and Watch counts
	defer due.Stop()
	waiting := true
	var last stamp
	for {
		select {
		case <-ctx.Done():
			return
		case _, ok := <-w.Events:
			if !ok {
				return
			}
			// Never put off by further events: other files of the directory
			// may change all the time.
			if !waiting {
				due.Reset(settle)
				waiting = true
			}
		case err, ok := <-w.Errors:
			if !ok {
				return
			}
			f.options.Log.Warn("watching the keytab", "error", err)
			if !waiting { // events may be lost
				due.Reset(settle)
				waiting = true
			}
		case <-due.C:
			now := stampOf(f.path)
			if waiting = !now.equal(last); waiting {
				last = now
				due.Reset(settle)
				continue
			}
			f.refresh()
		case <-ticker.C:
			f.refresh()
		}
	}
}

// refresh reloads a changed file and drops expired keys.
func (f *KeytabFile) refresh() {
	f.mu.Lock()
	changed := !f.seen.equal(stampOf(f.path))
	f.mu.Unlock()
	if changed {
		if err := f.Reload(); err != nil {
			f.options.Log.Error("keytab changed and cannot be read; the old keys stay in use", "error", err)
		}
	}
	if err := f.expire(); err != nil {
		f.options.Log.Error("expired keys cannot be dropped", "error", err)
	}
}
