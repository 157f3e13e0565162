package ldapdir

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
)

// Bounds of one message from a server.
const (
	maxMessage  = 1 << 20 // octets
	maxDepth    = 16      // nesting
	maxElements = 20000   // BER elements; go-ldap makes some 200 octets of each

	// maxAnswer bounds all messages to one question, in octets: two entries are
	// asked for, but references can come without end.
	maxAnswer = 4 << 20
)

var errMessage = errors.New("ldapdir: message from the server refused")

// A guard is a connection that hands over whole messages only, each bounded
// and of sound shape. The decoder behind it would allocate any length it is
// told, and RFC 4511 section 5.1 forbids what the guard forbids.
type guard struct {
	net.Conn
	in      *bufio.Reader
	message []byte // what is left of the current one
	left    atomic.Int64
}

func newGuard(c net.Conn) *guard {
	g := &guard{Conn: c, in: bufio.NewReader(c)}
	g.refill()
	return g
}

// refill lets a new question have a whole answer.
func (g *guard) refill() { g.left.Store(maxAnswer) }

// Read gives octets of a message that has been checked.
func (g *guard) Read(p []byte) (int, error) {
	if len(g.message) == 0 {
		message, err := readMessage(g.in)
		if err != nil {
			return 0, err
		}
		if g.left.Add(-int64(len(message))) < 0 {
			return 0, fmt.Errorf("%w: more than %d octets to one question", errMessage, maxAnswer)
		}
		g.message = message
	}
	n := copy(p, g.message)
	g.message = g.message[n:]
	return n, nil
}

// readMessage reads exactly one LDAPMessage, and nothing beyond it.
func readMessage(r io.Reader) ([]byte, error) {
	head := make([]byte, 2, 6)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	if head[0] != 0x30 {
		return nil, fmt.Errorf("%w: begins with %#x", errMessage, head[0])
	}
	if head[1] > 0x80 && head[1] <= 0x84 {
		head = head[:2+head[1]&0x7f]
		if _, err := io.ReadFull(r, head[2:]); err != nil {
			return nil, err
		}
	}
	length, _, err := berLength(head[1:])
	if err != nil {
		return nil, err
	}
	if length > maxMessage {
		return nil, fmt.Errorf("%w: %d octets", errMessage, length)
	}
	message := append(head, make([]byte, length)...)
	if _, err := io.ReadFull(r, message[len(head):]); err != nil {
		return nil, err
	}
	elements := 0
	return message, checkBER(message[len(head):], 1, &elements)
}

// checkBER walks through elements side by side.
func checkBER(b []byte, depth int, elements *int) error {
	for len(b) > 0 {
		*elements++
		if *elements > maxElements || depth > maxDepth {
			return fmt.Errorf("%w: too many elements or too deep", errMessage)
		}
		if len(b) < 2 || b[0]&0x1f == 0x1f {
			return fmt.Errorf("%w: cut short, or a tag that LDAP has not", errMessage)
		}
		length, size, err := berLength(b[1:])
		if err != nil {
			return err
		}
		start := 1 + size
		if length > len(b)-start {
			return fmt.Errorf("%w: an element is longer than its place", errMessage)
		}
		if b[0]&0x20 != 0 {
			if err := checkBER(b[start:start+length], depth+1, elements); err != nil {
				return err
			}
		}
		b = b[start+length:]
	}
	return nil
}

// berLength reads a definite length of at most four octets.
func berLength(b []byte) (length, size int, err error) {
	if len(b) == 0 {
		return 0, 0, fmt.Errorf("%w: no length", errMessage)
	}
	if b[0] < 0x80 {
		return int(b[0]), 1, nil
	}
	n := int(b[0] & 0x7f)
	if n == 0 || n > 4 || len(b) < 1+n {
		return 0, 0, fmt.Errorf("%w: indefinite or overlong length", errMessage)
	}
	var value uint64
	for _, c := range b[1 : 1+n] {
		value = value<<8 | uint64(c)
	}
	return int(min(value, maxMessage+1)), 1 + n, nil // never beyond int, on 32 bits too
}
