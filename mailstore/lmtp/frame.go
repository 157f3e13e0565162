package lmtp

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/emersion/go-smtp"
)

// maxCommand is the longest line outside of a message. RFC 5321 section
// 4.5.3.1.4 asks for 512 octets, and its extensions for a few hundred more.
const maxCommand = 4096

// inBuffer is what is read at once: most messages without attachments.
const inBuffer = 16 << 10

// A mode is what a client is sending.
type mode int

const (
	inCommands mode = iota
	inData          // a message, up to the line with a dot
)

// A conn tells commands from messages before go-smtp does, for what go-smtp
// has one setting for both: it bounds the lines of commands only, where go-smtp
// would bounce mail whose lines are long; it bounds silence, where go-smtp
// bounds the time of a whole message. It gives recipients without a domain one, and
// it knows no BDAT.
type conn struct {
	net.Conn
	server *Server
	in     *bufio.Reader
	line   []byte // of the command that was read last, what is still to be given
	asked  bool   // DATA was read; the answer says whether a message comes
	told   int    // recipients that have their answers, which go-smtp is still to give
	over   bool   // nothing more is read
	mute   bool   // an answer could not be written: none is any more

	mode mode   // under crowd.mu
	dot  dotEnd // of inData
}

func newConn(raw net.Conn, s *Server) *conn {
	return &conn{Conn: raw, server: s, in: bufio.NewReaderSize(raw, inBuffer)}
}

// Close implements net.Conn.
func (c *conn) Close() error {
	all := &c.server.crowd
	all.mu.Lock()
	delete(all.conns, c)
	all.mu.Unlock()
	return c.Conn.Close()
}

func (c *conn) turn(m mode) {
	all := &c.server.crowd
	all.mu.Lock()
	defer all.mu.Unlock()
	c.mode = m
}

// begin is asked before octets are read.
func (c *conn) begin() (mode, error) {
	all := &c.server.crowd
	all.mu.Lock()
	defer all.mu.Unlock()
	if all.draining && c.mode == inCommands {
		return c.mode, os.ErrDeadlineExceeded
	}
	return c.mode, c.Conn.SetReadDeadline(time.Now().Add(c.server.Limits.Timeout))
}

// Read implements net.Conn. It never gives octets of two modes at once, nor of
// two commands.
func (c *conn) Read(b []byte) (int, error) {
	if len(c.line) > 0 {
		n := copy(b, c.line)
		c.line = c.line[n:]
		return n, nil
	}
	if c.over {
		return 0, io.EOF
	}
	m, err := c.begin()
	switch {
	case err != nil:
		return 0, err
	case m == inData:
		return 0, io.ErrUnexpectedEOF // a slip kept Data from reading its message
	}
	if err := c.readCommand(); err != nil {
		return 0, err
	}
	return c.Read(b)
}

// readCommand reads a line. What ends without a line's end is no command.
func (c *conn) readCommand() error {
	line, err := c.in.ReadSlice('\n')
	if len(line) > maxCommand || errors.Is(err, bufio.ErrBufferFull) {
		return smtp.ErrTooLongLine
	}
	if err != nil {
		return err
	}
	c.line = withinBits(withDomain(line))
	switch verb := bytes.ToUpper(line[:min(len(line), 4)]); string(verb) {
	case "DATA":
		c.asked = true
	case "BDAT":
		// What follows are not commands, and nobody knows for sure how much it is.
		c.line, c.over = []byte("XDAT\r\n"), true // an unknown command
	}
	return nil
}

// chunking is RFC 3030's, which go-smtp announces and we do not: it takes such a message
// in beside the reading of commands, and half a chunk for a whole one.
const chunking = "CHUNKING"

