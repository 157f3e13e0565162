package kpop

import (
	"bytes"
	"net"
)

// A prefixConn reads octets that were received already before those of the
// connection.
type prefixConn struct {
	net.Conn
	before []byte
}

func (p *prefixConn) Read(b []byte) (int, error) {
	if len(p.before) > 0 {
		n := copy(b, p.before)
		p.before = p.before[n:]
		return n, nil
	}
	return p.Conn.Read(b)
}

// readAhead moves what waits in the read buffer in front of the connection, for
// a layer to read.
func (c *conn) readAhead() *prefixConn {
	p := &prefixConn{Conn: c.rw}
	if c.in != nil {
		p.before = bytes.Clone(c.in[c.inFrom:c.inTo])
	}
	return p
}

// discardInput forgets the read buffer.
func (c *conn) discardInput() {
	if c.in != nil {
		c.inFrom, c.inTo = 0, 0
	}
}
