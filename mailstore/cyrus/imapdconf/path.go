package imapdconf

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A Mailbox is what decides where a mailbox's files lie: its entry in
// mailboxes.db, in short.
type Mailbox struct {
	Name      Name
	UniqueID  string
	Partition string
	// Legacy: it lies by its name. True for every mailbox of Cyrus 3.4 and
	// before, and for type flag "l" since.
	Legacy bool
}

// ErrPartition is a mailbox on a partition that imapd.conf does not name.
var ErrPartition = errors.New("imapdconf: no such partition")

// fileName is the name in a mailbox directory.
func (f File) fileName() string {
	switch f {
	case HeaderFile:
		return "cyrus.header"
	case IndexFile:
		return "cyrus.index"
	case CacheFile, ArchiveCacheFile:
		return "cyrus.cache"
	case ExpungeFile:
		return "cyrus.expunge"
	case SquatFile:
		return "cyrus.squat"
	case AnnotationsFile:
		return "cyrus.annotations"
	case DAVFile:
		return "cyrus.dav"
	case LockFile:
		return "cyrus.lock"
	}
	return ""
}

// HashChar is the letter of a hash directory: the first one of s in lower
// case, or one of A to W from the whole of s up to its first dot.
func HashChar(s string, full bool) byte {
	if full {
		n := uint32(0)
		for i := 0; i < len(s) && s[i] != '.'; i++ {
			n = n<<3 ^ n>>5 ^ uint32(s[i])
		}
		return 'A' + byte(n%23)
	}
	if s != "" {
		if c := s[0] | 0x20; 'a' <= c && c <= 'z' {
			return c
		}
	}
	return 'q'
}

// Path is the path of one of the mailbox's cyrus.* files.
func (c *Config) Path(m Mailbox, f File) (string, error) {
	dir, err := c.Directory(m, f)
	if err != nil {
		return "", err
	}
	return dir + "/" + f.fileName(), nil
}

// MessagePath is the path of the message's file; archived ones (record flag
// ARCHIVED) lie under the archive root.
func (c *Config) MessagePath(m Mailbox, uid uint32, archived bool) (string, error) {
	file := MessageFile
	if archived {
		file = ArchivedFile
	}
	dir, err := c.Directory(m, file)
	if err != nil {
		return "", err
	}
	return string(AppendMessageName(append([]byte(dir), '/'), uid)), nil
}

// AppendMessageName appends the name of a message file in its directory.
func AppendMessageName(dst []byte, uid uint32) []byte {
	return append(strconv.AppendUint(dst, uint64(uid), 10), '.')
}

// Directory is the directory where that kind of the mailbox's files lies.
func (c *Config) Directory(m Mailbox, f File) (string, error) {
	root, err := c.root(m.Partition, f)
	if err != nil {
		return "", err
	}
	if m.Legacy {
		if err := m.Name.checkWhole(); err != nil {
			return "", err
		}
		return c.hashPath(root, m.Name.Domain, m.Name.Parts), nil
	}
	if err := checkUniqueID(m.UniqueID); err != nil {
		return "", err
	}
	return root + "/" + uuidPath(m.UniqueID), nil
}

// root is the partition's root for one kind of file.
func (c *Config) root(partition string, f File) (string, error) {
	p, ok := c.Layout.Partitions[partition]
	if !ok {
		return "", fmt.Errorf("%w: partition-%s", ErrPartition, partition)
	}
	archived := f == ArchiveCacheFile || f == ArchivedFile
	switch meta := f != MessageFile && f != ArchivedFile; {
	case meta && p.MetaDir[metaDirOf(f)] != "":
		return p.MetaDir[metaDirOf(f)], nil
	case meta && p.Meta != "" && slices.Contains(c.Layout.MetaFiles, f):
		return p.Meta, nil
	case archived && p.Archive != "":
		return p.Archive, nil
	}
	return p.Root, nil
}

// metaDirOf is the file whose metadir-FILE-NAME tells where f lies: there is none
// for annotations, they go with the index.
func metaDirOf(f File) File {
	if f == AnnotationsFile {
		return IndexFile
	}
	return f
}

func uuidPath(id string) string {
	return "uuid/" + id[:1] + "/" + id[1:2] + "/" + id
}

// checkUniqueID keeps an id from the disk from leading anywhere else. Cyrus's
// own are of letters, digits and "-".
func checkUniqueID(id string) error {
	if len(id) < 2 || len(id) > 64 {
		return fmt.Errorf("%w: uniqueid %q", ErrName, id)
	}
	for i := range len(id) {
		if !isAlnum(id[i]) && (id[i] != '-' || i < 2) {
			return fmt.Errorf("%w: uniqueid %q", ErrName, id)
		}
	}
	return nil
}

// hashPath is Cyrus's mboxname_hash.
func (c *Config) hashPath(root, domain string, parts []string) string {
	var b strings.Builder
	b.WriteString(root)
	if domain != "" {
		b.WriteString("/domain/")
		if c.Layout.Hash {
			b.WriteByte(HashChar(domain, c.Layout.FullHash))
			b.WriteByte('/')
		}
		b.WriteString(domain)
	}
	if c.Layout.Hash {
		// The user, or the top of a shared mailbox.
		b.WriteByte('/')
		b.WriteByte(HashChar(parts[min(1, len(parts)-1)], c.Layout.FullHash))
	}
	for _, p := range parts {
		b.WriteByte('/')
		writeEscaped(&b, p)
	}
	return b.String()
}

