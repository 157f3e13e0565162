package imapproxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/cyrus"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
)

var _ cyrus.Changer = (*Proxy)(nil)

// Create implements cyrus.Changer.
func (p *Proxy) Create(ctx context.Context, mailbox imapdconf.Name) error {
	name, err := p.mailboxName(mailbox)
	if err != nil {
		return err
	}
	return p.forUser(ctx, mailbox, 0, func(s *session) error { return s.client.Create(name) })
}

// Rename implements cyrus.Changer; Cyrus renames what is below with it.
func (p *Proxy) Rename(ctx context.Context, from, to imapdconf.Name) error {
	old, err := p.mailboxName(from)
	if err != nil {
		return err
	}
	name, err := p.mailboxName(to)
	if err != nil {
		return err
	}
	return p.forUser(ctx, from, 0, func(s *session) error { return s.client.Rename(old, name) })
}

// Append implements cyrus.Changer.
func (p *Proxy) Append(ctx context.Context, mailbox imapdconf.Name, message []byte) error {
	name, err := p.mailboxName(mailbox)
	if err != nil {
		return err
	}
	return p.forUser(ctx, mailbox, 0, func(s *session) error {
		return s.client.Append(name, nil, time.Time{}, bytes.NewBuffer(message))
	})
}

// Copy implements cyrus.Changer.
func (p *Proxy) Copy(ctx context.Context, from imapdconf.Name, uidValidity uint32, messages []cyrus.Removed, to imapdconf.Name) error {
	source, err := p.mailboxName(from)
	if err != nil {
		return err
	}
	target, err := p.mailboxName(to)
	if err != nil {
		return err
	}
	return p.forUser(ctx, from, len(messages), func(s *session) error {
		if err := s.sel(source, uidValidity); err != nil {
			return err
		}
		there, err := s.find(messages)
		if err != nil {
			return err
		}
		if len(there) != len(messages) {
			return fmt.Errorf("%w: %d of %d messages are there", mailstore.ErrGone, len(there), len(messages))
		}
		uids := make([]uint32, len(messages))
		for i := range messages {
			uids[i] = messages[i].UID
		}
		sets := setsOfUIDs(uids)
		if len(sets) > 1 {
			return fmt.Errorf("%w: too many messages for one command", errNo) // two would not be all or nothing
		}
		return s.client.UidCopy(sets[0], target)
	})
}

// forUser does something on a connection for the mailbox's user, with answers of
// about so many messages.
func (p *Proxy) forUser(ctx context.Context, mailbox imapdconf.Name, messages int, do func(*session) error) error {
	c, err := p.connect(ctx, int64(messages)*octetsAMessage+octetsAtLeast)
	if err != nil {
		return fmt.Errorf("imapproxy: %w: %s: %w", mailstore.ErrTemporary, p.Address, err)
	}
	s := &session{c}
	defer s.close()
	if err = p.login(c, mailbox.Userid()); err == nil {
		err = do(s)
	}
	if err != nil {
		return fmt.Errorf("imapproxy: %s at %s: %w", mailbox, p.Address, meaning(err))
	}
	return s.logout()
}

// meaning gives Cyrus's refusals those of mailstore. The client keeps nothing of
// a NO but its words, which are those of Cyrus 2.4 to 3.6.
func meaning(err error) error {
	if errors.Is(err, mailstore.ErrGone) {
		return err
	}
	text := strings.ToLower(err.Error())
	for _, known := range []struct {
		words string
		is    error
	}{
		{"over quota", mailstore.ErrOverQuota},
		{"mailbox does not exist", mailstore.ErrNoFolder},
		{"mailbox already exists", mailstore.ErrFolderExists},
		{"invalid mailbox name", mailstore.ErrFolderName},
		{"message contains", mailstore.ErrMessage}, // NUL characters, bare newlines, an invalid header
		{"permission denied", mailstore.ErrReadOnly},
	} {
		if strings.Contains(text, known.words) {
			return fmt.Errorf("%w: %w", known.is, err)
		}
	}
	return fmt.Errorf("%w: %w", mailstore.ErrTemporary, err)
}
