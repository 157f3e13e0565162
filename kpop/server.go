package kpop

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/mailstore"
)

// A Server serves maildrops to clients on any number of ports. Directory, Store
// and Log are required. It must not be copied.
type Server struct {
	Hostname  string // in the greeting
	Directory auth.Directory
	Store     mailstore.Store
	Log       *slog.Logger
	Limits    Limits
	Events    Events

	admission admission
	penalties penalties
	sessions  sync.WaitGroup
	counter   atomic.Uint64
	draining  atomic.Bool

	mu   sync.Mutex
	open map[*conn]*SessionInfo
}

// A Port is what one listener offers. TLS nil means no STLS.
type Port struct {
	Name     string
	TLS      func() *tls.Config // the configuration of now; called for each handshake
	Implicit bool               // TLS from the first octet (POP3S, RFC 8314)

	// Preamble reads what comes before the greeting, KPOP's ticket. It has
	// answered its own refusals.
	Preamble func(context.Context, net.Conn, auth.Peer) (*auth.Identity, error)

	Mechanisms      []auth.Mechanism   // in CAPA's order
	Password        auth.PasswordCheck // nil: no USER and PASS
	PasswordInClear bool               // passwords without TLS: a trusted network
	APOP            APOP               // nil: no stamp in the greeting
	RequireTLS      bool               // KPOP: PASS only after STLS
}

// An APOP checks RFC 1939 section 7's digests.
type APOP interface {
	// Stamp makes a greeting's timestamp, with its angle brackets; each is
	// used once.
	Stamp() string
	Check(ctx context.Context, p auth.Peer, stamp, user, digest string) (*auth.Identity, error)
}

// Events are told what happens, for metrics; nil fields are skipped. They are
// called on the sessions' goroutines and must not block.
type Events struct {
	Login   func(port, mechanism string, err error)
	Session func(SessionInfo, Totals)
	Panic   func()
}

// Totals is what a session did.
type Totals struct {
	Retrieved, Topped, Deleted int
	Octets                     int64 // of messages retrieved
	Duration                   time.Duration
}

// SessionInfo describes an open session for `kpop who`.
type SessionInfo struct {
	ID, Port, Remote, User, Mailbox, Mechanism, Authcid string
	Since                                               time.Time
	TLS                                                 bool
}

// ErrServerClosed is what Serve returns after Shutdown.
var ErrServerClosed = errors.New("kpop: server closed")

// Serve accepts connections on l until ctx ends or Shutdown is called. It
// closes l. Errors of single accepts, such as too many open files, are waited
// out.
func (s *Server) Serve(ctx context.Context, l net.Listener, p *Port) error {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	wait := time.Duration(0)
	for {
		nc, err := l.Accept()
		switch {
		case err == nil:
			wait = 0
			s.start(ctx, nc, p)
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return ErrServerClosed
		default:
			wait = min(max(2*wait, 5*time.Millisecond), time.Second)
			s.Log.Error("accept failed; trying again", "port", p.Name, "error", err, "wait", wait)
			time.Sleep(wait)
		}
	}
}

// start admits one connection and gives it a goroutine. Nothing that a client
// can delay happens on the accepting one.
func (s *Server) start(ctx context.Context, nc net.Conn, p *Port) {
	at := prefix(nc.RemoteAddr())
	if reason := s.admission.enter(at, &s.Limits); reason != "" || s.draining.Load() {
		if reason == "" {
			s.admission.leave(at, true)
			reason = "shutting down"
		}
		s.Log.Warn("connection refused", "port", p.Name, "remote", nc.RemoteAddr(), "limit", reason)
		s.turnAway(nc, p)
		return
	}
	s.sessions.Add(1)
	go func() {
		defer s.sessions.Done()
		s.serve(ctx, nc, p)
	}()
}

// turnAway says why in POP3 where POP3 can be said; the answer fits the socket
// buffer and waits for nobody.
func (s *Server) turnAway(nc net.Conn, p *Port) {
	if !p.Implicit && p.Preamble == nil {
		_ = nc.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = io.WriteString(nc, "-ERR [SYS/TEMP] server is busy, try again later\r\n")
	}
	_ = nc.Close()
}

