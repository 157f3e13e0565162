package krb5conf_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jcmturner/gokrb5/v8/keytab"

	"github.com/kpopd/kpopd/krb5conf"
)

const secret = "opensesame"

var written = time.Unix(1_700_000_000, 0)

// A keySpec is one entry of a test's keytab.
type keySpec struct {
	name    string
	kvno    uint8
	enctype int32
}

func keytabOctets(t testing.TB, keys ...keySpec) []byte {
	t.Helper()
	kt := keytab.New()
	for _, k := range keys {
		if err := kt.AddEntry(k.name, "R.TEST", secret, written, k.kvno, k.enctype); err != nil {
			t.Fatal(err)
		}
	}
	b, err := kt.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A journal is a log that may be read while it is written.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

func (j *journal) logger() *slog.Logger { return slog.New(slog.NewTextHandler(j, nil)) }

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("in vain waited for " + what)
		}
	}
}

// replace puts a file in another's place, as careful tools do.
func replace(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func openKeytab(t *testing.T, b []byte, o krb5conf.KeytabOptions) *krb5conf.KeytabFile {
	t.Helper()
	path := filepath.Join(t.TempDir(), "krb5.keytab")
	replace(t, path, b)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	f, err := krb5conf.OpenKeytab(path, o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func held(f *krb5conf.KeytabFile) string {
	keys := f.Keys()
	out := make([]string, len(keys))
	for i, k := range keys {
		out[i] = fmt.Sprintf("%d", k.KVNO)
	}
	if len(f.Current().Entries) != len(keys) {
		return "Keys and Current differ"
	}
	return strings.Join(out, " ")
}

func TestKeytabKeys(t *testing.T) {
	t.Parallel()
	f := openKeytab(t, keytabOctets(t, keySpec{"pop/h.test", 3, 18}, keySpec{"pop/h.test", 3, 20}, keySpec{"x", 1, 23}), krb5conf.KeytabOptions{})
	want := []krb5conf.Key{
		{Principal: "pop/h.test@R.TEST", KVNO: 3, Enctype: 18, Written: written},
		{Principal: "pop/h.test@R.TEST", KVNO: 3, Enctype: 20, Written: written},
		{Principal: "x@R.TEST", KVNO: 1, Enctype: 23, Written: written},
	}
	if d := cmp.Diff(want, f.Keys()); d != "" {
		t.Error(d)
	}
	if got := f.Keys()[0].String(); got != "pop/h.test@R.TEST kvno 3 aes256-cts-hmac-sha1-96" {
		t.Errorf("a key is described as %q", got)
	}
}

func TestKeytabRetires(t *testing.T) {
	t.Parallel()
	now := written
	j := &journal{}
	f := openKeytab(t, keytabOctets(t, keySpec{"pop/h", 1, 18}), krb5conf.KeytabOptions{
		Log: j.logger(), Retire: time.Hour, Now: func() time.Time { return now },
	})
	step := func(after time.Duration, want string, kvnos ...uint8) {
		t.Helper()
		now = now.Add(after)
		var keys []keySpec
		for _, k := range kvnos {
			keys = append(keys, keySpec{"pop/h", k, 18})
		}
		replace(t, f.Path(), keytabOctets(t, keys...))
		if err := f.Reload(); err != nil {
			t.Fatal(err)
		}
		if got := held(f); got != want {
			t.Errorf("kvnos %s are held, want %s", got, want)
		}
	}
	step(time.Hour, "1 2", 1, 2)     // both in the file: no clock runs
	step(time.Hour, "2 1", 2)        // 1 vanishes
	step(59*time.Minute, "3 2 1", 3) // 2 vanishes, 1 lives on
	step(2*time.Minute, "3 2", 3)    // 1 is over
	step(time.Minute, "3 2", 3, 2)   // 2 comes back
	step(3*time.Hour, "3 2", 3)      // and vanishes again
	step(2*time.Hour, "3", 3)        // for good
	log := j.String()
	for _, want := range []string{
		`msg="key loaded" audit=true`, `msg="key retired"`, `msg="key dropped"`, `key="pop/h@R.TEST kvno 3 aes256-cts-hmac-sha1-96"`, "kept_for=1h0m0s",
	} {
		if !strings.Contains(log, want) {
			t.Errorf("log lacks %s:\n%s", want, log)
		}
	}
	if n := strings.Count(log, "key loaded"); n != 4 {
		t.Errorf("%d keys are logged as loaded", n)
	}
	noSecret(t, log, f)
}

// noSecret looks for key octets in any usual shape.
func noSecret(t *testing.T, text string, f *krb5conf.KeytabFile) {
	t.Helper()
	for _, e := range f.Current().Entries {
		k := e.Key.KeyValue
		for _, shape := range []string{string(k), hex.EncodeToString(k), fmt.Sprint(k), fmt.Sprintf("%q", k)} {
			if strings.Contains(text, shape[:min(8, len(shape))]) {
				t.Errorf("key octets in %q", text)
			}
		}
	}
}

func TestKeytabWithoutRetirement(t *testing.T) {
	t.Parallel()
	f := openKeytab(t, keytabOctets(t, keySpec{"pop/h", 1, 18}), krb5conf.KeytabOptions{})
	replace(t, f.Path(), keytabOctets(t, keySpec{"pop/h", 2, 18}))
	if err := f.Reload(); err != nil || held(f) != "2" {
		t.Errorf("held are %s, %v", held(f), err)
	}
}

// TestKeytabCutAnywhere plays a writer that was interrupted: no prefix of a
// keytab that ends inside an entry is taken, and no error quotes a key.
func TestKeytabCutAnywhere(t *testing.T) {
	t.Parallel()
	whole := keytabOctets(t, keySpec{"pop/h.test", 1, 18}, keySpec{"pop/h.test", 1, 20})
	first := len(keytabOctets(t, keySpec{"pop/h.test", 1, 18}))
	f := openKeytab(t, whole, krb5conf.KeytabOptions{Retire: time.Hour})
	for n := range whole {
		if n == first {
			continue // a whole keytab of one key
		}
		replace(t, f.Path(), whole[:n])
		err := f.Reload()
		if !errors.Is(err, krb5conf.ErrKeytab) {
			t.Fatalf("%d octets give %v", n, err)
		}
		noSecret(t, err.Error(), f)
		if held(f) != "1 1" {
			t.Fatalf("%d octets: the keys are gone: %s", n, held(f))
		}
	}
}

func TestKeytabRefuses(t *testing.T) {
	t.Parallel()
	good := keytabOctets(t, keySpec{"pop/h.test", 1, 18})
	change := func(at int, to byte) []byte {
		b := bytes.Clone(good)
		b[at] = to
		return b
	}
	keySize := len(good) - 4 - 32 - 2 // of the 32-bit kvno, the key, its length
	for name, b := range map[string][]byte{
		"empty": {}, "header only": {5, 2}, "version 1": change(1, 1), "not a keytab": []byte("[libdefaults]\n"),
		"no components": change(7, 0), "many components": change(6, 9), "realm beyond the entry": change(8, 0xff),
		"key beyond the entry": change(keySize, 0xff), "key of a wrong size": change(keySize+1, 16),
		"entry of 2 GiB": append(bytes.Clone(good), 0x7f, 0xff, 0xff, 0xff), "hole of 2 GiB": append(bytes.Clone(good), 0x80, 0, 0, 0),
		"huge": append(bytes.Clone(good), make([]byte, 1<<21)...),
	} {
		path := filepath.Join(t.TempDir(), "keytab")
		replace(t, path, b)
		f, err := krb5conf.OpenKeytab(path, krb5conf.KeytabOptions{Log: slog.New(slog.DiscardHandler)})
		if !errors.Is(err, krb5conf.ErrKeytab) || f != nil || !strings.Contains(fmt.Sprint(err), path) {
			t.Errorf("%s gives %v", name, err)
		}
	}
}

func TestKeytabReadsHolesAndOldKVNO(t *testing.T) {
	t.Parallel()
	one := keytabOctets(t, keySpec{"pop/h", 7, 18})
	hole := append(bytes.Clone(one), 0xff, 0xff, 0xff, 0xfc, 1, 2, 3, 4)
	b := append(hole, keytabOctets(t, keySpec{"pop/h", 9, 18})[2:]...)
	copy(b[len(b)-4:], []byte{0, 0, 0, 0}) // a zero 32-bit kvno leaves the 8-bit one
	if got := held(openKeytab(t, b, krb5conf.KeytabOptions{})); got != "7 9" {
		t.Errorf("kvnos %s are held", got)
	}
	b = append(bytes.Clone(one), 0, 0, 0, 0, 'x', 'y') // libkrb5 ends at a zero length
	if got := held(openKeytab(t, b, krb5conf.KeytabOptions{})); got != "7" {
		t.Errorf("kvnos %s are held", got)
	}
}

func TestKeytabMode(t *testing.T) {
	t.Parallel()
	f := openKeytab(t, keytabOctets(t, keySpec{"pop/h", 1, 18}), krb5conf.KeytabOptions{})
	for _, c := range []struct {
		mode  os.FileMode
		loose bool
		ok    bool
	}{{0o600, false, true}, {0o400, false, true}, {0o640, false, false}, {0o644, false, false}, {0o640, true, true}, {0o660, true, false}, {0o644, true, false}, {0o604, true, false}} {
		if err := os.Chmod(f.Path(), c.mode); err != nil {
			t.Fatal(err)
		}
		_, err := krb5conf.OpenKeytab(f.Path(), krb5conf.KeytabOptions{Log: slog.New(slog.DiscardHandler), Loose: c.loose})
		if (err == nil) != c.ok {
			t.Errorf("mode %o, loose %v: %v", c.mode, c.loose, err)
		}
	}
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{fifo, t.TempDir(), "/nonexistent/keytab"} {
		if _, err := krb5conf.OpenKeytab(path, krb5conf.KeytabOptions{Log: slog.New(slog.DiscardHandler)}); !errors.Is(err, krb5conf.ErrKeytab) {
			t.Errorf("%s gives %v", path, err)
		}
	}
}

// TestKeytabWatchInBusyDirectory: other files that change all the time must not
// put the reading off.
func TestKeytabWatchInBusyDirectory(t *testing.T) {
	t.Parallel()
	f := openKeytab(t, keytabOctets(t, keySpec{"pop/h", 1, 18}), krb5conf.KeytabOptions{})
	if err := f.Watch(t.Context()); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var busy sync.WaitGroup
	busy.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				_ = os.WriteFile(filepath.Join(filepath.Dir(f.Path()), "other"), []byte("x"), 0o600)
				time.Sleep(5 * time.Millisecond)
			}
		}
	})
	defer busy.Wait()
	defer close(done)
	replace(t, f.Path(), keytabOctets(t, keySpec{"pop/h", 2, 18}))
	eventually(t, "a changed keytab in a busy directory", func() bool { return held(f) == "2" })
}

