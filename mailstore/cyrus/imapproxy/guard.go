package imapproxy

import (
	"bufio"
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
)

// Bounds of what a server may say. None of our questions has an answer near them.
const (
	maxLiteral = 64 << 10 // octets
	maxDepth   = 64       // of lists in lists
)

var errShape = errors.New("the server's answer is refused: a literal too long, or lists too deep")

// A guard hands on what a server says as long as the client can take it: the
// client's parser makes room for a literal of any length that it is told, and goes
// into lists of any depth, in a goroutine of its own where nobody can catch it.
type guard struct {
	net.Conn
	in    *bufio.Reader
	first string        // is read before anything of the server's
	ready chan struct{} // closed when the client may read on

	size    int64 // of a literal whose braces are open; -1: none is
	quoted  bool
	escaped bool
	closed  bool  // the octet before ended a literal's size
	skip    int64 // octets of a literal that are still to come
	depth   int
}

// Read implements net.Conn.
func (g *guard) Read(p []byte) (int, error) {
	if g.first != "" {
		n := copy(p, g.first)
		g.first = g.first[n:]
		return n, nil
	}
	<-g.ready
	n, err := g.in.Read(p)
	for _, c := range p[:n] {
		if !g.sizes(c) || !g.lists(c) {
			return 0, errShape
		}
	}
	return n, err
}

// sizes looks for literals (RFC 3501 section 4.3) wherever they may be: also where
// lists take them for text.
func (g *guard) sizes(c byte) bool {
	switch {
	case c == '{':
		g.size = 0
	case g.size >= 0 && '0' <= c && c <= '9':
		g.size = 10*g.size + int64(c-'0')
	case g.size >= 0 && c != '+' && c != '}' && c != '\r' && c != '\n':
		g.size = -1
	}
	return g.size <= maxLiteral
}

// lists counts how deep a response's lists are, as the client reads them.
func (g *guard) lists(c byte) bool {
	literal := g.closed && (c == '\r' || c == '\n')
	g.closed = literal && c == '\r'
	switch {
	case g.skip > 0:
		g.skip--
	case c == '\n' && literal:
		g.skip, g.size = max(g.size, 0), -1
	case c == '\n': // a response's end
		g.quoted, g.escaped, g.depth, g.size = false, false, 0, -1
	case g.escaped:
		g.escaped = false
	case g.quoted:
		g.escaped, g.quoted = c == '\\', c != '"'
	case c == '"':
		g.quoted = true
	case c == '}' && g.size >= 0:
		g.closed = true
	case c == '(':
		g.depth++
	case c == ')':
		g.depth = max(g.depth-1, 0)
	}
	return g.depth <= maxDepth
}

// greeted is what the client reads instead of the server's greeting, which may have
// come in clear. With capabilities in it the client asks nothing by itself.
const greeted = "* OK [CAPABILITY IMAP4rev1] ready\r\n"

// greeting reads the server's (RFC 3501 section 7.1).
func greeting(in *bufio.Reader) error {
	if line, err := in.ReadSlice('\n'); err != nil || !strings.HasPrefix(string(line), "* OK") {
		return fmt.Errorf("no greeting: %.100q: %w", line, cmp.Or(err, errNo))
	}
	return nil
}

// startTLS asks for TLS (RFC 3501 section 6.2.1) ahead of the client, so that what
// is decrypted can be guarded. What comes in clear behind the answer ends it: it is
// nobody's.
func startTLS(conn net.Conn, in *bufio.Reader, config *tls.Config) (net.Conn, error) {
	if _, err := conn.Write([]byte("tls STARTTLS\r\n")); err != nil {
		return nil, err
	}
	for {
		line, err := in.ReadSlice('\n')
		switch {
		case err != nil:
			return nil, fmt.Errorf("no answer to STARTTLS: %w", err)
		case strings.HasPrefix(string(line), "* "):
			continue
		case !strings.HasPrefix(string(line), "tls OK"):
			return nil, fmt.Errorf("%w: STARTTLS is answered %.100q", errNo, line)
		case in.Buffered() > 0:
			return nil, fmt.Errorf("%w: there is more behind the answer to STARTTLS", errNo)
		}
		return tls.Client(conn, config), nil
	}
}
