package kpop

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/kpop/lang"
	"github.com/kpopd/kpopd/mailstore"
)

// A conn is one connection. Only its goroutine touches it, but for the fields
// under "seen by others". It is kept small: thousands of them wait.
type conn struct {
	srv   *Server
	terms *terms
	port  *Port
	raw   net.Conn     // as accepted
	nc    net.Conn     // what is read and written: raw, TLS, or a SASL layer
	tls   *tls.Conn    // nil without TLS
	tcp   *net.TCPConn // raw, when it is one

	// Reading: line.go.
	in       []byte // nil while nothing is buffered
	page     *[inSize]byte
	r, w     int // in[r:w] is not yet used
	one      [1]byte
	direct   syscall.RawConn // not nil while the socket itself is read
	ready    func(fd uintptr) bool
	readErr  error
	claimed  int64     // octets of a long line, of srv.early
	readBy   time.Time // the read deadline in force
	waitFrom time.Time // since when the client is silent
	rested   bool
	parked   bool            // the wait goes on from before the session was parked: park.go
	parkErr  error           // how the wait while parked ended
	idle     state           // while parked
	idleCtx  context.Context //nolint:containedctx // while parked: there is no goroutine to have it

	// Writing: output.go.
	out     []byte // nil while nothing is gathered
	outPage *[outSize]byte
	wrErr   error
	writeBy time.Time
	leaving bool // hangUp has set the last deadline

	since    time.Time
	first    bool // no line was read yet
	loggedIn bool
	layered  bool           // a SASL security layer is on
	pop4     bool           // the commands of POP4 can be used
	utf8     bool           // UTF8 was sent (RFC 6856 section 2.1)
	lang     *lang.Language // of texts; nil: English
	trace    bool
	asked    uint64 // the server's retraced when trace was decided
	bad      int    // bad commands
	failures int    // refused logins
	cmd      command
	verb     string           // of the last command, for the observer
	held     *transaction     // since login; closed whatever happens
	rester   mailstore.Rester // the open maildrop, when it can

	// Seen by others.
	id        uint64
	prefix    netip.Prefix // these three belong to srv.mu
	user      string
	admitted  bool
	login     atomic.Pointer[login]
	stopped   atomic.Pointer[string] // why the server closed it
	waiting   atomic.Int64
	retrCount atomic.Int64
	topCount  atomic.Int64
	delCount  atomic.Int64
	retrSize  atomic.Int64 // octets of the messages that were retrieved and removed
	delSize   atomic.Int64
	sent      atomic.Int64
	secured   atomic.Pointer[string] // TLS version and cipher suite
}

// A login is what is known of a session's user.
type login struct {
	identity auth.Identity
	account  auth.Account
}

func (s *Server) newConn(raw net.Conn, port *Port) *conn {
	c := &conn{srv: s, terms: s.terms.Load(), port: port, raw: raw, nc: raw, since: time.Now(), first: true}
	if renewed, ok := c.terms.ports[port.Name]; ok {
		c.port = renewed
	}
	if c.tcp = tcpOf(raw); c.tcp != nil {
		if sys, err := c.tcp.SyscallConn(); err == nil {
			c.direct, c.ready = sys, c.readReady
		}
	}
	return c
}

// tcpOf finds the socket, also under a wrapper that only tells another remote
// address, as that of the PROXY protocol does: such a one has the method TCP.
func tcpOf(raw net.Conn) *net.TCPConn {
	switch c := raw.(type) {
	case *net.TCPConn:
		return c
	case interface{ TCP() *net.TCPConn }:
		return c.TCP()
	}
	return nil
}

// serve is the connection's life. A panic ends this connection and no other.
func (c *conn) serve(ctx context.Context) {
	growStack()
	c.live(ctx, c.converse)
}

// growStack makes the goroutine's stack as large as a login needs while there
// is nothing on it. Grown by and by it is copied three times, each frame's
// pointers looked up and moved: one part in thirty of a login (BenchmarkLogin).
// A session that is silent for long leaves it: park.go.
//
//go:noinline
func growStack() {
	var frame [loginStack]byte
	frame[len(errSilent.Error())] = 1
	runtime.KeepAlive(&frame)
}

// loginStack is half of what is wanted: a stack doubles until a frame fits.
const loginStack = 9 << 10

// live runs a part of the connection's life, to its end or until the client is
// silent for long; then the session is parked.
func (c *conn) live(ctx context.Context, part func(context.Context) (how string, silent state)) {
	how, silent := "panic", state(nil)
	c.guard(func() { how, silent = part(ctx) })
	if silent != nil {
		c.srv.lot.park(ctx, c, silent)
		return
	}
	defer c.srv.forget(c)
	c.guard(c.leave)
	c.guard(func() { c.end(how) })
}

// guard runs f and takes a panic for its end.
func (c *conn) guard(f func()) {
	defer func() {
		if v := recover(); v != nil {
			c.panicked(v)
		}
	}()
	f()
}

// leave ends TRANSACTION without UPDATE, unless QUIT was there before: marks
// vanish, the lock is given back (RFC 1939 section 6).
func (c *conn) leave() {
	if c.held != nil && c.held.drop != nil {
		c.held.closeDrop()
	}
}

