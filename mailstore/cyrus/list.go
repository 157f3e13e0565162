package cyrus

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/kpopd/kpopd/mailstore/cyrus/cyrusdb"
)

// Mailboxes lists the login names of all users' mailboxes here, in the order of
// mailboxes.db; folders too, as user+folder, under popsubfolders.
func (s *Store) Mailboxes(ctx context.Context) ([]string, error) {
	var list []string
	err := cyrusdb.MailboxList{Database: s.conf.Databases.Mailboxes}.All(ctx, func(e cyrusdb.MailboxEntry) error {
		ok, _ := e.Serves(s.conf.ServerName)
		if ok && (e.Name.IsInbox() || e.Name.IsUser() && s.conf.POP.Subfolders) {
			list = append(list, s.conf.Names.Login(e.Name))
		}
		return nil
	}, func(key string, err error) error {
		s.log.Warn("entry of mailboxes.db passed over", "key", key, "error", err)
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // nobody has a mailbox yet
	}
	return list, told(err)
}

// A Summary is what the head of an index says.
type Summary struct {
	Login     string    `json:"login"`
	Messages  uint64    `json:"messages"`
	Octets    uint64    `json:"octets"`              // of their files
	Expunged  uint64    `json:"expunged"`            // removed, and not dropped yet
	Version   uint64    `json:"version"`             // of the index
	LastLogin time.Time `json:"last_login,omitzero"` // by POP; zero: never
	Arrived   time.Time `json:"arrived,omitzero"`    // the latest message; zero: none ever
}

// Summary reads the head of a mailbox's index.
func (s *Store) Summary(ctx context.Context, mailbox string) (Summary, error) {
	name, err := s.name(mailbox)
	if err != nil {
		return Summary{}, err
	}
	m, err := s.lockMailbox(ctx, name, toRead)
	if err != nil {
		return Summary{}, err
	}
	defer m.release()
	x, err := m.readIndex()
	if err != nil {
		return Summary{}, err
	}
	h := &x.header
	return Summary{
		Login: mailbox, Messages: h.Exists, Octets: h.QuotaUsed, Expunged: h.Records - min(h.Exists, h.Records), Version: h.Minor,
		LastLogin: when(h.LastLogin), Arrived: when(h.LastAppend),
	}, nil
}

// when is a time of the index; 0 is the zero time.
func when(seconds uint64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(int64(seconds), 0)
}

// Quota gives the quota root that covers a mailbox and what its file says; an
// empty root: there is none.
func (s *Store) Quota(ctx context.Context, mailbox string) (root string, q cyrusdb.Quota, err error) {
	name, err := s.name(mailbox)
	if err != nil {
		return "", q, err
	}
	m, err := s.begin(ctx, name, toRead)
	if err != nil {
		return "", q, err
	}
	defer m.release()
	if root, err = s.quotaRootOf(name); err != nil || root == "" {
		return "", q, told(err)
	}
	path, err := m.quotaPath(root)
	if err != nil {
		return "", q, err
	}
	q, err = cyrusdb.ReadQuota(ctx, path)
	return root, q, told(err)
}

// Expirable tells what Expire would do.
func (s *Store) Expirable(ctx context.Context, mailbox string, retention time.Duration) (Expired, error) {
	name, err := s.name(mailbox)
	if err != nil {
		return Expired{}, err
	}
	m, err := s.lockMailbox(ctx, name, toRead)
	if err != nil {
		return Expired{}, err
	}
	defer m.release()
	x, err := m.readIndex()
	if err != nil {
		return Expired{}, err
	}
	e := &expiry{change: &change{m: m, x: x}, before: uint64(s.now().Add(-retention).Unix())}
	if err := e.choose(); err != nil {
		return Expired{}, told(err)
	}
	for i := range e.drop {
		e.done.Messages++
		e.done.Octets += int64(e.drop[i].Size)
	}
	return e.done, nil
}
