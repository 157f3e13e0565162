package sockets

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"slices"
	"time"

	"github.com/pires/go-proxyproto"
)

// A header comes with the first packet of a proxy in our own network; so many
// connections may be without theirs at once.
const (
	headerTime = 5 * time.Second
	headerMost = 256
)

// Proxied gives the connections of l with the client's address out of the PROXY
// protocol's header, version 1 or 2, where the peer is one of trusted; such a
// peer must send one. All others are taken as they are: whatever they send is
// theirs, and no header. panicked, unless it is nil, is told of each fault over a
// header that was caught, with the stack.
func Proxied(l net.Listener, trusted []netip.Prefix, log *slog.Logger, panicked func(value any, stack []byte)) net.Listener {
	ctx, cancel := context.WithCancel(context.Background())
	p := &proxied{Listener: l, trusted: trusted, log: log, panicked: panicked, ctx: ctx, cancel: cancel, accepted: make(chan accepted), slots: make(chan struct{}, headerMost)}
	go p.accept()
	return p
}

type accepted struct {
	conn net.Conn
	err  error
}

type proxied struct {
	net.Listener
	trusted  []netip.Prefix
	log      *slog.Logger
	panicked func(value any, stack []byte)
	ctx      context.Context // ends with Close
	cancel   context.CancelFunc
	accepted chan accepted
	slots    chan struct{}
}

// Accept gives the next connection whose header has come.
func (p *proxied) Accept() (net.Conn, error) {
	select {
	case a := <-p.accepted:
		return a.conn, a.err
	case <-p.ctx.Done():
		return nil, fmt.Errorf("sockets: accept: %w", net.ErrClosed)
	}
}

// Close closes the listener and the connections whose header is still awaited.
func (p *proxied) Close() error {
	p.cancel()
	return p.Listener.Close()
}

func (p *proxied) accept() {
	for {
		c, err := p.Listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) || !p.give(accepted{err: err}) {
				return
			}
			continue
		}
		if !p.trusts(c.RemoteAddr()) {
			p.give(accepted{conn: c})
			continue
		}
		select {
		case p.slots <- struct{}{}:
			go p.read(c)
		case <-p.ctx.Done():
			_ = c.Close()
		}
	}
}

// give hands a over, or closes its connection when nobody accepts any more.
func (p *proxied) give(a accepted) bool {
	select {
	case p.accepted <- a:
		return true
	case <-p.ctx.Done():
		if a.conn != nil {
			_ = a.conn.Close()
		}
		return false
	}
}

func (p *proxied) trusts(remote net.Addr) bool {
	at, err := netip.ParseAddrPort(remote.String())
	if err != nil {
		return false
	}
	address := at.Addr().Unmap().WithZone("")
	return slices.ContainsFunc(p.trusted, func(t netip.Prefix) bool { return t.Contains(address) })
}

func (p *proxied) read(c net.Conn) {
	defer func() { <-p.slots }()
	stop := context.AfterFunc(p.ctx, func() { _ = c.Close() })
	told, err := p.readHeader(c)
	stop()
	if err != nil {
		p.log.Warn("no PROXY header from a trusted proxy; connection closed", "proxy", c.RemoteAddr().String(), "error", err)
		_ = c.Close()
		return
	}
	p.give(accepted{conn: told})
}

// readHeader takes the header and not an octet more. A panic of the library costs
// this connection only.
func (p *proxied) readHeader(c net.Conn) (told net.Conn, err error) {
	defer func() {
		if v := recover(); v != nil {
			stack := debug.Stack()
			p.log.Error("panic", "in", "sockets: reading a PROXY header", "value", fmt.Sprint(v), "stack", string(stack))
			if p.panicked != nil {
				p.panicked(v, stack)
			}
			told, err = nil, fmt.Errorf("panic: %v", v)
		}
	}()
	if err := c.SetReadDeadline(time.Now().Add(headerTime)); err != nil {
		return nil, err
	}
	octets, err := frame(c)
	if err != nil {
		return nil, err
	}
	h, err := proxyproto.Read(bufio.NewReaderSize(bytes.NewReader(octets), len(octets)))
	if err != nil {
		return nil, err
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		return nil, err
	}
	if h.Command.IsLocal() || h.TransportProtocol.IsUnspec() {
		return c, nil // the proxy's own, to see whether we live
	}
	source, destination, ok := h.TCPAddrs()
	tcp, isTCP := c.(*net.TCPConn)
	if !ok || !isTCP {
		return nil, fmt.Errorf("header is for %v, not TCP", h.TransportProtocol)
	}
	return &conn{tcp, source, destination}, nil
}

// Lengths of headers: a line, or a fixed part and as much as it says.
const (
	longestLine = 107
	fixedPart   = 16
	longestRest = 4 << 10 // addresses and a proxy's own additions
)

// frame reads one header: the client's octets behind it are the session's.
func frame(c io.Reader) ([]byte, error) {
	header := make([]byte, 1, fixedPart)
	if _, err := io.ReadFull(c, header); err != nil {
		return nil, err
	}
	if header[0] != proxyproto.SIGV2[0] {
		return frameLine(c, header)
	}
	header = header[:fixedPart]
	if _, err := io.ReadFull(c, header[1:]); err != nil {
		return nil, err
	}
	rest := int(binary.BigEndian.Uint16(header[fixedPart-2:]))
	if !bytes.HasPrefix(header, proxyproto.SIGV2) || rest > longestRest {
		return nil, proxyproto.ErrNoProxyProtocol
	}
	header = append(header, make([]byte, rest)...)
	_, err := io.ReadFull(c, header[fixedPart:])
	return header, err
}

func frameLine(c io.Reader, line []byte) ([]byte, error) {
	for one := make([]byte, 1); len(line) < longestLine; {
		if !bytes.HasPrefix(proxyproto.SIGV1, line[:min(len(line), len(proxyproto.SIGV1))]) {
			return nil, proxyproto.ErrNoProxyProtocol
		}
		if _, err := io.ReadFull(c, one); err != nil {
			return nil, err
		}
		if line = append(line, one[0]); one[0] == '\n' {
			return line, nil
		}
	}
	return nil, proxyproto.ErrVersion1HeaderTooLong
}

// A conn is a connection through a proxy.
type conn struct {
	*net.TCPConn
	remote, local net.Addr
}

func (c *conn) RemoteAddr() net.Addr { return c.remote }
func (c *conn) LocalAddr() net.Addr  { return c.local }

// TCP is the socket itself.
func (c *conn) TCP() *net.TCPConn { return c.TCPConn }
