package cyrus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/cyrus/cyrusdb"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
	"github.com/kpopd/kpopd/mailstore/cyrus/ofd"
)

// maxNotice is how much of a shutdown file is read.
const maxNotice = 1024

// admits tells whether the administrator lets sessions begin: Cyrus's
// shutdown files and user_deny.db.
func (s *Store) admits(ctx context.Context, name imapdconf.Name) error {
	for _, path := range s.conf.Shutdowns() {
		f, err := ofd.Open(path, os.O_RDONLY, 0)
		if err != nil {
			continue // not there, as nearly always
		}
		b, err := io.ReadAll(io.NewSectionReader(f, 0, maxNotice))
		f.Close()
		if err != nil {
			return fmt.Errorf("cyrus: %w: %w", mailstore.ErrTemporary, err)
		}
		line, _, _ := bytes.Cut(b, []byte("\n"))
		return fmt.Errorf("cyrus: %w: %s says %q", mailstore.ErrTemporary, path, line)
	}
	return s.denied(ctx, name.Userid())
}

// denied looks a user up in user_deny.db: version TAB services TAB message.
func (s *Store) denied(ctx context.Context, userid string) error {
	if userid == "" {
		return nil
	}
	err := cyrusdb.View(ctx, s.conf.Databases.UserDeny, func(r cyrusdb.Reader) error {
		value, found, err := r.Get([]byte(userid))
		if err != nil || !found {
			return err
		}
		fields := strings.SplitN(string(value), "\t", 3)
		if len(fields) < 2 || serviceListed(fields[1]) {
			return fmt.Errorf("cyrus: %w: denied by user_deny.db: %q", mailstore.ErrTemporary, value)
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return told(err)
}

// serviceListed matches the list of patterns against our service; the first
// pattern that matches decides, and "!" in front of it negates.
//
// Client: Cyrus's manual names RFC 3977, whose last match decides; its daemons, of
// 3.6 and after, take the first.
func serviceListed(list string) bool {
	for pattern := range strings.SplitSeq(list, ",") {
		pattern, negated := strings.CutPrefix(strings.TrimSpace(pattern), "!")
		if ok, err := path.Match(pattern, "pop3"); ok || err != nil {
			return !negated
		}
	}
	return false
}

// mayLogin applies popuseacl: reading needs the right r.
func (s *Store) mayLogin(m *mailbox) error {
	if s.conf.POP.UseACL && !strings.Contains(rights(&m.entry), "r") {
		return fmt.Errorf("cyrus: %w: %s: its owner lacks the right r", mailstore.ErrUnknown, m.place.Name)
	}
	return nil
}

// mayDelete applies popuseacl to DELE; nil: it may be said.
func (s *Store) mayDelete(m *mailbox) error {
	if s.conf.POP.UseACL && !strings.Contains(rights(&m.entry), "t") {
		return fmt.Errorf("cyrus: %w: %s: its owner lacks the right t", mailstore.ErrReadOnly, m.place.Name)
	}
	return nil
}

// rights are what the mailbox's own user has on it.
func rights(e *cyrusdb.MailboxEntry) string {
	user := e.Name.Userid()
	has := rightsOf(e, user) + rightsOf(e, "anyone")
	hasNot := rightsOf(e, "-"+user) + rightsOf(e, "-anyone")
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(hasNot, r) {
			return -1
		}
		return r
	}, has)
}

// rightsOf are the rights of one identifier in the letters of RFC 4314. The d of
// RFC 2086 stands for t and e only where neither is said: Cyrus writes it behind
// either of them.
func rightsOf(e *cyrusdb.MailboxEntry, identifier string) string {
	has := e.RightsOf(identifier)
	if strings.Contains(has, "d") && !strings.ContainsAny(has, "te") {
		has += "te"
	}
	return has
}
