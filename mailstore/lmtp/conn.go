package lmtp

import (
	"bytes"
	"net"
	"os"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
)

const (
	// maxCommand is the longest line outside of a message. RFC 5321 section
	// 4.5.3.1.4 asks for 512 octets, and its extensions for a few hundred more.
	maxCommand = 4096

	// ahead is how much may be read before the server knows that a message has
	// begun: its buffer and the first piece of a BDAT chunk.
	ahead = 64 << 10
)

// A crowd is the connections there are.
type crowd struct {
	mu       sync.Mutex
	conns    map[*conn]struct{}
	draining bool
}

// drain ends the connections that have no message on its way.
func (c *crowd) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining = true
	for each := range c.conns {
		if each.phase != inMessage {
			_ = each.Conn.SetReadDeadline(time.Unix(1, 0)) // a dead connection needs no deadline
		}
	}
}

// cut closes the connections.
func (c *crowd) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for each := range c.conns {
		_ = each.Conn.Close() // nobody is left to be told
	}
}

// A listener bounds the number of connections.
type listener struct {
	net.Listener
	server *Server
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	for {
		raw, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &conn{Conn: raw, server: l.server}
		if c.enter() {
			return c, nil
		}
		go refuse(raw, l.server.Hostname)
	}
}

// refuse tells a client that there are too many (RFC 5321 section 3.8).
func refuse(c net.Conn, hostname string) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Second))                                    // then Write fails as well
	_, _ = c.Write([]byte("421 4.3.2 " + hostname + " has too many connections\r\n")) // it sees the end in any case
}

// A phase is what a client may be sending.
type phase int

const (
	inCommand  phase = iota
	inEnvelope       // a message may come next
	inMessage
)

// A conn bounds lines and silence. go-smtp's own bound on lines holds for
// messages as well, and would bounce mail whose lines are long; its deadline is
// for a whole message, however large.
type conn struct {
	net.Conn
	server *Server

	// Under crowd.mu:
	phase phase
	line  int // octets since the last line feed, or since the phase began
}

// enter counts the connection; false: there are too many.
func (c *conn) enter() bool {
	all := &c.server.crowd
	all.mu.Lock()
	defer all.mu.Unlock()
	if all.draining || len(all.conns) >= c.server.Limits.Connections {
		return false
	}
	all.conns[c] = struct{}{}
	return true
}

// Close implements net.Conn.
func (c *conn) Close() error {
	all := &c.server.crowd
	all.mu.Lock()
	delete(all.conns, c)
	all.mu.Unlock()
	return c.Conn.Close()
}

func (c *conn) set(p phase) {
	all := &c.server.crowd
	all.mu.Lock()
	defer all.mu.Unlock()
	c.phase, c.line = p, 0
}

// begin is asked before octets are read.
func (c *conn) begin() error {
	all := &c.server.crowd
	all.mu.Lock()
	defer all.mu.Unlock()
	switch {
	case all.draining && c.phase != inMessage:
		return os.ErrDeadlineExceeded
	case c.phase == inCommand && c.line >= maxCommand, c.phase == inEnvelope && c.line >= ahead:
		return smtp.ErrTooLongLine
	}
	return c.Conn.SetReadDeadline(time.Now().Add(c.server.Limits.Timeout))
}

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	if err := c.begin(); err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(b)
	all := &c.server.crowd
	all.mu.Lock()
	defer all.mu.Unlock()
	if i := bytes.LastIndexByte(b[:n], '\n'); i >= 0 {
		c.line = n - i - 1
	} else {
		c.line += n
	}
	return n, err
}
