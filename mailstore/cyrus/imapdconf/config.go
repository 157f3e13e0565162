// Package imapdconf reads Cyrus's imapd.conf and knows what follows from it:
// how a user's name becomes a mailbox name (Names) and where a mailbox, its
// locks and the databases around it lie (Config's path methods).
//
// A site without Cyrus fills a Config by hand: it begins with Defaults, sets
// what it wants, and calls Complete.
//
// The texts followed are imapd.conf(5) and the sources of Cyrus IMAP 2.4 to
// 3.6; options are named as there.
package imapdconf

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A Config is what of imapd.conf concerns a maildrop.
type Config struct {
	Dir        string // configdirectory: root of the databases
	ServerName string // servername
	Admins     []string
	Umask      fs.FileMode
	ProcPath   string // proc_path
	LMTPSocket string // lmtpsocket
	IdleSocket string // idlesocket

	Names     Names
	Layout    Layout
	Databases Databases
	Expunge   Expunge
	POP       POP
	SyncLog   SyncLog

	Conversations  bool // conversations: an expunge must also update conversations.db
	ThroughIMAP    bool // which Cyrus's imapd does for us; no option of imapd.conf
	StatusCache    bool // statuscache: entries must be deleted when a mailbox changes
	ReadOnly       bool // readonly
	MaxHeaderLines int  // maxheaderlines: more are not parsed into cyrus.cache

	// other holds the options of the file that have no field.
	other map[string]string
}

// Names says how login names and mailbox names are written.
type Names struct {
	UnixHierarchySep bool        // unixhierarchysep: "/" separates, so users may hold dots
	AltNamespace     bool        // altnamespace: presentation only, nothing on disk
	VirtDomains      VirtDomains // virtdomains
	DefaultDomain    string      // defaultdomain: dropped from names

	// UsernameToLower is username_tolower. It is told, not applied: folding
	// after the proof of identity would let one principal into another's
	// maildrop, so it is for whoever maps identities.
	UsernameToLower bool
	DeletedPrefix   string // deletedprefix
}

// A Partition is one partition's roots.
type Partition struct {
	Root    string          // partition-NAME: message files
	Meta    string          // metapartition-NAME: files listed in Layout.MetaFiles
	Archive string          // archivepartition-NAME: messages flagged ARCHIVED
	MetaDir map[File]string // metadir-FILE-NAME: the root of that one file
}

// A Layout says where mailboxes and locks lie.
type Layout struct {
	Partitions       map[string]Partition
	DefaultPartition string // defaultpartition
	MetaFiles        []File // metapartition_files
	Hash             bool   // hashimapspool
	FullHash         bool   // fulldirhash
	LegacyDirs       bool   // mailbox_legacy_dirs: new mailboxes lie by name
	Archive          bool   // archive_enabled
	LockPath         string // mboxname_lockpath
}

// A Database is one of Cyrus's databases: backend and path.
type Database struct {
	Backend string // twoskip, skiplist, flat, quotalegacy, …
	Path    string
}

// Databases are those that a maildrop's life touches.
type Databases struct {
	Mailboxes     Database // mboxlist_db
	Quota         Database // quota_db
	StatusCache   Database // statuscache_db
	UserDeny      Database // userdeny_db
	Annotation    string   // annotation_db's backend
	Seen          string   // seenstate_db's backend
	Conversations string   // conversations_db's backend
	Subscription  string   // subscription_db's backend
}

// Expunge says what becomes of removed messages and mailboxes.
type Expunge struct {
	Mode           ExpungeMode // expunge_mode
	MailboxDelayed bool        // delete_mode: delayed
}

// POP is how Cyrus's pop3d was told to behave.
type POP struct {
	MinPoll      time.Duration // popminpoll; zero: clients may come back at once
	PollPadding  int           // poppollpadding
	ExpireTime   time.Duration // popexpiretime; negative: NEVER. Only advertised
	Timeout      time.Duration // poptimeout, at least ten minutes
	Subfolders   bool          // popsubfolders: user+folder logs in
	UseACL       bool          // popuseacl
	UseIMAPFlags bool          // popuseimapflags
	UIDL         UIDLFormat    // uidl_format
}

