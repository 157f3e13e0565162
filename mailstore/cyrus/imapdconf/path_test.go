package imapdconf_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
)

// Every path here is one that Cyrus 3.6.1 has made.

const byName = `
configdirectory: /conf
partition-default: /spool
metapartition-default: /meta
metapartition_files: index header
mboxname_lockpath: /lock
mailbox_legacy_dirs: yes
virtdomains: userid
defaultdomain: probe.example
hashimapspool: yes
fulldirhash: yes
unixhierarchysep: yes
`

const byID = "configdirectory: /conf\npartition-default: /spool\nhashimapspool: true\nunixhierarchysep: yes\n"

func mailbox(t *testing.T, intname, id string) imapdconf.Mailbox {
	t.Helper()
	n, err := imapdconf.ParseIntname(intname)
	if err != nil {
		t.Fatal(err)
	}
	return imapdconf.Mailbox{Name: n, UniqueID: id, Partition: "default", Legacy: id == ""}
}

func TestHashChar(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		"dave": "dG", "d.dot": "dI", "dom.example": "dJ", "eve": "eW", "*U*dave": "qM", "Zoe": "z", "0kp": "q", "": "q",
		"*U*eve@dom.example": "qF",
	} {
		if got := imapdconf.HashChar(s, false); got != want[0] {
			t.Errorf("%q: %c", s, got)
		}
		if len(want) > 1 {
			if got := imapdconf.HashChar(s, true); got != want[1] {
				t.Errorf("%q, full: %c", s, got)
			}
		}
	}
}

func TestPathsByName(t *testing.T) {
	t.Parallel()
	c := read(t, byName)
	for _, want := range []struct {
		name                             string
		directory, index, cache, message string
		mailboxLock, userLock, seen      string
	}{
		{
			"user.dave", "/spool/G/user/dave", "/meta/G/user/dave/cyrus.index", "/spool/G/user/dave/cyrus.cache",
			"/spool/G/user/dave/7.", "/lock/G/user/dave.lock", "/lock/M/*U*dave.lock", "/conf/user/G/dave.seen",
		},
		{
			"user.d^dot", "/spool/I/user/d^dot", "/meta/I/user/d^dot/cyrus.index", "/spool/I/user/d^dot/cyrus.cache",
			"/spool/I/user/d^dot/7.", "/lock/I/user/d^dot.lock", "", "/conf/user/I/d.dot.seen",
		},
		{
			"dom.example!user.eve", "/spool/domain/J/dom.example/W/user/eve",
			"/meta/domain/J/dom.example/W/user/eve/cyrus.index", "/spool/domain/J/dom.example/W/user/eve/cyrus.cache",
			"/spool/domain/J/dom.example/W/user/eve/7.", "/lock/domain/J/dom.example/W/user/eve.lock",
			"/lock/F/*U*eve@dom^example.lock", "/conf/domain/J/dom.example/user/W/eve.seen",
		},
		{
			"user.dave.Sent^Items", "/spool/G/user/dave/Sent^Items", "/meta/G/user/dave/Sent^Items/cyrus.index",
			"/spool/G/user/dave/Sent^Items/cyrus.cache", "/spool/G/user/dave/Sent^Items/7.",
			"/lock/G/user/dave/Sent^Items.lock", "/lock/M/*U*dave.lock", "",
		},
	} {
		m := mailbox(t, want.name, "")
		check := func(what, want string, get func() (string, error)) {
			t.Helper()
			if got, err := get(); want != "" && (got != want || err != nil) {
				t.Errorf("%s: %s: %q, %v; want %q", m.Name, what, got, err, want)
			}
		}
		check("directory", want.directory, func() (string, error) { return c.Directory(m, imapdconf.MessageFile) })
		check("index", want.index, func() (string, error) { return c.Path(m, imapdconf.IndexFile) })
		check("cache", want.cache, func() (string, error) { return c.Path(m, imapdconf.CacheFile) })
		check("message", want.message, func() (string, error) { return c.MessagePath(m, 7, false) })
		check("mailbox lock", want.mailboxLock, func() (string, error) { return c.MailboxLock(m) })
		check("user lock", want.userLock, func() (string, error) { return c.NamespaceLock(m.Name) })
		check("seen", want.seen, func() (string, error) { return c.UserFile(m, "seen.db") })
	}
}