func TestKeytabWatch(t *testing.T) {
	t.Parallel()
	j := &journal{}
	f := openKeytab(t, keytabOctets(t, keySpec{"pop/h", 1, 18}), krb5conf.KeytabOptions{Log: j.logger(), Retire: time.Hour})
	if err := f.Watch(t.Context()); err != nil {
		t.Fatal(err)
	}
	replace(t, f.Path(), keytabOctets(t, keySpec{"pop/h", 1, 18}, keySpec{"pop/h", 2, 18}))
	eventually(t, "a replaced file", func() bool { return held(f) == "1 2" })

	whole := keytabOctets(t, keySpec{"pop/h", 3, 18})
	if err := os.WriteFile(f.Path(), whole[:20], 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a half-written file", func() bool { return strings.Contains(j.String(), "old keys stay in use") })
	if held(f) != "1 2" {
		t.Errorf("held are %s", held(f))
	}
	if err := os.WriteFile(f.Path(), whole, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a file written in place", func() bool { return held(f) == "3 1 2" })

	if err := os.Remove(f.Path()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a removed file", func() bool { return strings.Contains(j.String(), "no such file") })
	if held(f) != "3 1 2" {
		t.Errorf("held are %s", held(f))
	}
	noSecret(t, j.String(), f)
}

func TestDefaultKeytab(t *testing.T) {
	p := parse(t, "[libdefaults]\ndefault_keytab_name = FILE:/conf\n")
	t.Setenv("KRB5_KTNAME", "")
	if a, b, c := krb5conf.DefaultKeytab(nil), krb5conf.DefaultKeytab(parse(t, "")), krb5conf.DefaultKeytab(p); a != "/etc/krb5.keytab" || b != a || c != "/conf" {
		t.Errorf("got %s, %s, %s", a, b, c)
	}
	t.Setenv("KRB5_KTNAME", "WRFILE:/env")
	if got := krb5conf.DefaultKeytab(p); got != "/env" {
		t.Errorf("got %s", got)
	}
}

func FuzzKeytab(f *testing.F) {
	f.Add([]byte{5, 2})
	f.Add(keytabOctets(f, keySpec{"pop/h.test", 1, 18}, keySpec{"x", 2, 17}))
	f.Add(append(keytabOctets(f, keySpec{"pop/h.test", 1, 20}), 0xff, 0xff, 0xff, 0xfe, 1, 2))
	path := filepath.Join(f.TempDir(), "keytab")
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		k, err := krb5conf.OpenKeytab(path, krb5conf.KeytabOptions{Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			if !errors.Is(err, krb5conf.ErrKeytab) {
				t.Errorf("error %v", err)
			}
			return
		}
		entries := k.Current().Entries
		if len(entries) == 0 || len(entries) != len(k.Keys()) {
			t.Fatalf("%d entries, %d keys", len(entries), len(k.Keys()))
		}
		for i, key := range k.Keys() {
			e := entries[i]
			written := int64(uint32(e.Timestamp.Unix())) //nolint:gosec // gokrb5 reads the 32 bits with a sign
			if key.KVNO != int(e.KVNO) || key.Enctype != e.Key.KeyType || key.Written.Unix() != written {
				t.Errorf("%v is not %d %d", key, e.KVNO, e.Key.KeyType)
			}
		}
	})
}
