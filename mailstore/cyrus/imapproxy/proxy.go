package imapproxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/emersion/go-imap/utf7"

	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/cyrus"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
)

// Security is how the connection is protected.
type Security int

// The ways.
const (
	StartTLS Security = iota // RFC 3501 section 6.2.1
	TLS                      // from the first octet, RFC 8314
	Clear                    // for a loopback address only
)

// A Proxy is a cyrus.Remover. All fields but Log are needed.
type Proxy struct {
	Address  string // host:port
	Security Security
	TLS      *tls.Config // not with Clear

	// User may act for every user: one of imapd.conf's proxyservers or admins.
	User     string
	Password string

	Names imapdconf.Names // how mailboxes are called
	Log   *slog.Logger    // nil: none
}

var _ cyrus.Remover = (*Proxy)(nil)

// errNo is a refusal that trying again does not change.
var errNo = errors.New("refused")

// Remove implements cyrus.Remover. When the connection fails it is tried once
// more: Cyrus may or may not have done what was asked, and the second time shows
// which. What cannot be removed is left without the mark \Deleted that it has
// been given.
func (p *Proxy) Remove(ctx context.Context, r cyrus.Removal) error {
	var marked []uint32
	err := p.try(ctx, &r, &marked)
	if err != nil && !errors.Is(err, errNo) && ctx.Err() == nil {
		p.log().Warn("removing through Cyrus is tried again", "mailbox", r.Mailbox.Intname(), "error", err)
		err = p.try(ctx, &r, &marked)
	}
	if err != nil && len(marked) > 0 {
		err = errors.Join(err, p.unmark(ctx, &r, marked))
	}
	if err != nil {
		return fmt.Errorf("imapproxy: %w: %s at %s: %w", mailstore.ErrTemporary, r.Mailbox, p.Address, err)
	}
	return nil
}

func (p *Proxy) log() *slog.Logger {
	if p.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return p.Log
}

// try does all of it on one connection. It adds to marked the messages that may
// have got their mark from us.
func (p *Proxy) try(ctx context.Context, r *cyrus.Removal, marked *[]uint32) error {
	s, err := p.open(ctx, r)
	if err != nil {
		return err
	}
	defer s.close()
	there, err := s.find(r.Deleted)
	if err != nil {
		return err
	}
	for _, m := range there {
		if !m.marked {
			*marked = append(*marked, m.UID)
		}
	}
	sets := setsOf(r.Deleted, there)
	for _, set := range sets {
		if err := s.store(set, "+FLAGS.SILENT", `\Deleted`); err != nil {
			return err
		}
	}
	for _, set := range sets {
		if err := s.expunge(set); err != nil {
			return err
		}
	}
	if there, err = s.find(r.Deleted); err != nil {
		return err
	}
	if len(there) > 0 {
		return fmt.Errorf("%w: %d of %d messages are still there after UID EXPUNGE", errNo, len(there), len(r.Deleted))
	}
	*marked = nil
	for _, set := range setsOfUIDs(r.Seen) {
		if err := s.store(set, "+FLAGS.SILENT", `\Seen`); err != nil {
			return err
		}
	}
	return s.logout()
}

// unmarkWait is how long a mark may take to be taken back, after everything
// else.
const unmarkWait = 20 * time.Second

func (p *Proxy) unmark(ctx context.Context, r *cyrus.Removal, marked []uint32) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), unmarkWait)
	defer cancel()
	s, err := p.open(ctx, r)
	if err != nil {
		return fmt.Errorf(`messages keep the mark \Deleted: %w`, err)
	}
	defer s.close()
	for _, set := range setsOfUIDs(marked) {
		if err := s.store(set, "-FLAGS.SILENT", `\Deleted`); err != nil {
			return fmt.Errorf(`messages keep the mark \Deleted: %w`, err)
		}
	}
	return s.logout()
}

// mailboxName is what the mailbox's user calls it.
func (p *Proxy) mailboxName(n imapdconf.Name) (string, error) {
	if !n.IsUser() {
		return "", fmt.Errorf("%w: %s is nobody's own", errNo, n)
	}
	folder := n.Parts[2:]
	if len(folder) == 0 {
		return "INBOX", nil
	}
	if !p.Names.AltNamespace {
		folder = append([]string{"INBOX"}, folder...)
	}
	// On disk names are in modified UTF-7; the client encodes them so itself.
	name, err := utf7.Encoding.NewDecoder().String(strings.Join(folder, p.Names.Separator()))
	if err != nil {
		return "", fmt.Errorf("%w: %s: %w", errNo, n, err)
	}
	return name, nil
}
