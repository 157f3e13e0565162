package maildir_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kpopd/kpopd/mailstore/maildir"
)

func arrived() time.Time { return time.Unix(1795500000, 0) }

// newMaildir makes one with files and a list; the n-th file is n seconds old.
func newMaildir(t testing.TB, list string, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, sub := range []string{"cur", "new", "tmp"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if list != "" {
		if err := os.WriteFile(filepath.Join(dir, "dovecot-uidlist"), []byte(list), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i, name := range files {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		when := arrived().Add(-time.Duration(i) * time.Second)
		if err := os.Chtimes(path, when, when); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestRead(t *testing.T) {
	t.Parallel()
	for name, list := range map[string]string{
		"version 3": "3 V1275660208 N31 G3085f01b7f11094c501100008c4a11c1\n7 :1.a.host,S=1\n9 W12 Pown-id O3 :2.b.host\n20 :4.d.host\n30 S1 :3.c.host,S=1:2,S\n",
		"version 1": "1 1275660208 31\n7 1.a.host,S=1\n9 2.b.host\n20 4.d.host\n30 3.c.host,S=1\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := newMaildir(t, list, "cur/1.a.host,S=1:2,RS", "cur/2.b.host", "cur/3.c.host,S=1:2,FDT", "new/6.f.host", "new/5.e.host", "tmp/0", "cur/.hidden")
			got, err := maildir.Read(dir)
			if err != nil {
				t.Fatal(err)
			}
			at := func(i int) time.Time { return arrived().Add(-time.Duration(i) * time.Second) }
			want := &maildir.Folder{UIDValidity: 1275660208, Next: 33, Missing: 1, Messages: []maildir.Message{
				{UID: 7, Path: dir + "/cur/1.a.host,S=1:2,RS", Flags: maildir.Flags{Seen: true, Answered: true}, Arrived: at(0)},
				{UID: 9, Path: dir + "/cur/2.b.host", Arrived: at(1)},
				{UID: 30, Path: dir + "/cur/3.c.host,S=1:2,FDT", Flags: maildir.Flags{Flagged: true, Draft: true, Deleted: true}, Arrived: at(2)},
				{UID: 31, Path: dir + "/new/5.e.host", Arrived: at(4)},
				{UID: 32, Path: dir + "/new/6.f.host", Arrived: at(3)},
			}}
			if name == "version 3" {
				want.Messages[1].UniqueID = "own-id"
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestReadAppended: Dovecot appends to its list and leaves the first line, with the
// next UID of before, as it is.
func TestReadAppended(t *testing.T) {
	t.Parallel()
	list := "3 V1275660208 N8 G3085f01b7f11094c501100008c4a11c1\n7 :1.a.host\n8 :2.b.host\n10 :3.c.host\n"
	got, err := maildir.Read(newMaildir(t, list, "cur/1.a.host", "cur/2.b.host", "new/4.d.host"))
	if err != nil {
		t.Fatal(err)
	}
	var uids []uint32
	for _, m := range got.Messages {
		uids = append(uids, m.UID)
	}
	if diff := cmp.Diff([]uint32{7, 8, 11}, uids); diff != "" || got.Next != 12 {
		t.Errorf("next UID %d %s", got.Next, diff)
	}
}

// TestFolders: directories with a cur, in the order of their names; one that no
// client has opened has no list, and its messages are numbered from 1.
func TestFolders(t *testing.T) {
	t.Parallel()
	dir := newMaildir(t, "3 V5 N1\n")
	for _, sub := range []string{".Lists.Go/cur", ".Lists.Go/new", ".Sent Items/cur", ".Sent Items/new", ".other/tmp", "Archive/cur"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for path, text := range map[string]string{".file": "x", ".Lists.Go/cur/1.a.host:2,S": "x"} {
		if err := os.WriteFile(filepath.Join(dir, path), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	names, err := maildir.Folders(dir)
	if diff := cmp.Diff([]string{"Lists.Go", "Sent Items"}, names); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
	got, err := maildir.ReadFolder(filepath.Join(dir, ".Lists.Go"))
	if err != nil || got.UIDValidity != 0 || got.Next != 2 || len(got.Messages) != 1 || got.Messages[0].UID != 1 || !got.Messages[0].Flags.Seen {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := maildir.Read(filepath.Join(dir, ".Lists.Go")); err == nil {
		t.Error("a Maildir without a list was read")
	}
	if _, err := maildir.Folders(filepath.Join(dir, "nowhere")); err == nil {
		t.Error("no Maildir has folders")
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	for list, says := range map[string]string{
		"":                                      "no unique-ids to keep",
		"\n":                                    "not the first line",
		"2 V1 N2\n":                             `version "2"`,
		"3 V1 G2\n":                             "not a UID",
		"3 V0 N2\n":                             "not a UID",
		"3 V1 N5000000000\n":                    "not a UID",
		"3 V1 N9\nx :a\n":                       "dovecot-uidlist:2: \"x\" is not a UID",
		"3 V1 N9\n3 :a\n3 :b\n":                 "UID 3 after 3",
		"1 1 9\n9 a\n":                          "UID 9 after 0, where the next one is 9",
		"3 V1 N9\n4294967295 :a\n":              "UID 4294967295 after 0",
		"3 V1 N9\n4 W1 a\n":                     "no file name",
		"3 V1 N9\n" + strings.Repeat("1", 9000): "too long",
	} {
		_, err := maildir.Read(newMaildir(t, list))
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%.40q: %v; should say %q", list, err, says)
		}
	}
	if _, err := maildir.Read(t.TempDir()); err == nil {
		t.Error("a directory that is no Maildir was read")
	}
	if _, err := maildir.Read(newMaildir(t, "3 V1 N9\n", "cur/a:2,S", "new/a")); err == nil || !strings.Contains(err.Error(), "two files") {
		t.Errorf("%v", err)
	}
	if _, err := maildir.Read(newMaildir(t, "3 V1 N4294967295\n", "new/a", "new/b")); err == nil || !strings.Contains(err.Error(), "no further UID") {
		t.Errorf("%v", err)
	}
}

func FuzzList(f *testing.F) {
	f.Add("3 V1275660208 N31 G3\n7 W1 :a\n9 :b:2,S\n")
	f.Add("1 5 6\n3 a\n")
	dir := newMaildir(f, "", "cur/a:2,S", "new/b")
	f.Fuzz(func(t *testing.T, list string) {
		if err := os.WriteFile(filepath.Join(dir, "dovecot-uidlist"), []byte(list), 0o600); err != nil {
			t.Fatal(err)
		}
		folder, err := maildir.Read(dir)
		if err != nil {
			return
		}
		last := uint32(0)
		for _, m := range folder.Messages {
			if m.UID <= last {
				t.Error(fmt.Errorf("UID %d after %d", m.UID, last))
			}
			last = m.UID
		}
		if len(folder.Messages) != 2 || folder.Next != 0 && folder.Next <= last {
			t.Errorf("%+v", folder)
		}
	})
}
