package cyrus

import (
	"context"
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/cyrus/cyrusdb"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
)

// TestOldVersions reads what is only read.
func TestOldVersions(t *testing.T) {
	t.Parallel()
	root := filepath.Join(unpack(t, "index-versions/"), "index-versions")
	all := map[string]expected{}
	if err := json.Unmarshal(contents(t, filepath.Join(root, "expected.json")), &all); err != nil {
		t.Fatal(err)
	}
	for version, want := range all {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			s := newMailbox(t)
			place := must(s.lookup("alice"))
			dir := must(s.conf.Directory(place, imapdconf.MessageFile))
			for _, file := range must(filepath.Glob(filepath.Join(root, version, "*"))) {
				write(t, filepath.Join(dir, filepath.Base(file)), contents(t, file))
			}
			putEntry(t, s, "alice", func(e *cyrusdb.MailboxEntry) { e.UniqueID = place.UniqueID })
			d := open(t, s, "alice")
			if d.Len() != len(want.POP) {
				t.Fatalf("%d messages, should be %d", d.Len(), len(want.POP))
			}
			for i, w := range want.POP {
				if id := string(d.AppendUniqueID(nil, mailstore.Number(i+1))); id != w["uidl_cyrus"] {
					t.Errorf("unique-id %q, should be %v", id, w["uidl_cyrus"])
				}
			}
			if _, err := d.Octets(); err != nil {
				t.Error(err)
			}
			old := want.Index["minor"] < 12
			if err := d.ReadOnly(); (err != nil) != old {
				t.Errorf("version %s: ReadOnly %v", version, err)
			}
		})
	}
}

// TestUpdateVersions removes from each version that is written, and compares
// everything with what it should be.
func TestUpdateVersions(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"v12", "v13", "v14", "v15", "v16", "v17"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			root := filepath.Join(unpack(t, "index-versions/"), "index-versions", version)
			s := newMailbox(t)
			h, err := ParseMailboxHeader("", contents(t, filepath.Join(root, "cyrus.header")))
			if err != nil {
				t.Fatal(err)
			}
			putEntry(t, s, "alice", func(e *cyrusdb.MailboxEntry) { e.UniqueID, e.UIDValidity = h.UniqueID, 0 })
			dir := must(s.conf.Directory(must(s.lookup("alice")), imapdconf.MessageFile))
			for _, file := range must(filepath.Glob(filepath.Join(root, "*"))) {
				write(t, filepath.Join(dir, filepath.Base(file)), contents(t, file))
			}
			h.Name, h.QuotaRoot = "user.alice", "" // it has moved
			octets := h.Append(nil)
			write(t, filepath.Join(dir, "cyrus.header"), octets)
			changeHeader(t, s, "alice", func(x *IndexHeader) { x.HeaderFileCRC = crcOf(octets) })
			clean(t, s, "alice")
			before := must(s.Dump(context.Background(), "alice"))
			expunge(t, s, "alice", 1, 3)
			after := must(s.Dump(context.Background(), "alice"))
			clean(t, s, "alice")
			if after.Index.Exists != before.Index.Exists-2 || after.Index.HighestModSeq != before.Index.HighestModSeq+2 {
				t.Errorf("header %+v", after.Index)
			}
		})
	}
}
