package krb5

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
)

// A layer is a connection under a SASL security layer (RFC 4752 section 3.3):
// each way a sequence of length and wrap token. It holds no buffer while it
// waits for the first octet of a token.
type layer struct {
	net.Conn
	confidential bool

	readMu sync.Mutex
	in     *direction
	head   [4]byte
	got    int    // octets of head, then of frame, that have come
	frame  []byte // the token being read
	plain  []byte // what the last token gave and was not read yet
	rerr   error

	writeMu sync.Mutex
	out     *direction
	maxSend int // plaintext octets a token
	werr    error
}

func newLayer(inner net.Conn, g *gssContext, confidential bool, maxSend int) *layer {
	return &layer{Conn: inner, confidential: confidential, in: &g.in, out: &g.out, maxSend: maxSend}
}

// Read implements net.Conn. A deadline that passes inside a token loses
// nothing; a token that fails its check ends the stream for good.
func (l *layer) Read(p []byte) (int, error) {
	l.readMu.Lock()
	defer l.readMu.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	for len(l.plain) == 0 {
		if l.rerr != nil {
			return 0, l.rerr
		}
		if err := l.token(); err != nil {
			return 0, err
		}
	}
	n := copy(p, l.plain)
	if l.plain = l.plain[n:]; len(l.plain) == 0 {
		l.plain = nil
	}
	return n, nil
}

func (l *layer) token() error {
	if l.frame == nil {
		if err := l.fill(l.head[:]); err != nil {
			return err
		}
		size := binary.BigEndian.Uint32(l.head[:])
		if size < wrapHeader || size > maxReceive {
			l.rerr = refuseFor(idWrap, fmt.Errorf("krb5: layered token of %d octets", size))
			return l.rerr
		}
		l.frame, l.got = make([]byte, size), 0
	}
	if err := l.fill(l.frame); err != nil {
		return err
	}
	plain, err := l.in.unwrap(l.frame, l.confidential)
	l.frame, l.got = nil, 0
	if err != nil {
		l.rerr = refuseFor(idWrap, err)
		return l.rerr
	}
	l.plain = plain
	return nil
}

// fill reads on until b is full.
func (l *layer) fill(b []byte) error {
	for l.got < len(b) {
		n, err := l.Conn.Read(b[l.got:])
		l.got += n
		if err != nil && l.got < len(b) {
			if err == io.EOF && (l.got > 0 || l.frame != nil) { //nolint:errorlint // io.EOF comes bare
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// batch bounds what is gathered for one write below.
const batch = 64 << 10

var buffers = sync.Pool{New: func() any { b := make([]byte, 0, batch+batch/4); return &b }}

// Write implements net.Conn. Tokens are as large as the client takes them and
// are written together, for some clients take 1 KiB only.
func (l *layer) Write(p []byte) (written int, err error) {
	l.writeMu.Lock()
	defer l.writeMu.Unlock()
	if l.werr != nil {
		return 0, l.werr
	}
	buf := buffers.Get().(*[]byte) //nolint:forcetypeassert // only these are put
	defer buffers.Put(buf)
	for len(p) > 0 {
		out, taken := (*buf)[:0], 0
		for taken < len(p) && len(out) < batch {
			chunk := p[taken:min(len(p), taken+l.maxSend)]
			at := len(out)
			out = append(out, 0, 0, 0, 0)
			if out, err = l.out.wrap(out, chunk, l.confidential); err != nil {
				l.werr = err
				return written, err
			}
			binary.BigEndian.PutUint32(out[at:], uint32(len(out)-at-4)) //nolint:gosec // at most maxReceive
			taken += len(chunk)
		}
		*buf = out
		if _, err := l.Conn.Write(out); err != nil {
			l.werr = err // part of a token may be out
			return written, err
		}
		written += taken
		p = p[taken:]
	}
	return written, nil
}