// converse runs the session from its beginning and says how it ended, or in
// which state the client became silent.
func (c *conn) converse(ctx context.Context) (how string, silent state) {
	limits := &c.terms.limits
	if err := c.raw.SetDeadline(c.since.Add(limits.LoginTimeout)); err != nil {
		return c.ending(err).how, nil
	}
	c.retrace()
	first, err := c.greet(ctx)
	if err != nil {
		end := c.ending(err)
		if end.reply != nil && (c.tls != nil || !c.port.Implicit) { // as in turnAway
			c.no(end.reply)
		}
		_ = c.flush()
		return end.how, nil
	}
	return c.goOn(ctx, first)
}

// goOn runs the session from a state.
func (c *conn) goOn(ctx context.Context, from state) (how string, silent state) {
	how, silent = c.run(ctx, from)
	if err := c.flush(); err != nil && how == "quit" {
		how = "quit, reply not taken"
	}
	return how, silent
}

// greet does what the port wants before the greeting, and greets (RFC 1939
// section 4).
func (c *conn) greet(ctx context.Context) (state, error) {
	if wait, err := c.admission(); err != nil {
		c.logAttrs(slog.LevelInfo, "connection refused", slog.Any("err", err))
		return nil, &ending{how: "refused", reply: refBusy}
	} else if wait > 0 && !c.sleep(ctx, wait) {
		return nil, &ending{how: "closed by server"}
	}
	if c.port.Implicit {
		if err := c.startTLS(); err != nil {
			return nil, &ending{how: "TLS handshake failed: " + err.Error()}
		}
	}
	if c.port.Preamble != nil {
		return c.preamble(ctx)
	}
	a := &authorization{conn: c}
	if c.port.APOP != nil && (c.tls != nil || !c.port.RequireTLS) {
		a.stamp = c.port.APOP.Stamp()
	}
	text := c.terms.hostname + " POP3" + c.banner() + " server ready"
	if a.stamp != "" {
		text += " " + a.stamp
	}
	c.ok(text)
	return a, nil
}

// banner is what POP4 asks for in a greeting.
func (c *conn) banner() string {
	if c.port.POP4 {
		return " POP4 rev 0"
	}
	return ""
}

func (c *conn) admission() (time.Duration, error) {
	if c.srv.Refuse == nil {
		return 0, nil
	}
	return c.srv.Refuse(c.raw.RemoteAddr())
}

// peer describes the other end as it is now.
func (c *conn) peer() auth.Peer {
	p := auth.Peer{Remote: c.raw.RemoteAddr(), Local: c.raw.LocalAddr(), Listener: c.port.Name}
	if c.tls != nil {
		state := c.tls.ConnectionState()
		p.TLS = &state
	}
	return p
}

// sleep waits for d, no longer than the login may take; it is false when the
// server ends before.
func (c *conn) sleep(ctx context.Context, d time.Duration) bool {
	if !c.loggedIn {
		d = min(d, time.Until(c.since.Add(c.terms.limits.LoginTimeout)))
	}
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	case <-c.srv.closing:
		return false
	}
}

// stop closes the connection from outside. A session in UPDATE finishes it.
func (c *conn) stop(why string) {
	if c.stopped.CompareAndSwap(nil, &why) {
		_ = c.raw.Close()
		c.srv.lot.wake(c.id, nil) // nobody waits for the socket while it is parked
	}
}

func (c *conn) panicked(v any) {
	stack := debug.Stack()
	c.logAttrs(slog.LevelError, "panic", slog.String("value", fmt.Sprint(v)), slog.String("stack", string(stack)))
	if c.srv.Observer.Panic != nil {
		c.srv.Observer.Panic(v, stack)
	}
}

// end gives everything back and writes the session's line.
func (c *conn) end(how string) {
	if why := c.stopped.Load(); why != nil && how != "quit" {
		how = *why
	}
	c.hangUp(how != "closed by client")
	c.releaseIn()
	c.releaseOut()
	c.logEnd(how)
	if c.srv.Observer.Ended != nil {
		c.srv.Observer.Ended(c.info(), how)
	}
}

// hangUp closes the connection. Octets that the client sent and nobody read, or
// sends after QUIT, would make the kernel reset the connection and the client
// lose our last reply. So our side is closed first, and for a bounded time the
// client's octets are read until it closes its own.
func (c *conn) hangUp(linger bool) {
	if c.stopped.Load() != nil {
		return
	}
	if c.leaving = true; c.tls != nil {
		_ = c.raw.SetDeadline(time.Now().Add(alertTime))
		_ = c.tls.CloseWrite()
	}
	if linger && c.tcp != nil {
		_ = c.tcp.CloseWrite()
		_ = c.tcp.SetReadDeadline(time.Now().Add(lingerTime))
		_, _ = io.CopyN(io.Discard, c.tcp, lingerOctets)
	}
	_ = c.raw.Close()
}

const (
	alertTime    = 100 * time.Millisecond // for what fits into the socket's buffer at once
	lingerTime   = time.Second
	lingerOctets = 1 << 20
)

// name is the session's name in the log.
func (c *conn) name() string { return strconv.FormatUint(c.id, 36) }
