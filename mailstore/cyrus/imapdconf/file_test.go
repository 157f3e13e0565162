package imapdconf_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
)

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "@ROOT@", dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t *testing.T, text string) *imapdconf.Config {
	t.Helper()
	c, err := imapdconf.Read(write(t, t.TempDir(), "imapd.conf", text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// minimal is the least that Cyrus starts with.
const minimal = "configdirectory: /c\npartition-default: /p\n"

func TestReadEverything(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "more.conf", "popminpoll: 2h\nstatuscache: on\n")
	path := write(t, dir, "imapd.conf", `
# comment
configdirectory: /c
 servername: mail.test
Admins: cyrus  root
partition-default: /p
partition-two:/q
metapartition-default: /meta
metapartition_files: index header
metadir-cache-default: /fast
archivepartition-default: /archive
archive_enabled: yes
defaultpartition: default
@include: @ROOT@/more.conf
hashimapspool: true
fulldirhash: 1
mailbox_legacy_dirs: t
virtdomains: userid
defaultdomain: mail.test
unixhierarchysep: no
altnamespace: f
username_tolower: n
mboxname_lockpath: {configdirectory}/locks
pop3_poptimeout: 30
poptimeout: 15
popexpiretime: 30
poppollpadding: 4
popsubfolders: yes
popuseacl: yes
popuseimapflags: yes
pop3_uidl_format: dovecot
expunge_mode: immediate
delete_mode: immediate
sync_log: yes
sync_log_channels: "" backup
umask: 027
conversations: yes
maxheaderlines: 500
sasl_mech_list: PLAIN \
  GSSAPI
lmtpsocket: /run/lmtp
quota_db_path: /c/quotas
some_option_of_another_service: yes
`)
	got, err := imapdconf.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	want := imapdconf.Defaults()
	want.Dir, want.ServerName, want.Admins, want.Umask = "/c", "mail.test", []string{"cyrus", "root"}, 0o027
	want.ProcPath, want.LMTPSocket, want.IdleSocket = "/c/proc", "/run/lmtp", "/c/socket/idle"
	want.Names = imapdconf.Names{
		VirtDomains: imapdconf.VirtDomainsUserid, DefaultDomain: "mail.test", DeletedPrefix: "DELETED",
	}
	want.Layout = imapdconf.Layout{
		Partitions: map[string]imapdconf.Partition{
			"default": {
				Root: "/p", Meta: "/meta", Archive: "/archive",
				MetaDir: map[imapdconf.File]string{imapdconf.CacheFile: "/fast"},
			},
			"two": {Root: "/q"},
		},
		DefaultPartition: "default", MetaFiles: []imapdconf.File{imapdconf.IndexFile, imapdconf.HeaderFile},
		Hash: true, FullHash: true, LegacyDirs: true, Archive: true, LockPath: "/c/locks",
	}
	want.Databases.Mailboxes.Path, want.Databases.Quota.Path = "/c/mailboxes.db", "/c/quotas"
	want.Databases.StatusCache.Path, want.Databases.UserDeny.Path = "/c/statuscache.db", "/c/user_deny.db"
	want.Expunge = imapdconf.Expunge{Mode: imapdconf.ExpungeImmediate}
	want.POP = imapdconf.POP{
		MinPoll: 2 * time.Hour, PollPadding: 4, ExpireTime: 30 * 24 * time.Hour, Timeout: 30 * time.Minute,
		Subfolders: true, UseACL: true, UseIMAPFlags: true, UIDL: imapdconf.UIDLDovecot,
	}
	want.SyncLog = imapdconf.SyncLog{Enabled: true, Channels: []string{`""`, "backup"}}
	want.Conversations, want.StatusCache, want.MaxHeaderLines = true, true, 500
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(imapdconf.Config{})); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestDefaultsOfAMinimalFile(t *testing.T) {
	t.Parallel()
	c := read(t, minimal)
	if c.Layout.LockPath != "/c/lock" || c.Layout.DefaultPartition != "default" || c.POP.Timeout != 10*time.Minute ||
		!c.Names.UnixHierarchySep || c.POP.ExpireTime >= 0 || c.Expunge.Mode != imapdconf.ExpungeDelayed {
		t.Errorf("%+v", c)
	}
	if problems := c.Unsupported(); len(problems) != 0 {
		t.Errorf("%q", problems)
	}
}

func TestServicePrefixWins(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"popminpoll: 5\npop3_popminpoll: 7\n",
		"pop3_popminpoll: 7\npopminpoll: 5\n",
		"pop3_popminpoll: 7m\nimap_popminpoll: 9\n",
	} {
		if c := read(t, minimal+text); c.POP.MinPoll != 7*time.Minute {
			t.Errorf("%q: %v", text, c.POP.MinPoll)
		}
	}
}

func TestDurations(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]time.Duration{
		"0": 0, "3": 3 * time.Minute, "1d2h3m4s": 26*time.Hour + 3*time.Minute + 4*time.Second, "90s": 90 * time.Second,
		"1h30": 90 * time.Minute, "-1": -time.Minute,
	} {
		if c := read(t, minimal+"popminpoll: "+value+"\n"); c.POP.MinPoll != want {
			t.Errorf("%q: %v, want %v", value, c.POP.MinPoll, want)
		}
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"configdirectory /c\n":                      ":3: ",
		"popminpoll: soon\n":                        ":3: popminpoll: ",
		"popminpoll: m\n":                           ":3: popminpoll: ",
		"popminpoll: 9999999999d\n":                 ":3: popminpoll: ",
		"\n\nhashimapspool: perhaps\n":              ":5: hashimapspool: ",
		"uidl_format: uw\n":                         ":3: uidl_format: ",
		"expunge_mode: yes\n":                       ":3: expunge_mode: ",
		"delete_mode: never\n":                      ":3: delete_mode: ",
		"virtdomains: sometimes\n":                  ":3: virtdomains: ",
		"metapartition_files: index soup\n":         ":3: metapartition_files: ",
		"metadir-soup-default: /x\n":                ":3: metadir-soup-default: ",
		"umask: 999\n":                              ":3: umask: ",
		"poppollpadding: two\n":                     ":3: poppollpadding: ",
		"servername:\n":                             ":3: servername: empty",
		"popuseacl: yes\npopuseacl: no\n":           ":4: popuseacl: given twice",
		"pop3_popuseacl: y\npop3_popuseacl: n\n":    ":4: pop3_popuseacl: given twice",
		"@include: /nonexistent/x\n":                "/nonexistent/x",
		"@exclude: /x\n":                            "@exclude",
		"na me: x\n":                                ":3: ",
		"servername: x\\\n":                         "backslash",
		"defaultpartition: three\n":                 "partition-three",
		"metapartition-three: /m\n":                 "partition-three",
		"partition-three: relative\n":               "not an absolute path",
		"servername: " + strings.Repeat("x", 2<<20): "larger",
	} {
		dir := t.TempDir()
		_, err := imapdconf.Read(write(t, dir, "imapd.conf", minimal+text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %.200v, want %q", text, err, want)
		}
	}
	for _, text := range []string{"", "configdirectory: /c\n", "partition-default: /p\n", "configdirectory: c\npartition-a: /p\n"} {
		if _, err := imapdconf.Read(write(t, t.TempDir(), "imapd.conf", text)); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
	dir := t.TempDir()
	if _, err := imapdconf.Read(write(t, dir, "loop.conf", minimal+"@include: @ROOT@/loop.conf\n")); err == nil ||
		!strings.Contains(err.Error(), "twice") {
		t.Errorf("a file that includes itself: %v", err)
	}
}

func TestUnsupported(t *testing.T) {
	t.Parallel()
	for text, option := range map[string]string{
		"mboxlist_db: sql\n":                             "mboxlist_db: sql",
		"mboxlist_db: berkeley\n":                        "mboxlist_db: berkeley",
		"quota_db: twoskip\n":                            "quota_db: twoskip",
		"annotation_db: zeroskip\n":                      "annotation_db: zeroskip",
		"statuscache: yes\nstatuscache_db: sql\n":        "statuscache_db: sql",
		"object_storage_enabled: yes\n":                  "object_storage_enabled: yes",
		"mupdate_server: mu.test\n":                      "mupdate_server: mu.test",
		"conversations: yes\n":                           "conversations: yes",
		"virtdomains: yes\n":                             "virtdomains: on",
		"sync_log: y\nsync_log_channels: ../../etc ok\n": "sync_log_channels: ../../etc",
		"reverseacls: on\n":                              "reverseacls: on",
		"pop3_improved_mboxlist_sort: 1\n":               "improved_mboxlist_sort: 1",
	} {
		c := read(t, minimal+text)
		if got := c.Unsupported(); len(got) != 1 || !strings.HasPrefix(got[0], option+": ") || len(got[0]) < len(option)+20 {
			t.Errorf("%q: %q", text, got)
		}
	}
	through := read(t, minimal+"conversations: yes\n")
	through.ThroughIMAP = true
	if got := through.Unsupported(); len(got) != 0 {
		t.Errorf("conversations, through Cyrus: %q", got)
	}
	c := read(t, minimal+"object_storage_enabled: no\nreverseacls: 0\nstatuscache_db: sql\nmboxlist_db: skiplist\n")
	if got := c.Unsupported(); len(got) != 0 {
		t.Errorf("%q", got)
	}
}

func TestByHand(t *testing.T) {
	t.Parallel()
	c := imapdconf.Defaults()
	c.Dir = "/var/lib/kpopd"
	c.Layout.Partitions["default"] = imapdconf.Partition{Root: "/var/spool/kpopd"}
	if err := c.Complete(); err != nil {
		t.Fatal(err)
	}
	if c.Databases.Mailboxes.Path != "/var/lib/kpopd/mailboxes.db" || len(c.Unsupported()) != 0 {
		t.Errorf("%+v, %q", c, c.Unsupported())
	}
}

// TestReadWith: options besides a file, and without one.
func TestReadWith(t *testing.T) {
	t.Parallel()
	c, err := imapdconf.ReadWith("", map[string]string{
		"configdirectory": "/var/lib/kpopd", "partition-default": "/var/spool/kpopd", "HashImapSpool": "yes", "popminpoll": "5",
	})
	if err != nil || !c.Layout.Hash || c.POP.MinPoll != 5*time.Minute || c.Layout.DefaultPartition != "default" {
		t.Errorf("%+v, %v", c, err)
	}
	file := write(t, t.TempDir(), "imapd.conf", minimal+"popminpoll: 1\npop3_uidl_format: courier\n")
	c, err = imapdconf.ReadWith(file, map[string]string{"popminpoll": "2", "uidl_format": "dovecot"})
	if err != nil || c.POP.MinPoll != 2*time.Minute || c.POP.UIDL != imapdconf.UIDLDovecot {
		t.Errorf("%+v, %v", c, err)
	}
	for option, value := range map[string]string{
		"popminpol": "1", "@include": file, "popminpoll": "x", "uidl_format": "", "servername": "a\nb", "a b": "c", "allowapop": "yes",
	} {
		if _, err := imapdconf.ReadWith(file, map[string]string{option: value}); err == nil || !strings.Contains(err.Error(), option) {
			t.Errorf("%s: %v", option, err)
		}
	}
	if _, err := imapdconf.ReadWith("", map[string]string{"popminpoll": "1"}); err == nil || !strings.Contains(err.Error(), "configdirectory") {
		t.Errorf("%v", err)
	}
}

// TestElsewhere: what kpopd has in its own file is told by name.
func TestElsewhere(t *testing.T) {
	t.Parallel()
	c := read(t, minimal+"allowapop: no\npop3_sasl_mech_list: PLAIN\nsieveusehomedir: no\n")
	got := c.Elsewhere()
	if len(got) != 2 || got[0] != "allowapop: no: see password.apop_file" || !strings.HasPrefix(got[1], "sasl_mech_list: PLAIN: ") {
		t.Errorf("%q", got)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(minimal))
	f.Add([]byte("pop3_popminpoll: 1d2h\n@include: /dev/null\nmetadir-index-x: /y\na: \\\nb\n"))
	path := filepath.Join(f.TempDir(), "imapd.conf")
	f.Fuzz(func(t *testing.T, data []byte) {
		if strings.Contains(strings.ToLower(string(data)), "@include") {
			return // not to read whatever is on this machine
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := imapdconf.Read(path)
		if err == nil && (c.Dir == "" || len(c.Layout.Partitions) == 0) {
			t.Errorf("%+v", c)
		}
	})
}
