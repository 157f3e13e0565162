package lmtp

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"

	"github.com/emersion/go-smtp"

	"github.com/kpopd/kpopd/mailstore"
)

// A session is one client's. With BDAT a message is taken in beside the reading
// of commands, and RSET may come meanwhile: hence the lock.
type session struct {
	server *Server
	client *smtp.Conn
	conn   *conn
	log    *slog.Logger

	mu sync.Mutex
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
	s.mu.Lock()
	defer s.mu.Unlock()
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
	s.mu.Lock()
	defer s.mu.Unlock()
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
func (s *session) Data(r io.Reader) error {
	s.mu.Lock()
	e := s.envelope // RSET may have made it empty
	s.mu.Unlock()
	r = s.conn.message(r)
	m, err := hold(io.LimitReader(r, s.server.Limits.Message+1), s.server.TempDir)
	if err == nil && m.size > s.server.Limits.Message {
		m.drop()
		err = smtp.ErrDataTooLarge
	}
	if err != nil {
		s.log.Info("message not taken in", "from", e.from, "error", err)
		takeRest(r, err)
		if refused := (*smtp.SMTPError)(nil); errors.As(err, &refused) {
			return refused // too large
		}
		return answer(err, s.server.OverQuotaRejects)
	}
	defer m.drop()
	for _, to := range e.to {
		s.conn.tell(to.address, s.attempt(m, &e, to))
	}
	return nil
}

// takeRest reads what is left of a message that was not taken in. go-smtp, once Data
// returns, looks at the recipients; of one that RSET has broken off between two
// chunks it has none any more, or those of the next message, and nobody waits for
// Data's goroutine: so that ends here.
func takeRest(r io.Reader, err error) {
	_, end := io.Copy(io.Discard, r)
	if errors.Is(err, smtp.ErrDataReset) || errors.Is(end, smtp.ErrDataReset) {
		runtime.Goexit()
	}
}

// attempt is deliver and its answer. After a fault, or an answer that did not go out,
// the connection ends, and what recipients are left are not tried: they come again.
func (s *session) attempt(m *held, e *envelope, to recipient) (said error) {
	if s.conn.over {
		s.log.Info("not delivered: the connection ends", "from", e.from, "to", to.address)
		return errFault
	}
	defer func() {
		if value := recover(); value != nil {
			s.server.fault(remote(s.conn), value, debug.Stack())
			s.conn.over, said = true, errFault
		}
	}()
	return answer(s.deliver(m, e, to), s.server.OverQuotaRejects)
}

func (s *session) deliver(m *held, e *envelope, to recipient) error {
	err := s.server.Store.Deliver(s.server.working, to.mailbox, io.MultiReader(s.trace(e, to), m.reader()), quotePath(e.from))
	level, what := slog.LevelInfo, "delivered"
	switch {
	case errors.Is(err, mailstore.ErrDamaged):
		level, what = slog.LevelWarn, "not delivered"
	case err != nil:
		what = "not delivered"
	}
	attrs := []any{"from", e.from, "to", to.address, "mailbox", to.mailbox, "octets", m.size}
	if err != nil {
		attrs = append(attrs, "error", err)
	}
	s.log.Log(context.Background(), level, what, attrs...)
	return err
}

// Reset implements smtp.Session.
func (s *session) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.envelope = envelope{}
	s.conn.begun = nil
}

// Logout implements smtp.Session.
func (s *session) Logout() error { return nil }