// serve is one connection from its first octet to its log line. A panic ends
// the connection and nothing else.
func (s *Server) serve(ctx context.Context, nc net.Conn, p *Port) {
	c := &conn{
		server: s, port: p, raw: nc, rw: nc,
		peer:  auth.Peer{Remote: nc.RemoteAddr(), Local: nc.LocalAddr(), Listener: p.Name},
		limit: time.Now().Add(s.Limits.loginTimeout()),
	}
	began := time.Now()
	info := &SessionInfo{ID: strconv.FormatUint(s.counter.Add(1), 36), Port: p.Name, Remote: nc.RemoteAddr().String(), Since: began}
	c.log = s.Log.With("session", info.ID, "port", p.Name, "remote", info.Remote)
	s.track(c, info)
	defer func() {
		if v := recover(); v != nil {
			s.panicked(c, v)
		}
		c.close()
		s.untrack(c)
		s.admission.leave(prefix(nc.RemoteAddr()), !c.limit.IsZero())
	}()
	err := c.session(ctx)
	s.ended(c, info, time.Since(began), err)
}

func (s *Server) panicked(c *conn, v any) {
	c.log.Error("panic; the connection was ended", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
	if s.Events.Panic != nil {
		s.Events.Panic()
	}
}

// session goes through the states from the preamble on.
func (c *conn) session(ctx context.Context) error {
	c.busy.Store(true)
	if c.port.Implicit {
		if err := c.handshake(ctx); err != nil {
			return err
		}
	}
	first, err := c.begins(ctx)
	if err != nil {
		return err
	}
	return c.run(ctx, first)
}

// begins passes the preamble and greets.
func (c *conn) begins(ctx context.Context) (state, error) {
	if c.port.Preamble != nil {
		id, err := c.port.Preamble(ctx, c.rw, c.peer)
		if err != nil {
			c.server.login(c, &auth.Identity{Mechanism: "KPOP"}, err)
			c.logRefusal(&auth.Identity{Mechanism: "KPOP"}, err)
			return nil, errors.Join(errTicket, err)
		}
		return &ticketed{conn: c, id: id}, c.greet("")
	}
	stamp := ""
	if c.port.APOP != nil {
		stamp = c.port.APOP.Stamp()
	}
	return &authorization{conn: c, stamp: stamp}, c.greet(stamp)
}

var errTicket = errors.New("kpop: no ticket accepted")

func (c *conn) greet(stamp string) error {
	if stamp != "" {
		return c.reply("+OK ", c.server.Hostname, " POP3 ready ", stamp)
	}
	return c.reply("+OK ", c.server.Hostname, " POP3 ready")
}

// ended writes the session's one log line.
func (s *Server) ended(c *conn, info *SessionInfo, took time.Duration, err error) {
	args := []any{
		"ended", how(err), "duration_ms", took.Milliseconds(), "retrieved", c.stats.retrieved, "top", c.stats.topped,
		"deleted", c.stats.deleted, "octets", c.stats.octets, "sent", c.stats.sent,
	}
	if t := c.peer.TLS; t != nil {
		args = append(args, "tls", tls.VersionName(t.Version), "cipher", tls.CipherSuiteName(t.CipherSuite))
	}
	if err != nil {
		args = append(args, "error", err)
	}
	c.log.Info("session", args...)
	if s.Events.Session != nil {
		s.Events.Session(*info, Totals{c.stats.retrieved, c.stats.topped, c.stats.deleted, c.stats.octets, took})
	}
}

// how says in a word how a session ended.
func how(err error) string {
	switch {
	case err == nil:
		return "quit"
	case errors.Is(err, errTicket):
		return "refused"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "timeout"
	case errors.Is(err, errBadClient), errors.Is(err, errTooManyFailures), errors.Is(err, errInjected):
		return "hung up on"
	case errors.Is(err, errHangUp), errors.Is(err, net.ErrClosed):
		return "ended by server"
	default:
		return "connection lost"
	}
}

func (s *Server) login(c *conn, id *auth.Identity, err error) {
	if err == nil {
		s.admission.authenticated()
	}
	if s.Events.Login != nil {
		s.Events.Login(c.port.Name, id.Mechanism, err)
	}
}