func TestPathsByID(t *testing.T) {
	t.Parallel()
	c := read(t, byID+"metadir-index-default: /fast\narchivepartition-default: /old\nmetapartition_files: cache\n"+
		"metapartition-default: /meta\n")
	m := mailbox(t, "user.first^last", "0kpbij6v8x0pn4vz2z85x0u3")
	for want, get := range map[string]func() (string, error){
		"/spool/uuid/0/k/0kpbij6v8x0pn4vz2z85x0u3/cyrus.header": func() (string, error) { return c.Path(m, imapdconf.HeaderFile) },
		"/fast/uuid/0/k/0kpbij6v8x0pn4vz2z85x0u3/cyrus.index":   func() (string, error) { return c.Path(m, imapdconf.IndexFile) },
		"/meta/uuid/0/k/0kpbij6v8x0pn4vz2z85x0u3/cyrus.cache":   func() (string, error) { return c.Path(m, imapdconf.CacheFile) },
		"/old/uuid/0/k/0kpbij6v8x0pn4vz2z85x0u3/cyrus.cache":    func() (string, error) { return c.Path(m, imapdconf.ArchiveCacheFile) },
		"/spool/uuid/0/k/0kpbij6v8x0pn4vz2z85x0u3/4294967295.":  func() (string, error) { return c.MessagePath(m, 1<<32-1, false) },
		"/old/uuid/0/k/0kpbij6v8x0pn4vz2z85x0u3/12.":            func() (string, error) { return c.MessagePath(m, 12, true) },
		"/conf/lock/q/0kpbij6v8x0pn4vz2z85x0u3.lock":            func() (string, error) { return c.MailboxLock(m) },
		"/conf/lock/q/*U*first^last.lock":                       func() (string, error) { return c.NamespaceLock(m.Name) },
		"/conf/user/uuid/0/k/0kpbij6v8x0pn4vz2z85x0u3/seen.db":  func() (string, error) { return c.UserFile(m, "seen.db") },
	} {
		if got, err := get(); err != nil || got != want {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
}

// TestMetaPaths: archived messages lie under the archive root wherever their cache
// is, and annotations go with the index (Cyrus's mboxname_archivepath and
// mboxname_metapath).
func TestMetaPaths(t *testing.T) {
	t.Parallel()
	const dir = "/uuid/0/k/0kpbij6v8x0pn4vz2z85x0u3/"
	m := mailbox(t, "user.alice", "0kpbij6v8x0pn4vz2z85x0u3")
	archive := byID + "archive_enabled: yes\narchivepartition-default: /old\n"
	for conf, want := range map[string][3]string{ // archived message, its cache, annotations
		archive: {"/old", "/old", "/spool"},
		archive + "metapartition-default: /meta\nmetapartition_files: archivecache annotations\n": {"/old", "/meta", "/meta"},
		archive + "metadir-archivecache-default: /fast\nmetadir-index-default: /index\n":          {"/old", "/fast", "/index"},
		byID + "metapartition-default: /meta\nmetapartition_files: archivecache\n":                {"/spool", "/meta", "/spool"},
	} {
		c := read(t, conf)
		message, err1 := c.MessagePath(m, 12, true)
		cache, err2 := c.Path(m, imapdconf.ArchiveCacheFile)
		annotations, err3 := c.Path(m, imapdconf.AnnotationsFile)
		got := [3]string{message, cache, annotations}
		if err := errors.Join(err1, err2, err3); err != nil || got != [3]string{want[0] + dir + "12.", want[1] + dir + "cyrus.cache", want[2] + dir + "cyrus.annotations"} {
			t.Errorf("%s: %q, %v", conf, got, err)
		}
	}
}

func TestNoPath(t *testing.T) {
	t.Parallel()
	c := read(t, byID)
	for _, id := range []string{"", "a", "../../etc", "a/b", "..", "-a", strings.Repeat("a", 65), "ab\x00"} {
		m := mailbox(t, "user.a", "xx")
		m.UniqueID = id
		if p, err := c.Path(m, imapdconf.IndexFile); !errors.Is(err, imapdconf.ErrName) {
			t.Errorf("%q leads to %q, %v", id, p, err)
		}
		if p, err := c.MailboxLock(m); !errors.Is(err, imapdconf.ErrName) {
			t.Errorf("%q is locked by %q, %v", id, p, err)
		}
		if p, err := c.UserFile(m, "seen.db"); !errors.Is(err, imapdconf.ErrName) {
			t.Errorf("%q leads to %q, %v", id, p, err)
		}
	}
	m := mailbox(t, "user.a", "")
	m.Name = imapdconf.Name{Parts: []string{"user", "../../etc"}}
	if p, err := c.Path(m, imapdconf.IndexFile); !errors.Is(err, imapdconf.ErrName) {
		t.Errorf("a name made by hand leads to %q, %v", p, err)
	}
	if p, err := c.NamespaceLock(m.Name); !errors.Is(err, imapdconf.ErrName) {
		t.Errorf("a name made by hand is locked by %q, %v", p, err)
	}
	m = mailbox(t, "user.a", "abc")
	m.Partition = "other"
	if _, err := c.Path(m, imapdconf.IndexFile); !errors.Is(err, imapdconf.ErrPartition) {
		t.Errorf("%v", err)
	}
	shared := mailbox(t, "shared.x", "abc")
	if lock, err := c.NamespaceLock(shared.Name); lock != "" || err != nil {
		t.Errorf("a shared mailbox's user lock: %q, %v", lock, err)
	}
	if _, err := c.UserFile(shared, "seen.db"); !errors.Is(err, imapdconf.ErrName) {
		t.Errorf("%v", err)
	}
}

func TestQuotaPaths(t *testing.T) {
	t.Parallel()
	full, simple := read(t, byName), read(t, byID)
	for _, c := range []struct {
		config     *imapdconf.Config
		root, path string
	}{
		{simple, "user.quota", "/conf/quota/q/user.quota"},
		{simple, "user.alice", "/conf/quota/a/user.alice"},
		{simple, "user.first^last", "/conf/quota/f/user.first^last"},
		{simple, "shared", "/conf/quota/s/shared"},
		{full, "user.dave", "/conf/quota/G/user.dave"},
		{full, "dom.example!user.eve", "/conf/domain/J/dom.example/quota/W/user.eve"},
		{full, "dom.example!", "/conf/domain/J/dom.example/quota/root"},
	} {
		root, err := imapdconf.ParseQuotaRoot(c.root)
		if err != nil {
			t.Errorf("%s: %v", c.root, err)
			continue
		}
		if got, err := c.config.QuotaPath(root); err != nil || got != c.path || root.String() != c.root {
			t.Errorf("%s: %s, %q, %v; want %q", c.root, root, got, err, c.path)
		}
	}
	var roots []string
	for _, r := range imapdconf.QuotaRoots(mailbox(t, "dom.example!user.a^b.c", "").Name) {
		roots = append(roots, r.String())
	}
	if got := strings.Join(roots, " "); got != "dom.example!user.a^b.c dom.example!user.a^b dom.example!" {
		t.Errorf("%q", got)
	}
	for _, s := range []string{"", "!", "../x!", "user.a/b", "a..b"} {
		if root, err := imapdconf.ParseQuotaRoot(s); err == nil {
			t.Errorf("quota root %q became %v", s, root)
		}
	}
	if p, err := simple.QuotaPath(imapdconf.QuotaRoot{Parts: []string{"user", "../x"}}); err == nil {
		t.Errorf("a root made by hand leads to %q", p)
	}
}

func TestOtherFiles(t *testing.T) {
	t.Parallel()
	c := read(t, byID+"sync_log: yes\nsync_log_channels: \"\" backup ../../etc\n")
	if got := strings.Join(c.SyncLogs(), " "); got != "/conf/sync/log /conf/sync/backup/log" {
		t.Errorf("%q", got)
	}
	if got := read(t, byID+"sync_log: yes\n").SyncLogs(); len(got) != 1 || got[0] != "/conf/sync/log" {
		t.Errorf("%q", got)
	}
	if got := read(t, byID).SyncLogs(); got != nil {
		t.Errorf("%q", got)
	}
	if got := strings.Join(c.Shutdowns(), " "); got != "/conf/msg/shutdown /conf/msg/shutdown.pop3" {
		t.Errorf("%q", got)
	}
}
