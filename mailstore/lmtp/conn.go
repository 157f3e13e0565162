package lmtp

import (
	"net"
	"sync"
	"time"
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
		if each.mode == inCommands {
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
		if c, ok := l.server.enter(raw); ok {
			return c, nil
		}
		go refuse(raw, l.server.Hostname)
	}
}

// enter counts a connection; not ok: there are too many.
func (s *Server) enter(raw net.Conn) (c *conn, ok bool) {
	s.crowd.mu.Lock()
	defer s.crowd.mu.Unlock()
	if s.crowd.draining || len(s.crowd.conns) >= s.Limits.Connections {
		return nil, false
	}
	c = newConn(raw, s)
	s.crowd.conns[c] = struct{}{}
	return c, true
}

// refuse tells a client that there are too many (RFC 5321 section 3.8).
func refuse(c net.Conn, hostname string) {
	defer c.Close()                                                                   //nolint:errcheck // nobody is left to be told
	_ = c.SetDeadline(time.Now().Add(time.Second))                                    // then Write fails as well
	_, _ = c.Write([]byte("421 4.3.2 " + hostname + " has too many connections\r\n")) // it sees the end in any case
}