// Write implements net.Conn.
func (c *conn) Write(b []byte) (int, error) {
	if c.asked {
		c.asked = false
		if bytes.HasPrefix(b, []byte("354")) {
			c.dot = lineBegins
			c.turn(inData)
		}
	}
	if c.told > 0 {
		if bytes.HasSuffix(b, []byte("\n")) { // one that names a long recipient comes in two parts
			c.told--
		}
		return len(b), nil
	}
	if c.mute {
		return 0, os.ErrDeadlineExceeded
	}
	if out := reply(b, c.server.Limits.Message); len(out) > 0 {
		if _, err := c.Conn.Write(out); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

// tell gives a recipient of a message its answer (RFC 2033 section 4.2), ahead of
// go-smtp, which will write a line for each. One that does not go out is the last: the
// client would take the next recipient's for it.
func (c *conn) tell(recipient string, said error) {
	c.told++
	if c.mute {
		return
	}
	_ = c.Conn.SetWriteDeadline(time.Now().Add(c.server.Limits.Timeout)) // then Write fails as well
	if _, err := c.Conn.Write(recipientLine(recipient, said)); err != nil {
		c.over, c.mute = true, true
	}
}

// recipientLine is one line: what another server said in several is joined.
func recipientLine(recipient string, said error) []byte {
	e := smtp.SMTPError{Code: 250, EnhancedCode: smtp.EnhancedCode{2, 0, 0}, Message: "OK: queued"}
	if refused := (*smtp.SMTPError)(nil); errors.As(said, &refused) {
		e = *refused
	}
	if e.EnhancedCode == smtp.EnhancedCodeNotSet {
		e.EnhancedCode = smtp.EnhancedCode{e.Code / 100, 0, 0}
	}
	text := strings.Join(strings.FieldsFunc(e.Message, func(r rune) bool { return r == '\r' || r == '\n' }), " ")
	return fmt.Appendf(nil, "%d %d.%d.%d <%s> %s\r\n", e.Code, e.EnhancedCode[0], e.EnhancedCode[1], e.EnhancedCode[2], recipient, text)
}

// reply is a line of go-smtp's as it goes out: a command out of its order is 503
// (RFC 5321 section 4.1.4; RFC 2033 section 4.2 for DATA), not 502, and a
// recipient without a domain has none in the answer either. The SIZE that is
// announced is limit, and chunking is not announced.
func reply(line []byte, limit int64) []byte {
	const wrong, size = "502 5.5.1 ", "250-SIZE "
	if string(line) == "250-"+chunking+"\r\n" {
		return nil
	}
	if bytes.HasPrefix(line, []byte(size)) {
		return append(strconv.AppendInt([]byte(size), limit, 10), "\r\n"...)
	}
	text, isWrong := bytes.CutPrefix(line, []byte(wrong))
	if isWrong && (bytes.HasPrefix(text, []byte("Missing ")) || bytes.Contains(text, []byte(" not allowed ")) || bytes.HasPrefix(text, []byte("Please introduce "))) {
		return slices.Concat([]byte("503"), line[len("503"):])
	}
	return bytes.Replace(line, []byte(noDomain+">"), []byte(">"), 1)
}

// A dataReader gives the message that follows DATA, without the dots that were put
// before dots (RFC 5321 section 4.5.2). go-smtp's own looks at each octet in a call of
// its own. It reads to the end before go-smtp does, and leaves that the end; when it
// could not, nothing more is read of the connection.
type dataReader struct{ *conn }

// Read implements io.Reader.
func (r dataReader) Read(b []byte) (n int, err error) {
	c := r.conn
	for n == 0 && len(b) > 0 {
		switch {
		case c.dot == ended:
			return 0, io.EOF
		case c.over:
			return 0, io.ErrUnexpectedEOF
		}
		if n, err = c.readData(b); err != nil {
			c.over = true
			return 0, err
		}
	}
	return n, nil
}

func (c *conn) readData(b []byte) (int, error) {
	if _, err := c.begin(); err != nil {
		return 0, err
	}
	if _, err := c.in.Peek(1); err != nil {
		return 0, midway(err)
	}
	there, _ := c.in.Peek(min(c.in.Buffered(), len(b)))
	n, used := c.dot.unstuff(b, there)
	if _, err := c.in.Discard(used); err != nil {
		return 0, err
	}
	if c.dot == ended {
		c.line = []byte(".\r\n")
		c.turn(inCommands)
	}
	return n, nil
}

// midway is an end that comes too soon.
func midway(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// A dotEnd is how much of a message's end was seen (RFC 5321 section 4.1.1.4):
// CRLF, a dot, CRLF, and nothing else.
type dotEnd int

const (
	lineBegins dotEnd = iota
	dotSeen
	dotReturnSeen // a carriage return after it
	returnSeen    // a carriage return elsewhere
	withinLine
	ended
)

// unstuff copies a message up to its end, or all, without the dots that begin lines.
// It tells the octets it has put into b and those of from that are done with.
func (d *dotEnd) unstuff(b, from []byte) (n, used int) {
	for used < len(from) && n < len(b) && *d != ended {
		o := from[used]
		switch {
		case *d == withinLine && o != '\r':
			// Nothing but a carriage return matters here: most octets are passed over.
			next := bytes.IndexByte(from[used:], '\r')
			if next < 0 {
				next = len(from) - used
			}
			copied := copy(b[n:], from[used:used+next])
			n, used = n+copied, used+copied
		case *d == dotReturnSeen && o != '\n':
			// The carriage return that was held back is the line's after all.
			b[n] = '\r'
			n++
			*d = returnSeen
		default:
			if used++; d.step(o) {
				b[n] = o
				n++
			}
		}
	}
	return n, used
}

// step tells whether the next octet is the message's. Of several carriage returns the
// last one makes the line's end: a message whose last line ends in one has its end
// mark behind them.
func (d *dotEnd) step(o byte) bool {
	switch {
	case *d == lineBegins && o == '.':
		*d = dotSeen
		return false
	case *d == dotSeen && o == '\r':
		*d = dotReturnSeen
		return false
	case *d == dotReturnSeen: // o is a line feed
		*d = ended
		return false
	case o == '\r':
		*d = returnSeen
	case *d == returnSeen && o == '\n':
		*d = lineBegins
	default:
		*d = withinLine
	}
	return true
}

// noDomain stands for the domain of a recipient that came without one.
const noDomain = "@."

// withDomain gives a recipient without a domain one, which go-smtp insists on
// (RFC 5321 section 4.1.1.3).
//
// Client: Cyrus's deliver and sendmail's local mailers name the user alone.
func withDomain(line []byte) []byte {
	const command = "RCPT TO:<"
	if len(line) < len(command) || !bytes.EqualFold(line[:len(command)], []byte(command)) {
		return line
	}
	end := bytes.IndexByte(line, '>')
	if end <= len(command) || bytes.ContainsAny(line[len(command):end], "@\" \t<") {
		return line
	}
	return slices.Concat(line[:end], []byte(noDomain), line[end:])
}

// withinBits makes a SIZE that go-smtp cannot read, one of more than 32 bits and no
// more than twenty digits (RFC 1870 section 3), the largest that it can: the answer is
// 552, not 501. How long a message is counts when it comes.
func withinBits(line []byte) []byte {
	const command, size = "MAIL FROM:<", " SIZE="
	if len(line) < len(command) || !bytes.EqualFold(line[:len(command)], []byte(command)) {
		return line
	}
	at := bytes.LastIndex(bytes.ToUpper(line), []byte(size))
	if at < bytes.IndexByte(line, '>') {
		return line
	}
	value := line[at+len(size):]
	digits := value[:len(value)-len(bytes.TrimLeft(value, "0123456789"))]
	if _, err := strconv.ParseUint(string(digits), 10, 32); !errors.Is(err, strconv.ErrRange) || len(digits) > 20 {
		return line
	}
	return slices.Concat(line[:at+len(size)], strconv.AppendUint(nil, math.MaxUint32, 10), value[len(digits):])
}
