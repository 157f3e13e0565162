package krb5

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
)

// A layer is a connection under a SASL security layer: each direction is a
// sequence of a four-octet length and a wrap token (RFC 4422 section 3.7).
type layer struct {
	net.Conn
	sealed bool
	chunk  int // most plaintext octets that fit the client's buffer

	protect *protector
	readMu  sync.Mutex
	plain   []byte // unwrapped and not yet read
	failed  error  // what ended reading
	writeMu sync.Mutex
}

func newLayer(inner net.Conn, p *protector, sealed bool, peerMax int) *layer {
	return &layer{Conn: inner, protect: p, sealed: sealed, chunk: min(peerMax, maxFrame) - p.overhead(sealed)}
}

// Read implements net.Conn. A token that is malformed, out of order or not
// protected as was agreed ends the connection's reading for good.
func (l *layer) Read(b []byte) (int, error) {
	l.readMu.Lock()
	defer l.readMu.Unlock()
	for len(l.plain) == 0 {
		if l.failed != nil {
			return 0, l.failed
		}
		l.plain, l.failed = l.readToken()
	}
	n := copy(b, l.plain)
	l.plain = l.plain[n:]
	return n, nil
}

func (l *layer) readToken() ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(l.Conn, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n > maxFrame {
		return nil, fmt.Errorf("krb5: frame of %d octets exceeds the %d agreed", n, maxFrame)
	}
	token := make([]byte, n)
	if _, err := io.ReadFull(l.Conn, token); err != nil {
		return nil, err
	}
	plain, sealed, err := l.protect.unwrap(token)
	if err == nil && sealed != l.sealed {
		err = fmt.Errorf("krb5: token not protected as agreed: %w", errToken)
	}
	return plain, err
}

// Write implements net.Conn.
func (l *layer) Write(b []byte) (int, error) {
	l.writeMu.Lock()
	defer l.writeMu.Unlock()
	written := 0
	for written < len(b) {
		part := b[written:min(len(b), written+l.chunk)]
		token, err := l.protect.wrap(part, l.sealed)
		if err != nil {
			return written, err
		}
		out := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(token)), uint32(len(token))) //nolint:gosec // G115: bounded by chunk
		if _, err := l.Conn.Write(append(out, token...)); err != nil {
			return written, err
		}
		written += len(part)
	}
	return written, nil
}
