package lmtp

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"runtime/debug"
	"strings"

	"github.com/emersion/go-smtp"

	"github.com/kpopd/kpopd/mailstore"
)

// A session is one client's.
type session struct {
	server *Server
	client *smtp.Conn
	conn   *conn
	log    *slog.Logger
	envelope
}

// An envelope is what is known of a message before it comes.
type envelope struct {
	open bool // MAIL was said
	from string
	size int64 // as announced; 0: not
	utf8 bool
	to   []recipient
}

// A recipient is an address that was accepted.
type recipient struct {
	address string // as the client wrote it, without quotes
	mailbox string
}

func (s *Server) newSession(c *smtp.Conn) (smtp.Session, error) {
	raw := c.Conn().(*conn) //nolint:forcetypeassert // listener makes them
	return &session{server: s, client: c, conn: raw, log: s.Log.With("remote", remote(raw), "helo", c.Hostname())}, nil
}

// Mail implements smtp.Session.
func (s *session) Mail(from string, o *smtp.MailOptions) error {
	if s.open {
		// RFC 5321 section 4.1.4: no other MAIL before the transaction's end.
		return &smtp.SMTPError{Code: 503, EnhancedCode: smtp.EnhancedCode{5, 5, 1}, Message: "There is a MAIL FROM command already."}
	}
	if o.Size > s.server.Limits.Message {
		return smtp.ErrDataTooLarge
	}
	s.envelope = envelope{open: true, from: from, size: o.Size, utf8: o.UTF8}
	return nil
}

// Rcpt implements smtp.Session: an address is looked up and its mailbox asked
// whether it takes mail.
func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	named := strings.TrimSuffix(to, noDomain)
	mailbox, err := s.server.Recipient(s.server.working, named)
	if v, ok := s.server.Store.(mailstore.Verifier); ok && err == nil {
		err = v.Accepts(s.server.working, mailbox, s.size)
	}
	if err != nil {
		s.log.Info("recipient refused", "to", named, "mailbox", mailbox, "error", err)
		return answer(err, s.server.OverQuotaRejects)
	}
	s.to = append(s.to, recipient{named, mailbox})
	return nil
}

// Data implements smtp.Session. Nothing is delivered before the message is there
// whole: a connection that breaks off leaves nothing behind.
//
// go-smtp's LMTPSession would have each message go through a goroutine of its own:
// two hand-offs, each of which wakes a thread. So each recipient's answer goes out
// here, as soon as there is one, and go-smtp's own, of which it has one for all, is
// left out (conn.tell).
func (s *session) Data(io.Reader) error {
	r := dataReader{s.conn}
	m, err := hold(io.LimitReader(r, s.server.Limits.Message+1), s.server.TempDir)
	if err == nil && m.size > s.server.Limits.Message {
		m.drop()
		err = smtp.ErrDataTooLarge
	}
	if err != nil {
		s.log.Info("message not taken in", "from", s.from, "error", err)
		_, _ = io.Copy(io.Discard, r) // the rest of it; where that cannot be had, nothing more is read
		if refused := (*smtp.SMTPError)(nil); errors.As(err, &refused) {
			return refused // too large
		}
		return answer(err, s.server.OverQuotaRejects)
	}
	defer m.drop()
	for _, to := range s.to {
		s.conn.tell(to.address, s.attempt(m, to))
	}
	return nil
}

// attempt is deliver and its answer. After a fault, or an answer that did not go out,
// the connection ends, and what recipients are left are not tried: they come again.
func (s *session) attempt(m *held, to recipient) (said error) {
	if s.conn.over {
		s.log.Info("not delivered: the connection ends", "from", s.from, "to", to.address)
		return errFault
	}
	defer func() {
		if value := recover(); value != nil {
			s.server.fault(remote(s.conn), value, debug.Stack())
			s.conn.over, said = true, errFault
		}
	}()
	return answer(s.deliver(m, to), s.server.OverQuotaRejects)
}

func (s *session) deliver(m *held, to recipient) error {
	err := s.server.Store.Deliver(s.server.working, to.mailbox, io.MultiReader(s.trace(to), m.reader()), quotePath(s.from))
	level, what := slog.LevelInfo, "delivered"
	switch {
	case errors.Is(err, mailstore.ErrDamaged):
		level, what = slog.LevelWarn, "not delivered"
	case err != nil:
		what = "not delivered"
	}
	attrs := []any{"from", s.from, "to", to.address, "mailbox", to.mailbox, "octets", m.size}
	if err != nil {
		attrs = append(attrs, "error", err)
	}
	s.log.Log(context.Background(), level, what, attrs...)
	return err
}

// Reset implements smtp.Session.
func (s *session) Reset() {
	s.envelope = envelope{}
}

// Logout implements smtp.Session.
func (s *session) Logout() error { return nil }
