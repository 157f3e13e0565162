package imapdconf

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Limits of a configuration that is a configuration and not an accident.
const (
	maxFileSize = 1 << 20
	maxIncludes = 64
)

// service is the name by which cyrus.conf calls pop3d: an option written
// pop3_NAME holds for it alone and wins over NAME.
const service = "pop3_"

// Read reads an imapd.conf and the files it includes. Faults are told with
// file and line; options it does not know are Cyrus's own affair.
func Read(path string) (*Config, error) { return ReadWith(path, nil) }

// ReadWith is Read with options that win over the file's. An empty path reads no
// file: a site without Cyrus. Among these options one that is not known is a
// fault, since nobody else reads them.
func ReadWith(path string, options map[string]string) (*Config, error) {
	c := Defaults()
	c.other = map[string]string{}
	r := reader{config: c, fields: c.fields(), seen: map[string]bool{}, files: map[string]bool{}}
	if path != "" {
		if err := r.file(path); err != nil {
			return nil, fmt.Errorf("imapdconf: %w", err)
		}
	}
	r.seen = map[string]bool{} // given twice is meant here
	for _, name := range slices.Sorted(maps.Keys(options)) {
		if err := r.override(strings.ToLower(name), options[name]); err != nil {
			return nil, fmt.Errorf("imapdconf: option %s: %w", name, err)
		}
	}
	if err := c.Complete(); err != nil {
		if path == "" {
			return nil, err
		}
		return nil, fmt.Errorf("%w (%s)", err, path)
	}
	return c, nil
}

// override takes an option that is not from the file.
func (r *reader) override(name, value string) error {
	if !validOption(name) || name[0] == '@' {
		return errors.New("not an option's name")
	}
	bare := strings.TrimPrefix(name, service)
	if _, known := r.fields[bare]; !known && !isPartitionOption(bare) {
		return errors.New("kpopd has no use for it; see docs/spool.md for the options there are")
	}
	if value == "" || strings.ContainsAny(value, "\x00\r\n") {
		return errors.New("empty, or more than a line")
	}
	return r.option(name, value)
}

type reader struct {
	config *Config
	fields map[string]any
	seen   map[string]bool // options already given, "pop3_" ones under their full name
	files  map[string]bool // files already read: Cyrus refuses a second time
}

func (r *reader) file(path string) error {
	if r.files[path] {
		return fmt.Errorf("%s is included twice", path)
	}
	if len(r.files) == maxIncludes {
		return fmt.Errorf("%s: more than %d files are included", path, maxIncludes)
	}
	r.files[path] = true
	data, err := readLimited(path)
	if err != nil {
		return err
	}
	return eachLine(data, func(line int, text string) error {
		if err := r.line(text); err != nil {
			return fmt.Errorf("%s:%d: %w", path, line, err)
		}
		return nil
	})
}

func readLimited(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFileSize {
		return nil, fmt.Errorf("%s: larger than %d octets", path, maxFileSize)
	}
	return data, nil
}

