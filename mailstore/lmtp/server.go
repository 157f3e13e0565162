package lmtp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/kpopd/kpopd/mailstore"
)

// Limits bound what clients use; zero fields have the defaults of Defaults.
type Limits struct {
	Message     int64         // octets of a message
	Recipients  int           // of one message
	Connections int           // at once; one more is answered 421
	Timeout     time.Duration // of silence (RFC 5321 section 4.5.3.2.7: five minutes)
}

// Defaults are the limits that a zero field stands for.
func Defaults() Limits {
	return Limits{Message: 50 << 20, Recipients: 1000, Connections: 100, Timeout: 5 * time.Minute}
}

// A Server delivers what it is sent. Its fields do not change once it serves.
type Server struct {
	Hostname string
	Store    mailstore.Deliverer // asked beforehand when it is a mailstore.Verifier

	// Recipient gives the mailbox of an address as it stands in RCPT, without
	// angle brackets and quoting. Errors are those of a store.
	Recipient func(ctx context.Context, address string) (mailbox string, err error)

	// TempDir is where a message waits while it comes in; empty: os.TempDir.
	TempDir string

	// OverQuotaRejects answers 552, so that the sender is told at once, instead
	// of 452, which lets the message wait in the queue.
	OverQuotaRejects bool

	Limits Limits
	Log    *slog.Logger // nil: none

	// Panicked is told of each fault that was caught, with the stack: it ended one
	// connection. nil: nobody.
	Panicked func(value any, stack []byte)

	once    sync.Once
	smtp    *smtp.Server
	crowd   crowd
	working context.Context //nolint:containedctx // of all deliveries: it ends when Shutdown gives up waiting
	abandon context.CancelFunc
}

// prepare makes the protocol's server.
func (s *Server) prepare() {
	s.once.Do(func() {
		if s.Log == nil {
			s.Log = slog.New(slog.DiscardHandler)
		}
		s.Limits = s.Limits.complete()
		s.working, s.abandon = context.WithCancel(context.Background())
		s.crowd.conns = map[*conn]struct{}{}
		s.smtp = smtp.NewServer(smtp.BackendFunc(s.newSession))
		s.smtp.LMTP, s.smtp.Domain = true, s.Hostname
		s.smtp.EnableSMTPUTF8 = true
		// One octet more: go-smtp refuses a message of just so many octets as it announces
		// (RFC 1870 section 4), which conn and session put right.
		s.smtp.MaxMessageBytes, s.smtp.MaxRecipients = s.Limits.Message+1, s.Limits.Recipients
		// Lines and silence are bounded by conn, which knows a message from a command.
		s.smtp.MaxLineLength, s.smtp.ReadTimeout, s.smtp.WriteTimeout = 0, 0, s.Limits.Timeout
		s.smtp.ErrorLog = protocolLog{s}
	})
}

func (l Limits) complete() Limits {
	d := Defaults()
	if l.Message == 0 {
		l.Message = d.Message
	}
	if l.Recipients == 0 {
		l.Recipients = d.Recipients
	}
	if l.Connections == 0 {
		l.Connections = d.Connections
	}
	if l.Timeout == 0 {
		l.Timeout = d.Timeout
	}
	return l
}

// Serve takes connections of l until Shutdown, and then returns nil.
func (s *Server) Serve(l net.Listener) error {
	s.prepare()
	err := s.smtp.Serve(&listener{Listener: l, server: s})
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("lmtp: %w", err)
	}
	return nil
}

// Shutdown stops listening, answers 421 to clients that have no message on its
// way, and waits for the others until ctx ends; then their connections are cut.
// What was cut was not answered 250, and comes again.
func (s *Server) Shutdown(ctx context.Context) error {
	s.prepare()
	defer s.abandon()
	s.crowd.drain()
	err := s.smtp.Shutdown(ctx)
	if err == nil || errors.Is(err, net.ErrClosed) || errors.Is(err, smtp.ErrServerClosed) {
		return nil
	}
	s.abandon()
	s.crowd.cut()
	return fmt.Errorf("lmtp: %w", err)
}

// fault tells of a panic that was caught.
func (s *Server) fault(remote string, value any, stack []byte) {
	s.Log.Error("panic", "in", "lmtp", "remote", remote, "value", fmt.Sprint(value), "stack", string(stack))
	if s.Panicked != nil {
		s.Panicked(value, stack)
	}
}

// A protocolLog takes what go-smtp says.
type protocolLog struct{ *Server }

// Printf is also how go-smtp tells of a panic that it has caught: the peer, the
// value and the stack.
func (p protocolLog) Printf(format string, v ...any) {
	if strings.HasPrefix(format, "panic serving") && len(v) == 3 {
		stack, _ := v[2].([]byte)
		p.fault(fmt.Sprint(v[0]), v[1], stack)
		return
	}
	p.Log.Error("LMTP connection failed", "error", fmt.Sprintf(format, v...))
}

func (p protocolLog) Println(v ...any) {
	p.Log.Error("LMTP connection failed", "error", fmt.Sprintln(v...))
}