// NamespaceLock is the lock file of all that belongs to the mailbox's user,
// since Cyrus 3.4; empty for a shared mailbox, which has none.
func (c *Config) NamespaceLock(n Name) (string, error) {
	if !n.IsUser() {
		return "", nil
	}
	if err := n.checkWhole(); err != nil {
		return "", err
	}
	return c.hashPath(c.Layout.LockPath, "", []string{"*U*" + n.Userid()}) + ".lock", nil
}

// MailboxLock is the lock file that keeps the mailbox's index from being
// replaced.
func (c *Config) MailboxLock(m Mailbox) (string, error) {
	if m.Legacy {
		if err := m.Name.checkWhole(); err != nil {
			return "", err
		}
		return c.hashPath(c.Layout.LockPath, m.Name.Domain, m.Name.Parts) + ".lock", nil
	}
	if err := checkUniqueID(m.UniqueID); err != nil {
		return "", err
	}
	return c.hashPath(c.Layout.LockPath, "", []string{m.UniqueID}) + ".lock", nil
}

// checkWhole is check for a Name that may have been put together by hand.
func (n Name) checkWhole() error {
	if len(n.Parts) == 0 {
		return fmt.Errorf("%w: empty", ErrName)
	}
	return n.check()
}

// UserFile is one of the files kept for each user, such as "seen.db" or
// "counters.db"; inbox is the user's INBOX. Where mailboxes lie by name the
// same file is called <user>.seen, <user>.counters.
func (c *Config) UserFile(inbox Mailbox, file string) (string, error) {
	if !inbox.Name.IsInbox() {
		return "", fmt.Errorf("%w: %s is not an INBOX", ErrName, inbox.Name)
	}
	if !inbox.Legacy {
		if err := checkUniqueID(inbox.UniqueID); err != nil {
			return "", err
		}
		return c.Dir + "/user/" + uuidPath(inbox.UniqueID) + "/" + file, nil
	}
	if err := inbox.Name.checkWhole(); err != nil {
		return "", err
	}
	// The hash directory is there even when hashimapspool is off, and the
	// user's dots stay dots.
	local := inbox.Name.Parts[1]
	return c.domainDir(c.Dir, inbox.Name.Domain) + "/user/" + string(HashChar(local, c.Layout.FullHash)) +
		"/" + local + "." + strings.TrimSuffix(file, ".db"), nil
}

func (c *Config) domainDir(root, domain string) string {
	if domain == "" {
		return root
	}
	return root + "/domain/" + string(HashChar(domain, c.Layout.FullHash)) + "/" + domain
}

// A QuotaRoot is a place where a quota may be set: a mailbox, or a domain
// when Parts is empty.
type QuotaRoot Name

// String is the quota root as cyrus.header names it.
func (q QuotaRoot) String() string { return Name(q).Intname() }

// ParseQuotaRoot reads the quota root of a cyrus.header.
func ParseQuotaRoot(s string) (QuotaRoot, error) {
	if domain, found := strings.CutSuffix(s, "!"); found {
		if domain == "" || checkDomain(domain) != nil {
			return QuotaRoot{}, fmt.Errorf("%w: quota root %q", ErrName, s)
		}
		return QuotaRoot{Domain: domain}, nil
	}
	n, err := ParseIntname(s)
	return QuotaRoot(n), err
}

// QuotaRoots are the roots that may cover the mailbox, the nearest first. The
// first whose file exists is its quota root.
func QuotaRoots(n Name) []QuotaRoot {
	var roots []QuotaRoot
	for i := len(n.Parts); i > 0; i-- {
		if i == 1 && n.IsUser() {
			break // "user" is no mailbox
		}
		roots = append(roots, QuotaRoot{Domain: n.Domain, Parts: n.Parts[:i:i]})
	}
	if n.Domain != "" {
		roots = append(roots, QuotaRoot{Domain: n.Domain})
	}
	return roots
}

// QuotaPath is the file of a quota root when quota_db is quotalegacy.
func (c *Config) QuotaPath(q QuotaRoot) (string, error) {
	if err := checkDomain(q.Domain); err != nil {
		return "", err
	}
	// Cyrus takes the directory of quota_db_path and puts "quota" there.
	dir := c.domainDir(path.Dir(c.Databases.Quota.Path), q.Domain) + "/quota/"
	if len(q.Parts) == 0 {
		if q.Domain == "" {
			return "", fmt.Errorf("%w: an empty quota root", ErrName)
		}
		return dir + "root", nil
	}
	if err := Name(q).checkWhole(); err != nil {
		return "", err
	}
	local := Name{Parts: q.Parts}.Intname()
	_, hashed, found := strings.Cut(local, ".")
	if !found {
		hashed = local
	}
	return dir + string(HashChar(hashed, c.Layout.FullHash)) + "/" + local, nil
}

// SyncLogs are the files that name changed mailboxes for replication; none
// when sync_log is off.
func (c *Config) SyncLogs() []string {
	if !c.SyncLog.Enabled {
		return nil
	}
	if len(c.SyncLog.Channels) == 0 {
		return []string{filepath.Join(c.Dir, "sync", "log")}
	}
	paths := make([]string, 0, len(c.SyncLog.Channels))
	for _, channel := range c.SyncLog.Channels {
		switch {
		case channel == `""`:
			channel = ""
		case checkPart(channel) != nil:
			continue // told by Unsupported
		}
		paths = append(paths, filepath.Join(c.Dir, "sync", channel, "log"))
	}
	return paths
}

// Shutdowns are the files whose first line, when one of them exists, is why
// Cyrus refuses sessions: for all services and for pop3.
func (c *Config) Shutdowns() []string {
	return []string{filepath.Join(c.Dir, "msg", "shutdown"), filepath.Join(c.Dir, "msg", "shutdown.pop3")}
}