// eachLine calls do for every line; one that ends in a backslash goes on with
// the next, as in Cyrus.
func eachLine(data []byte, do func(line int, text string) error) error {
	s := bufio.NewScanner(bytes.NewReader(data))
	s.Buffer(nil, maxFileSize+1)
	text := ""
	for line := 1; s.Scan(); line++ {
		part, more := strings.CutSuffix(s.Text(), `\`)
		if text += part; more {
			continue
		}
		if err := do(line, text); err != nil {
			return err
		}
		text = ""
	}
	if err := s.Err(); err != nil || text == "" {
		return err
	}
	return errors.New("the last line ends in a backslash")
}

func (r *reader) line(text string) error {
	text = strings.TrimSpace(text)
	if text == "" || text[0] == '#' {
		return nil
	}
	key, value, found := strings.Cut(text, ":")
	key, value = strings.ToLower(key), strings.TrimSpace(value)
	if !found || !validOption(key) {
		return fmt.Errorf("%q is not an option's name followed by a colon", key)
	}
	if value == "" {
		return fmt.Errorf("%s: empty value", key)
	}
	if strings.IndexByte(value, 0) >= 0 {
		return fmt.Errorf("%s: the value holds a NUL", key)
	}
	if key == "@include" {
		return r.file(value)
	}
	if key[0] == '@' {
		return fmt.Errorf("%s is not a directive", key)
	}
	if err := r.option(key, value); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

func validOption(key string) bool {
	name := strings.TrimPrefix(key, "@")
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return name != ""
}

func (r *reader) option(key, value string) error {
	name, ours := strings.CutPrefix(key, service)
	if _, known := r.fields[name]; !known && !isPartitionOption(name) {
		r.config.other[name] = value
		return nil
	}
	if r.seen[key] {
		return errors.New("given twice")
	}
	r.seen[key] = true
	if !ours && r.seen[service+name] {
		return nil // the service's own value has been read already
	}
	if target, ok := r.fields[name]; ok {
		return assign(target, value)
	}
	return r.config.Layout.setRoot(name, value)
}

// fields are the options that have a field, by name.
func (c *Config) fields() map[string]any {
	l, d, n, p := &c.Layout, &c.Databases, &c.Names, &c.POP
	return map[string]any{
		"configdirectory": &c.Dir, "servername": &c.ServerName, "admins": &c.Admins,
		"proc_path": &c.ProcPath, "lmtpsocket": &c.LMTPSocket, "idlesocket": &c.IdleSocket,
		"conversations": &c.Conversations, "statuscache": &c.StatusCache, "readonly": &c.ReadOnly,
		"maxheaderlines": &c.MaxHeaderLines, "umask": c.setUmask,
		"sync_log": &c.SyncLog.Enabled, "sync_log_channels": &c.SyncLog.Channels,
		"expunge_mode": &c.Expunge.Mode, "delete_mode": c.setDeleteMode,

		"unixhierarchysep": &n.UnixHierarchySep, "altnamespace": &n.AltNamespace,
		"virtdomains": &n.VirtDomains, "defaultdomain": &n.DefaultDomain,
		"username_tolower": &n.UsernameToLower, "deletedprefix": &n.DeletedPrefix,

		"defaultpartition": &l.DefaultPartition, "metapartition_files": &l.MetaFiles,
		"hashimapspool": &l.Hash, "fulldirhash": &l.FullHash, "mailbox_legacy_dirs": &l.LegacyDirs,
		"archive_enabled": &l.Archive, "mboxname_lockpath": &l.LockPath,

		"mboxlist_db": &d.Mailboxes.Backend, "mboxlist_db_path": &d.Mailboxes.Path,
		"quota_db": &d.Quota.Backend, "quota_db_path": &d.Quota.Path,
		"statuscache_db": &d.StatusCache.Backend, "statuscache_db_path": &d.StatusCache.Path,
		"userdeny_db": &d.UserDeny.Backend, "userdeny_db_path": &d.UserDeny.Path,
		"annotation_db": &d.Annotation, "seenstate_db": &d.Seen,
		"conversations_db": &d.Conversations, "subscription_db": &d.Subscription,

		"popminpoll": span{&p.MinPoll, time.Minute}, "poppollpadding": &p.PollPadding,
		"popexpiretime": span{&p.ExpireTime, 24 * time.Hour}, "poptimeout": span{&p.Timeout, time.Minute},
		"popsubfolders": &p.Subfolders, "popuseacl": &p.UseACL, "popuseimapflags": &p.UseIMAPFlags,
		"uidl_format": &p.UIDL,
	}
}

func (c *Config) setUmask(v string) error {
	n, err := strconv.ParseUint(v, 8, 9)
	if err != nil {
		return fmt.Errorf("%q is not an octal mask", v)
	}
	c.Umask = fs.FileMode(n)
	return nil
}

func (c *Config) setDeleteMode(v string) error {
	if v != "immediate" && v != "delayed" {
		return fmt.Errorf("%q is neither immediate nor delayed", v)
	}
	c.Expunge.MailboxDelayed = v == "delayed"
	return nil
}

func isPartitionOption(name string) bool {
	kind, rest, _ := strings.Cut(name, "-")
	switch kind {
	case "partition", "metapartition", "archivepartition", "metadir":
		return rest != ""
	}
	return false
}

// setRoot stores one of the open-ended options that name a partition.
func (l *Layout) setRoot(name, value string) error {
	kind, part, _ := strings.Cut(name, "-")
	var file File
	if kind == "metadir" {
		word, p, found := strings.Cut(part, "-")
		f, ok := fileWords()[word]
		if !found || !ok {
			return fmt.Errorf("%q is not metadir-FILE-NAME", name)
		}
		file, part = f, p
	}
	p := l.Partitions[part]
	switch kind {
	case "partition":
		p.Root = value
	case "metapartition":
		p.Meta = value
	case "archivepartition":
		p.Archive = value
	case "metadir":
		if p.MetaDir == nil {
			p.MetaDir = map[File]string{}
		}
		p.MetaDir[file] = value
	}
	l.Partitions[part] = p
	return nil
}
