package krb5conf

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/jcmturner/gokrb5/v8/keytab"
)

// maxKeytab is the largest keytab read, in octets: some ten thousand keys.
const maxKeytab = 1 << 20

// ErrKeytab is a keytab that cannot be used. Errors that wrap it hold no octet
// of the file.
var ErrKeytab = errors.New("krb5conf: keytab cannot be used")

// DefaultKeytab gives the keytab libkrb5 would take: KRB5_KTNAME,
// default_keytab_name, /etc/krb5.keytab. p may be nil.
func DefaultKeytab(p *Profile) string {
	name := os.Getenv("KRB5_KTNAME")
	if name == "" && p != nil {
		name = p.Value("", "libdefaults", "default_keytab_name")
	}
	if name == "" {
		name = "/etc/krb5.keytab"
	}
	return KeytabPath(name)
}

// KeytabPath strips the type from a keytab name: kpopd reads files only.
func KeytabPath(name string) string {
	return strings.TrimPrefix(strings.TrimPrefix(name, "WRFILE:"), "FILE:")
}

// A KeytabFile is a keytab that is read again when it changes. The last one
// that could be read stays in use.
type KeytabFile struct {
	path    string
	options KeytabOptions
	current atomic.Pointer[keytab.Keytab]

	mu   sync.Mutex
	keys []retirable
}

// KeytabOptions are for OpenKeytab. Log is required.
type KeytabOptions struct {
	Log *slog.Logger

	// Retire is how long a key that vanished from the file is kept: tickets
	// made with it live on. Zero means not at all.
	Retire time.Duration

	// Loose lets a keytab be read by its group. Others must never.
	Loose bool
}

// A retirable key is one that is in the file, or was.
type retirable struct {
	octets string // the entry as in the file; never printed
	label  string
	gone   time.Time // when it vanished; zero while it is there
}

// A Key describes a keytab's entry without its key.
type Key struct {
	Principal string
	KVNO      int
	Enctype   int32
	Written   time.Time
}

func (k Key) String() string {
	return fmt.Sprintf("%s kvno %d enctype %d", k.Principal, k.KVNO, k.Enctype)
}

// OpenKeytab reads path. Watch keeps it current.
func OpenKeytab(path string, o KeytabOptions) (*KeytabFile, error) {
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
	b, err := readKeytab(f.path, f.options.Loose)
	if err != nil {
		return err
	}
	entries, err := splitKeytab(b)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrKeytab, f.path, err)
	}
	keys := f.merge(entries)
	kt, err := parseKeytab(keys)
	if err != nil {
		return fmt.Errorf("%w: %s", err, f.path)
	}
	f.keys = keys
	f.current.Store(kt)
	return nil
}

// merge keeps the keys that vanished for as long as their tickets may live, and
// tells the log what came and went.
func (f *KeytabFile) merge(entries []string) []retirable {
	now := time.Now()
	out := make([]retirable, 0, len(entries))
	held := map[string]bool{}
	for _, e := range entries {
		held[e] = true
		k := retirable{octets: e, label: label(e)}
		if !f.holds(e) {
			f.options.Log.Info("key loaded", "audit", true, "key", k.label, "keytab", f.path)
		}
		out = append(out, k)
	}
	for _, k := range f.keys {
		if held[k.octets] {
			continue
		}
		if k.gone.IsZero() {
			k.gone = now
			f.options.Log.Info("key retired", "audit", true, "key", k.label, "kept_for", f.options.Retire)
		}
		if now.Sub(k.gone) < f.options.Retire {
			out = append(out, k)
		}
	}
	return out
}

func (f *KeytabFile) holds(octets string) bool {
	for _, k := range f.keys {
		if k.octets == octets && k.gone.IsZero() {
			return true
		}
	}
	return false
}

// Keys describes what is held, retired keys too.
func (f *KeytabFile) Keys() []Key {
	kt := f.Current()
	out := make([]Key, 0, len(kt.Entries))
	for i := range kt.Entries {
		e := &kt.Entries[i]
		p := Principal{e.Principal.Components, e.Principal.Realm}
		out = append(out, Key{p.String(), int(e.KVNO), e.Key.KeyType, e.Timestamp})
	}
	return out
}

