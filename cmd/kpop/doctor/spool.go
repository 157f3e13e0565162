package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"

	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/cyrus/cyrusdb"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
)

// spool examines what imapd.conf says, who may open it, and one mailbox.
func (s *Site) spool(ctx context.Context, r *Report, who account) {
	out, conf := r.section("spool"), s.Spool.Config
	if s.Spool.Error != nil {
		out.wrong("mend imapd.conf or what it names", "the spool cannot be served: %v", s.Spool.Error)
	}
	if conf == nil {
		return
	}
	for _, option := range conf.Unsupported() {
		out.warn("change it in imapd.conf, or do not let kpopd change mailboxes: spool.mode = \"readonly\"", "%s", option)
	}
	s.permissions(out, who)
	if s.Spool.Check == nil {
		return
	}
	mailbox, err := s.sample(ctx)
	switch {
	case err != nil:
		out.wrong("name imapd.conf's own with spool.imapd_conf; ctl_mboxlist -d reads it as Cyrus does", "mailboxes.db cannot be read: %v", err)
	case mailbox == "":
		out.warn("cm user.NAME in cyradm, or kpop spool create NAME, makes one", "there is no user's mailbox yet")
	default:
		s.mailbox(ctx, out, mailbox)
	}
}

// permissions looks at what kpopd must read and write.
func (s *Site) permissions(out section, who account) {
	conf := s.Spool.Config
	dirs := map[string]string{"state_dir": s.StateDir, "configdirectory": conf.Dir}
	for name, p := range conf.Layout.Partitions {
		dirs["partition-"+name] = p.Root
	}
	good := 0
	for _, key := range slices.Sorted(maps.Keys(dirs)) {
		dir := dirs[key]
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			out.wrong(fmt.Sprintf("install -d -o %s -m 700 %s; then restart kpopd, which does not see it before", who.name, dir), "%s: %s is not there", key, dir)
			continue
		}
		if why := who.refused(dir, toRead|toWrite|toSearch); why != "" {
			out.wrong(fmt.Sprintf("run kpopd as the spool's owner (user = %q), or chown -R %s %s", owner(dir), who.name, dir),
				"user %s cannot use %s: %s", who.name, key, why)
			continue
		}
		good++
	}
	if good == len(dirs) {
		out.ok("user %s can read and write %d directories of the spool", who.name, good)
	}
}

// owner names whom a directory belongs to; nothing when it is not there.
func owner(dir string) string {
	if uid, ok := ownerOf(dir); ok {
		return userName(uid)
	}
	return ""
}

// sample is the mailbox to look at: the named one, or the first user's.
func (s *Site) sample(ctx context.Context) (string, error) {
	if s.Spool.Mailbox != "" {
		return s.Spool.Mailbox, nil
	}
	found, errEnough := "", errors.New("enough")
	list := cyrusdb.MailboxList{Database: s.Spool.Config.Databases.Mailboxes}
	err := list.All(ctx, func(e cyrusdb.MailboxEntry) error {
		if ok, _ := e.Serves(s.Spool.Config.ServerName); ok && e.Name.IsInbox() {
			found = e.Name.Userid()
			return errEnough
		}
		return nil
	}, func(string, error) error { return nil })
	if errors.Is(err, errEnough) || errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return found, err
}

// mailbox examines one mailbox under Cyrus's locks, and says when they cannot be
// had.
func (s *Site) mailbox(ctx context.Context, out section, mailbox string) {
	ctx, cancel := context.WithTimeout(ctx, questionTime)
	defer cancel()
	faults, err := s.Spool.Check(ctx, mailbox)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		out.wrong("fuser -v "+s.lockPath(mailbox)+" shows which program it is", "the mailbox of %s is locked, and its holder does not let go", mailbox)
	case errors.Is(err, mailstore.ErrUnknown):
		out.wrong("list the mailboxes: ctl_mboxlist -d", "user %s has no mailbox", mailbox)
	case err != nil:
		out.wrong("reconstruct user."+mailbox+" mends damage; permissions are above", "the mailbox of %s cannot be opened: %v", mailbox, err)
	case len(faults) > 0:
		out.wrong("reconstruct user."+mailbox, "the mailbox of %s has %d faults, the first: %s", mailbox, len(faults), faults[0])
	default:
		out.ok("the mailbox of %s was locked, read whole and is sound", mailbox)
	}
}

func (s *Site) lockPath(mailbox string) string {
	name, err := s.Spool.Config.Names.ParseUserid(mailbox)
	if err != nil {
		return "LOCKFILE"
	}
	path, err := s.Spool.Config.MailboxLock(imapdconf.Mailbox{Name: name, Partition: s.Spool.Config.Layout.DefaultPartition})
	if err != nil {
		return "LOCKFILE"
	}
	return path
}