// SyncLog says whom to tell of changes, for replication.
type SyncLog struct {
	Enabled  bool
	Channels []string // sync_log_channels
}

// Defaults are the compiled defaults of Cyrus 3.6. What Debian ships in
// imapd.conf differs from them in the namespace, hashing and lock options, so
// the file must be read whenever there is one.
func Defaults() *Config {
	return &Config{
		Umask:          0o077,
		MaxHeaderLines: 1000,
		Names: Names{
			UnixHierarchySep: true,
			AltNamespace:     true,
			UsernameToLower:  true,
			DefaultDomain:    "internal",
			DeletedPrefix:    "DELETED",
		},
		Layout: Layout{Partitions: map[string]Partition{}},
		Databases: Databases{
			Mailboxes:     Database{Backend: "twoskip"},
			Quota:         Database{Backend: "quotalegacy"},
			StatusCache:   Database{Backend: "twoskip"},
			UserDeny:      Database{Backend: "flat"},
			Annotation:    "twoskip",
			Seen:          "twoskip",
			Conversations: "skiplist",
			Subscription:  "flat",
		},
		Expunge: Expunge{Mode: ExpungeDelayed, MailboxDelayed: true},
		POP:     POP{PollPadding: 1, ExpireTime: -24 * time.Hour, Timeout: minTimeout},
	}
}

// minTimeout is what RFC 1939 section 3 asks of an autologout timer.
const minTimeout = 10 * time.Minute

// Complete fills what follows from other fields and refuses what cannot work.
func (c *Config) Complete() error {
	if c.Dir == "" {
		return errors.New("imapdconf: configdirectory is not set")
	}
	for _, d := range []struct {
		path *string
		name string
	}{
		{&c.Layout.LockPath, "lock"},
		{&c.ProcPath, "proc"},
		{&c.LMTPSocket, "socket/lmtp"},
		{&c.IdleSocket, "socket/idle"},
		{&c.Databases.Mailboxes.Path, "mailboxes.db"},
		{&c.Databases.Quota.Path, "quotas.db"},
		{&c.Databases.StatusCache.Path, "statuscache.db"},
		{&c.Databases.UserDeny.Path, "user_deny.db"},
	} {
		if *d.path == "" {
			*d.path = filepath.Join(c.Dir, d.name)
		}
		*d.path = strings.ReplaceAll(*d.path, "{configdirectory}", c.Dir)
	}
	c.POP.Timeout = max(c.POP.Timeout, minTimeout)
	return c.checkPartitions()
}

func (c *Config) checkPartitions() error {
	if !filepath.IsAbs(c.Dir) {
		return fmt.Errorf("imapdconf: configdirectory: %s is not an absolute path", c.Dir)
	}
	parts := c.Layout.Partitions
	if len(parts) == 0 {
		return errors.New("imapdconf: there is no partition-NAME")
	}
	if c.Layout.DefaultPartition == "" && len(parts) == 1 {
		for name := range parts {
			c.Layout.DefaultPartition = name
		}
	}
	if d := c.Layout.DefaultPartition; d != "" && parts[d].Root == "" {
		return fmt.Errorf("imapdconf: defaultpartition: there is no partition-%s", d)
	}
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		p := parts[name]
		if p.Root == "" {
			return fmt.Errorf("imapdconf: there is no partition-%s, though another option names it", name)
		}
		for _, root := range p.roots() {
			if !filepath.IsAbs(root) {
				return fmt.Errorf("imapdconf: partition-%s: %s is not an absolute path", name, root)
			}
		}
	}
	return nil
}

// roots are the partition's directories that are set.
func (p Partition) roots() []string {
	all := append([]string{p.Root, p.Meta, p.Archive}, slices.Sorted(maps.Values(p.MetaDir))...)
	return slices.DeleteFunc(all, func(s string) bool { return s == "" })
}