func readKeytab(path string, loose bool) ([]byte, error) {
	file, err := os.Open(path) //nolint:gosec // G304: the operator names it
	if err != nil {
		return nil, fmt.Errorf("%w: %w; kpopd's user must be able to read it", ErrKeytab, err)
	}
	defer file.Close() //nolint:errcheck // read only
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeytab, err)
	}
	forbidden := os.FileMode(0o077)
	if loose {
		forbidden = 0o007
	}
	if info.Mode().Perm()&forbidden != 0 {
		return nil, fmt.Errorf("%w: %s has mode %04o, so that others can read every mailbox; chmod 600 it", ErrKeytab, path, info.Mode().Perm())
	}
	b, err := io.ReadAll(io.LimitReader(file, maxKeytab+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeytab, err)
	}
	if len(b) > maxKeytab {
		return nil, fmt.Errorf("%w: %s is larger than %d octets", ErrKeytab, path, maxKeytab)
	}
	return b, nil
}

// splitKeytab checks the file's frame (MIT keytab file format, version 2) and
// gives its entries, so that gokrb5 never sees a damaged one: its errors quote
// what it could not read, keys included.
func splitKeytab(b []byte) ([]string, error) {
	if len(b) < 2 || b[0] != 5 || b[1] != 2 {
		return nil, errors.New("not a keytab of version 2")
	}
	var out []string
	for b = b[2:]; len(b) > 0; {
		if len(b) < 4 {
			return nil, errors.New("cut short")
		}
		n := int32(binary.BigEndian.Uint32(b)) //nolint:gosec // G115: negative lengths are holes
		size := int(max(n, -n))
		b = b[4:]
		if size < 0 || size > len(b) {
			return nil, errors.New("cut short")
		}
		if n > 0 {
			if _, ok := parseEntry(b[:size]); !ok {
				return nil, errors.New("malformed entry")
			}
			out = append(out, string(b[:size]))
		}
		b = b[size:]
		if n == 0 {
			break
		}
	}
	return out, nil
}

// An entryView is an entry's fields but its key.
type entryView struct {
	principal Principal
	kvno      uint32
	enctype   uint16
}

// parseEntry walks one entry; every length is checked.
func parseEntry(b []byte) (v entryView, ok bool) {
	count, b, ok := take16(b)
	if !ok || count == 0 || count > 32 {
		return v, false
	}
	if v.principal.Realm, b, ok = takeString(b); !ok {
		return v, false
	}
	for range count {
		var c string
		if c, b, ok = takeString(b); !ok {
			return v, false
		}
		v.principal.Components = append(v.principal.Components, c)
	}
	if len(b) < 4+4+1 { // name type, time, 8-bit kvno
		return v, false
	}
	v.kvno = uint32(b[8])
	if v.enctype, b, ok = take16(b[9:]); !ok {
		return v, false
	}
	if _, b, ok = takeString(b); !ok {
		return v, false
	}
	if len(b) >= 4 {
		v.kvno = binary.BigEndian.Uint32(b)
	}
	return v, true
}

func take16(b []byte) (uint16, []byte, bool) {
	if len(b) < 2 {
		return 0, nil, false
	}
	return binary.BigEndian.Uint16(b), b[2:], true
}

func takeString(b []byte) (string, []byte, bool) {
	n, b, ok := take16(b)
	if !ok || int(n) > len(b) {
		return "", nil, false
	}
	return string(b[:n]), b[n:], true
}

func label(octets string) string {
	v, _ := parseEntry([]byte(octets))
	return fmt.Sprintf("%s kvno %d enctype %d", v.principal, v.kvno, v.enctype)
}

// parseKeytab hands the checked entries to gokrb5. Its error is dropped: it may
// quote keys.
func parseKeytab(keys []retirable) (kt *keytab.Keytab, err error) {
	defer func() {
		if recover() != nil {
			kt, err = nil, ErrKeytab
		}
	}()
	b := []byte{5, 2}
	for _, k := range keys {
		b = binary.BigEndian.AppendUint32(b, uint32(len(k.octets))) //nolint:gosec // G115: bounded by maxKeytab
		b = append(b, k.octets...)
	}
	kt = keytab.New()
	if kt.Unmarshal(b) != nil {
		return nil, ErrKeytab
	}
	return kt, nil
}

// settle is how long a keytab must be left alone before it is read: ktadd
// writes it in pieces.
const settle = 200 * time.Millisecond

// Watch reloads the keytab when it changes, until ctx ends. It watches the
// directory, since tools replace the file.
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
	var due <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-w.Events:
			if !ok {
				return
			}
			if filepath.Clean(e.Name) == filepath.Clean(f.path) && !e.Has(fsnotify.Chmod) {
				due = time.After(settle)
			}
		case err := <-w.Errors:
			f.options.Log.Warn("watching the keytab", "error", err)
		case <-due:
			due = nil
			if err := f.Reload(); err != nil {
				f.options.Log.Error("keytab changed and cannot be read; the old keys stay in use", "error", err)
			}
		}
	}
}
