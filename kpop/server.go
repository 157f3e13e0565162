package kpop

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/mailstore"
)

// ErrServerClosed is what Serve returns after Shutdown or Close.
var ErrServerClosed = errors.New("kpop: server closed")

// A Server serves maildrops. Its fields must not change once Serve is called;
// Reconfigure is for that.
type Server struct {
	Hostname       string // for the greeting
	Implementation string // for CAPA after login (RFC 2449 section 6.9); empty: not told

	Directory auth.Directory
	Store     mailstore.Store
	Log       *slog.Logger // nil: no log
	Limits    Limits
	Observer  Observer

	// Refuse, when not nil, is asked for each connection before its greeting:
	// how long it has to wait, or an error when it is not wanted at all.
	Refuse func(remote net.Addr) (time.Duration, error)

	// Trace, when not nil, says whose dialogue is logged; user is empty until
	// it is known.
	Trace func(user string, remote net.Addr) bool

	setup    sync.Once
	terms    atomic.Pointer[terms]
	log      *slog.Logger
	pools    *pools
	lot      lot
	early    atomic.Int64  // octets of long lines before login
	retraced atomic.Uint64 // counts the calls of Retrace
	parting  chan struct{} // one for each connection that was turned away and is still open
	closing  chan struct{} // closed when the drain's time is over

	mu        sync.Mutex
	draining  bool
	closed    bool
	listeners map[net.Listener]struct{}
	conns     map[uint64]*conn
	lastID    uint64
	waiting   int // connections that have not logged in
	prefixes  map[netip.Prefix]int
	users     map[string]int
	idle      chan struct{} // closed when draining and the last connection ends
}

func (s *Server) prepare() {
	s.setup.Do(func() {
		s.terms.Store(&terms{hostname: s.Hostname, directory: s.Directory, limits: s.Limits.withDefaults()})
		if s.log = s.Log; s.log == nil {
			s.log = slog.New(slog.DiscardHandler)
		}
		s.pools = newPools()
		s.closing = make(chan struct{})
		s.listeners = map[net.Listener]struct{}{}
		s.conns = map[uint64]*conn{}
		s.parting = make(chan struct{}, partingMost)
		s.prefixes = map[netip.Prefix]int{}
		s.users = map[string]int{}
		s.idle = make(chan struct{})
		// Names of sessions do not come back after a restart.
		s.lastID = uint64(time.Now().Unix()) << 20
	})
}

// Serve accepts connections on l and serves each as port says, until Shutdown
// or until ctx ends, which closes every connection of this call at once. It
// closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener, port *Port) error {
	s.prepare()
	defer l.Close()
	if port.TLS == nil && (port.Implicit || port.RequireTLS) {
		return fmt.Errorf("kpop: port %q needs TLS and has no certificate", port.Name)
	}
	if !s.track(l) {
		return ErrServerClosed
	}
	defer s.untrack(l)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		_ = l.Close()
		s.stopAll(port, "server stopped")
	})
	defer stop()
	err := s.accept(ctx, l, port)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if s.isClosed() {
		// Sessions of this listener end before their context does.
		<-s.idle
		return ErrServerClosed
	}
	s.stopAll(port, "listener failed")
	return fmt.Errorf("kpop: accept on %q: %w", port.Name, err)
}

// accept is the accept loop. A lack of descriptors or memory passes; it must
// not end the service.
func (s *Server) accept(ctx context.Context, l net.Listener, port *Port) error {
	pause := time.Duration(0)
	for {
		raw, err := l.Accept()
		switch {
		case err == nil:
			pause = 0
			s.start(ctx, raw, port)
		case errors.Is(err, net.ErrClosed) || ctx.Err() != nil || s.isClosed():
			return err
		default:
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			s.log.LogAttrs(ctx, slog.LevelWarn, "accept failed", slog.String("listener", port.Name), slog.Any("err", err))
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			case <-s.closing:
			}
		}
	}
}

// start admits a connection or turns it away; nothing here waits for a client.
func (s *Server) start(ctx context.Context, raw net.Conn, port *Port) {
	if s.Observer.Connected != nil {
		s.Observer.Connected(port.Name, raw.RemoteAddr())
	}
	c := s.newConn(raw, port)
	if r, why := s.register(c); r != nil {
		s.turnAway(c, r, why)
		return
	}
	if ctx.Err() != nil { // stopAll may have come before register
		c.stop("server stopped")
	}
	go c.serve(ctx)
}

func (s *Server) turnAway(c *conn, r *refusal, why string) {
	c.logAttrs(slog.LevelInfo, "connection turned away", slog.String("why", why))
	if s.Observer.TurnedAway != nil {
		s.Observer.TurnedAway(c.port.Name, c.raw.RemoteAddr(), why)
	}
	if !c.port.Implicit { // in clear nothing can be said to who expects TLS
		_ = c.raw.SetWriteDeadline(time.Now().Add(alertTime))
		_, _ = c.raw.Write([]byte("-ERR [" + r.code + "] " + r.text + "\r\n"))
	}
	select {
	case s.parting <- struct{}{}:
		go func() {
			defer func() { <-s.parting }()
			c.hangUp(true) // a client that speaks first, as KPOP's, reads it too
		}()
	default:
		_ = c.raw.Close()
	}
}

// partingMost bounds how many that were turned away are let down gently at once.
const partingMost = 64

// Shutdown drains: new connections are told to come later, sessions go on until
// they end or ctx does; then what is left is closed. It returns when the last
// session is gone; one in UPDATE is always waited for.
func (s *Server) Shutdown(ctx context.Context) error {
	s.prepare()
	s.mu.Lock()
	if !s.draining {
		s.draining = true
		if len(s.conns) == 0 {
			close(s.idle)
		}
	}
	s.mu.Unlock()
	var err error
	select {
	case <-s.idle:
	case <-ctx.Done():
		err = ctx.Err()
	}
	s.closeAll()
	<-s.idle
	return err
}

// closeAll closes the listeners and what is left of the connections.
func (s *Server) closeAll() {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.closing)
	}
	for l := range s.listeners {
		_ = l.Close()
	}
	s.mu.Unlock()
	s.stopAll(nil, "server shut down")
}

// stopAll closes the connections of port, or all when it is nil.
func (s *Server) stopAll(port *Port, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		if port == nil || c.port.Name == port.Name {
			c.stop(why)
		}
	}
}

func (s *Server) track(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return false
	}
	s.listeners[l] = struct{}{}
	return true
}

func (s *Server) untrack(l net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, l)
}

func (s *Server) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}
