package cyrusdb_test

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/kpopd/kpopd/mailstore/cyrus/cyrusdb"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
)

func intname(t *testing.T, s string) imapdconf.Name {
	t.Helper()
	n, err := imapdconf.ParseIntname(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestLookup(t *testing.T) {
	t.Parallel()
	owner := func(id string) []cyrusdb.Right { return []cyrusdb.Right{{Identifier: id, Rights: "lrswipkxtecdan"}} }
	for _, want := range []struct {
		file string
		name string
		e    cyrusdb.MailboxEntry
	}{
		{"uuid", "user.first^last", cyrusdb.MailboxEntry{
			UniqueID: "0kpbij6v8x0pn4vz2z85x0u3", UIDValidity: 1795442568, CreatedModSeq: 1, FolderModSeq: 1,
			MTime: 1795442567, ACL: owner("first.last"),
		}},
		{"uuid", "user.flags", cyrusdb.MailboxEntry{
			UniqueID: "ojkp1e29nubbwlq3nezm4vbi", UIDValidity: 1795442568, CreatedModSeq: 1, FolderModSeq: 2,
			MTime: 1795442567, ACL: append(owner("flags"), cyrusdb.Right{Identifier: "deliv", Rights: "lrs"}),
		}},
		{"byname", "dom.example!user.eve", cyrusdb.MailboxEntry{
			Flags: cyrusdb.TypeLegacyDirs, UniqueID: "fcynxcx4wc16eemniiei3fmm", UIDValidity: 1795442182,
			CreatedModSeq: 1, FolderModSeq: 1, MTime: 1795442181, ACL: owner("eve@dom.example"),
		}},
		{"byname", "user.dave.Sent^Items", cyrusdb.MailboxEntry{
			Flags: cyrusdb.TypeLegacyDirs, UniqueID: "fllrj94bm8oe9a9owwmua4e5", UIDValidity: 1795442182,
			CreatedModSeq: 1, FolderModSeq: 1, MTime: 1795442181, ACL: owner("dave"),
		}},
		{"legacy", "user.gina", cyrusdb.MailboxEntry{ // a value of 2.5
			Flags: cyrusdb.TypeLegacyDirs, UniqueID: "fscntww10v6uuhh79g9rknyn", UIDValidity: 1795442378,
			MTime: 1500000000, ACL: owner("gina"),
		}},
		{"legacy", "user.hank", cyrusdb.MailboxEntry{Flags: cyrusdb.TypeLegacyDirs, ACL: owner("hank")}}, // of 2.4
	} {
		list := cyrusdb.MailboxList{Database: database("testdata/mailboxes-" + want.file + ".db")}
		want.e.Name, want.e.Kind, want.e.Partition = intname(t, want.name), 'e', "default"
		got, err := list.Lookup(t.Context(), want.e.Name)
		if err != nil {
			t.Errorf("%s: %v", want.name, err)
			continue
		}
		if diff := cmp.Diff(want.e, got, cmpopts.IgnoreUnexported(cyrusdb.MailboxEntry{})); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", want.name, diff)
		}
		if ok, why := got.Serves(""); !ok {
			t.Errorf("%s: %s", want.name, why)
		}
	}
	for _, file := range []string{"uuid", "legacy"} {
		list := cyrusdb.MailboxList{Database: database("testdata/mailboxes-" + file + ".db")}
		if _, err := list.Lookup(t.Context(), intname(t, "user.nobody")); !errors.Is(err, cyrusdb.ErrNoMailbox) {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func TestAll(t *testing.T) {
	t.Parallel()
	for file, want := range map[string]string{
		"uuid": "user.annot user.deliv user.first^last user.flags user.flags.Archive user.fresh user.imm " +
			"user.popexp user.quota",
		"byname":  "dom.example!user.eve user.d^dot user.dave user.dave.Sent^Items",
		"legacy":  "user.gina user.hank",
		"written": "user.ivy user.jo^an user.zed",
	} {
		list := cyrusdb.MailboxList{Database: database("testdata/mailboxes-" + file + ".db")}
		var got []string
		err := list.All(t.Context(), func(e cyrusdb.MailboxEntry) error {
			got = append(got, e.Name.Intname())
			return nil
		}, func(key string, err error) error {
			t.Errorf("%s: key %q: %v", file, key, err)
			return nil
		})
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: %q, %v", file, got, err)
		}
	}
}

// TestValuesOfCyrus writes what was read and wants the same octets.
func TestValuesOfCyrus(t *testing.T) {
	t.Parallel()
	n := 0
	for _, file := range []string{"uuid", "byname", "written"} {
		err := cyrusdb.View(t.Context(), database("testdata/mailboxes-"+file+".db"), func(r cyrusdb.Reader) error {
			return r.Range(nil, func(key, value []byte) error {
				e, err := cyrusdb.ParseMailboxEntry(string(value))
				if err != nil {
					return err
				}
				n++
				got := ""
				switch key[0] {
				case 'N':
					got = string(e.AppendNameValue(nil))
				case 'I':
					e.UniqueID = string(key[1:])
					got = string(e.AppendIDValue(nil))
				}
				if got != string(value) {
					t.Errorf("%s: %q, want %q", file, got, value)
				}
				return nil
			})
		})
		if err != nil {
			t.Error(err)
		}
	}
	if n != 18+8+6 {
		t.Errorf("%d values", n)
	}
}

func TestEntryValues(t *testing.T) {
	t.Parallel()
	for _, value := range []string{
		"%(T e I x P default V 1 C 1 F 1 M 1 A %(a lr) H (%(N user\x1fold M 3 V 1 C 1 F 1 T e P default)))",
		`%(T e N "dom.example` + "\x1d" + `user` + "\x1f" + `eve" P default M 1 A %("group:a b" lr) H ())`,
	} {
		e, err := cyrusdb.ParseMailboxEntry(value)
		if err != nil {
			t.Error(err)
			continue
		}
		got := string(e.AppendIDValue(nil))
		if e.UniqueID != "" {
			if got = strings.Replace(got, "N  ", "", 1); !strings.Contains(got, "H (%(N user\x1fold M 3") {
				t.Errorf("the history is lost: %q", got)
			}
		} else if got != value {
			t.Errorf("%q, want %q", got, value)
		}
	}
}

func TestServes(t *testing.T) {
	t.Parallel()
	for value, served := range map[string]bool{
		"%(T e I x P default M 1)":              true,
		"%(T el I x P default M 1)":             true,
		"%(I x P default M 1)":                  true, // 3.4 and before wrote no type for mail
		"%(T e I x P default S here M 1)":       true,
		"%(T e I x P default S there M 1)":      false,
		"%(T ei I x M 1)":                       false,
		"%(T ed I x P default M 1)":             false,
		"%(T d I x P default M 1)":              false,
		"%(T em I x P default M 1)":             false,
		"%(T er I x P default M 1)":             false,
		"%(T ez I x P default M 1)":             false,
		"%(T c I x P default M 1)":              false,
		"(uniqueid 1234) 0 default a\tlr\t":     true,
		"1 there!default a\tlr\t":               false,
		"16 default a\tlr\t":                    false,
		"2 default a\tlr\t":                     false,
		"(uniqueid 12 specialuse \\Sent) 0 p a": true,
	} {
		e, err := cyrusdb.ParseMailboxEntry(value)
		if err != nil {
			t.Errorf("%q: %v", value, err)
			continue
		}
		if ok, why := e.Serves("here"); ok != served || !ok && why == "" {
			t.Errorf("%q: served %v (%s)", value, ok, why)
		}
	}
	for _, value := range []string{
		"", "%", "%(", "%(T e", "%(T ee)", "%(T q)", "%(A (a b))", "%(V x)", "%(T e) ", "(uniqueid", "x default a",
		"0", "4096 default a\tlr\t", "%(N ..)", "%(N user\x1f../../etc)",
	} {
		if _, err := cyrusdb.ParseMailboxEntry(value); err == nil {
			t.Errorf("%q was accepted", value)
		}
	}
}

func TestCreateMailbox(t *testing.T) {
	t.Parallel()
	list := cyrusdb.MailboxList{Database: database(copyOf(t, "mailboxes-uuid.db"))}
	e := cyrusdb.MailboxEntry{
		Name: intname(t, "user.new^one"), Kind: 'e', UniqueID: "abcdefghijklmnopqrstuvwx", Partition: "default",
		UIDValidity: 7, CreatedModSeq: 1, FolderModSeq: 1, MTime: 9,
		ACL: []cyrusdb.Right{{Identifier: "new.one", Rights: "lrswipkxtecdan"}},
	}
	full := errors.New("disk full")
	if err := list.Create(t.Context(), e, func() error { return full }); !errors.Is(err, full) {
		t.Errorf("%v", err)
	}
	if _, err := list.Lookup(t.Context(), e.Name); !errors.Is(err, cyrusdb.ErrNoMailbox) {
		t.Errorf("after a refusal: %v", err)
	}
	if err := list.Create(t.Context(), e, nil); err != nil {
		t.Fatal(err)
	}
	got, err := list.Lookup(t.Context(), e.Name)
	if err != nil || got.UniqueID != e.UniqueID {
		t.Errorf("%+v, %v", got, err)
	}
	if err := list.Create(t.Context(), e, nil); !errors.Is(err, cyrusdb.ErrMailboxExists) {
		t.Errorf("a second time: %v", err)
	}
	text := dump(t, list.Database.Path)
	for _, line := range []string{
		"Nuser\x1fnew.one\t%(T e I abcdefghijklmnopqrstuvwx P default V 7 C 1 F 1 M 9 A %(new.one lrswipkxtecdan))\n",
		"Iabcdefghijklmnopqrstuvwx\t%(T e N user\x1fnew.one P default V 7 C 1 F 1 M 9 A %(new.one lrswipkxtecdan) H ())\n",
	} {
		if !strings.Contains(text, line) {
			t.Errorf("%q is missing", line)
		}
	}
	if err := list.Remove(t.Context(), e.Name); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(dump(t, list.Database.Path), "\n")
	want := strings.Split(dump(t, "testdata/mailboxes-uuid.db"), "\n")
	if !slices.Equal(lines, want) {
		t.Error("after Remove the list is not what it was")
	}
}

func TestCreateOverPlaceholder(t *testing.T) {
	t.Parallel()
	list := cyrusdb.MailboxList{Database: database(filepath.Join(t.TempDir(), "m.db"))}
	if err := cyrusdb.Create(t.Context(), list.Database); err != nil {
		t.Fatal(err)
	}
	put(t, list.Database, "Nuser\x1fa", "%(T ei I oldid M 1)", "Ioldid", "%(T ei N user\x1fa M 1 H ())")
	e := cyrusdb.MailboxEntry{Name: intname(t, "user.a"), Kind: 'e', UniqueID: "newid", Partition: "default", MTime: 2}
	if err := list.Create(t.Context(), e, nil); err != nil {
		t.Fatal(err)
	}
	want := "Inewid\t%(T e N user\x1fa P default M 2 H ())\nNuser\x1fa\t%(T e I newid P default M 2)\n"
	if got := dump(t, list.Database.Path); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestCreateInOldList(t *testing.T) {
	t.Parallel()
	list := cyrusdb.MailboxList{Database: database(copyOf(t, "mailboxes-legacy.db"))}
	e := cyrusdb.MailboxEntry{Name: intname(t, "user.a"), Kind: 'e', UniqueID: "newid", Partition: "default", MTime: 2}
	if err := list.Create(t.Context(), e, nil); !errors.Is(err, cyrusdb.ErrFormat) {
		t.Errorf("%v", err)
	}
}
