package cyrusdb_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kpopd/kpopd/mailstore/cyrus/cyrusdb"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
)

func database(path string) imapdconf.Database {
	return imapdconf.Database{Backend: "twoskip", Path: path}
}

// dump is a database's text as "cyr_dbtool show" prints it.
func dump(t *testing.T, path string) string {
	t.Helper()
	var b bytes.Buffer
	err := cyrusdb.View(t.Context(), database(path), func(r cyrusdb.Reader) error {
		return r.Range(nil, func(key, value []byte) error {
			b.Write(key)
			b.WriteByte('\t')
			b.Write(value)
			b.WriteByte('\n')
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func testdata(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// copyOf puts a copy of a file of testdata where it may be changed.
func copyOf(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(testdata(t, name)), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDumpsOfCyrus(t *testing.T) {
	t.Parallel()
	for file, text := range map[string]string{
		"churned.db":  "churned.txt",
		"dirty.db":    "churned.txt", // what was committed, and nothing of the rest
		"skiplist.db": "skiplist.txt",
	} {
		if diff := cmp.Diff(testdata(t, text), dump(t, filepath.Join("testdata", file))); diff != "" {
			t.Errorf("%s: (-cyr_dbtool +ours)\n%s", file, diff)
		}
	}
}

func TestGetAndRange(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"churned.db", "dirty.db", "skiplist.db"} {
		path := filepath.Join("testdata", file)
		lines := strings.Split(strings.TrimSuffix(dump(t, path), "\n"), "\n")
		err := cyrusdb.View(t.Context(), database(path), func(r cyrusdb.Reader) error {
			if file != "skiplist.db" { // whose values hold line ends
				for _, line := range lines {
					key, want, _ := strings.Cut(line, "\t")
					got, found, err := r.Get([]byte(key))
					if err != nil || !found || string(got) != want {
						t.Errorf("%s: Get %q: %q, %v, %v; want %q", file, key, got, found, err, want)
					}
				}
			}
			for _, key := range []string{"", "\x00", "key", "key9", "\xff"} {
				if got, found, err := r.Get([]byte(key)); found || err != nil {
					t.Errorf("%s: Get %q: %q, %v", file, key, got, err)
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func TestRangeAllowsSearches(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"churned.db", "dirty.db", "skiplist.db"} {
		n := 0
		err := cyrusdb.View(t.Context(), database(filepath.Join("testdata", file)), func(r cyrusdb.Reader) error {
			return r.Range(nil, func(key, _ []byte) error {
				n++
				_, found, err := r.Get(bytes.Clone(key))
				if !found {
					t.Errorf("%s: %q is not found", file, key)
				}
				return err
			})
		})
		if err != nil || n < 10 {
			t.Errorf("%s: %d keys, %v", file, n, err)
		}
	}
}

func TestRangePrefixAndStop(t *testing.T) {
	t.Parallel()
	stop := errors.New("enough")
	var keys []string
	err := cyrusdb.View(t.Context(), database("testdata/skiplist.db"), func(r cyrusdb.Reader) error {
		return r.Range([]byte("B"), func(key, _ []byte) error {
			if keys = append(keys, string(key[:1])); len(keys) == 3 {
				return stop
			}
			return nil
		})
	})
	if !errors.Is(err, stop) || strings.Join(keys, "") != "BBB" {
		t.Errorf("%v, %v", keys, err)
	}
}

func TestFormats(t *testing.T) {
	t.Parallel()
	write := func(data string) string {
		path := filepath.Join(t.TempDir(), "db")
		if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	none := func(cyrusdb.Reader) error { return nil }
	berkeley := "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x62\x31\x05\x00\x09\x00\x00\x00"
	err := cyrusdb.View(t.Context(), imapdconf.Database{Backend: "berkeley", Path: write(berkeley)}, none)
	if !errors.Is(err, cyrusdb.ErrFormat) || !strings.Contains(err.Error(), "cvt_cyrusdb") {
		t.Errorf("berkeley: %v", err)
	}
	if err := cyrusdb.View(t.Context(), database(write(berkeley)), none); !errors.Is(err, cyrusdb.ErrFormat) {
		t.Errorf("berkeley under the name of twoskip: %v", err)
	}
	if err := cyrusdb.View(t.Context(), database(write("")), none); err != nil {
		t.Errorf("a file that Cyrus has not written yet: %v", err)
	}
	if err := cyrusdb.View(t.Context(), database("/nonexistent/db"), none); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	skiplist := copyOf(t, "skiplist.db")
	err = cyrusdb.Update(t.Context(), database(skiplist), func(cyrusdb.Tx) error { return nil })
	if !errors.Is(err, cyrusdb.ErrFormat) {
		t.Errorf("writing a skiplist: %v", err)
	}
}

func TestDamage(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"churned.db", "skiplist.db"} {
		whole := testdata(t, name)
		want := dump(t, filepath.Join("testdata", name))
		path := filepath.Join(t.TempDir(), name)
		for at := 0; at < len(whole); at += 7 {
			damaged := []byte(whole)
			damaged[at] ^= 0x41
			if err := os.WriteFile(path, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			err := cyrusdb.View(t.Context(), database(path), func(r cyrusdb.Reader) error {
				return r.Range(nil, func(key, value []byte) error {
					b.Write(key)
					b.WriteByte('\t')
					b.Write(value)
					b.WriteByte('\n')
					return nil
				})
			})
			// Skiplists have no checksums: there it is enough not to crash.
			if err == nil && name == "churned.db" && b.String() != want {
				t.Fatalf("%s: damage at %d is not seen", name, at)
			}
		}
	}
}

func FuzzTwoskip(f *testing.F) {
	for _, name := range []string{"churned.db", "dirty.db", "mailboxes-uuid.db"} {
		data, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		read(t, data, "twoskip")
		path := filepath.Join(t.TempDir(), "db")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		err := cyrusdb.Update(t.Context(), database(path), func(tx cyrusdb.Tx) error {
			if err := tx.Put([]byte("key"), []byte("value")); err != nil {
				return err
			}
			return tx.Delete([]byte("key04"))
		})
		if err != nil {
			return
		}
		err = cyrusdb.View(t.Context(), database(path), func(r cyrusdb.Reader) error {
			_, _, err := r.Get([]byte("key"))
			return err
		})
		if err != nil {
			t.Logf("a damaged file was written to: %v", err)
		}
	})
}

func FuzzSkiplist(f *testing.F) {
	data, err := os.ReadFile("testdata/skiplist.db")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) { read(t, data, "skiplist") })
}

func FuzzFlat(f *testing.F) {
	f.Add([]byte("alice\t1\tpop3\tgone\nbob\t2\t*\t\n"))
	f.Add([]byte("b\t1\na\t2\n"))
	f.Fuzz(func(t *testing.T, data []byte) { read(t, data, "flat") })
}

// read walks and searches whatever the octets are.
func read(t *testing.T, data []byte, backend string) {
	path := filepath.Join(t.TempDir(), "db")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	var keys [][]byte
	err := cyrusdb.View(t.Context(), imapdconf.Database{Backend: backend, Path: path}, func(r cyrusdb.Reader) error {
		err := r.Range(nil, func(key, _ []byte) error {
			keys = append(keys, bytes.Clone(key))
			return nil
		})
		for _, key := range keys {
			if _, _, err := r.Get(key); err != nil {
				return err
			}
		}
		return err
	})
	if err == nil && backend == "flat" {
		for i, key := range keys[:max(0, len(keys)-1)] {
			if bytes.Compare(key, keys[i+1]) >= 0 {
				t.Errorf("keys out of order: %q, %q", key, keys[i+1])
			}
		}
	}
}
