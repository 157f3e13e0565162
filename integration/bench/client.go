package bench

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// patience is the longest that any one server may be silent.
const patience = 60 * time.Second

// A session is one connection of the load client.
type session struct {
	net.Conn
	in *bufio.Reader
}

// dial connects; secure is nil for a connection in clear.
func dial(address string, secure *tls.Config, buffer int) (*session, error) {
	c, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return nil, err
	}
	if err := c.SetDeadline(time.Now().Add(4 * patience)); err != nil {
		return nil, err
	}
	if secure != nil {
		t := tls.Client(c, secure)
		if err := t.Handshake(); err != nil {
			_ = c.Close()
			return nil, err
		}
		c = t
	}
	return &session{Conn: c, in: bufio.NewReaderSize(c, buffer)}, nil
}

// line reads a reply's first line, which must be a success.
func (s *session) line() (string, error) {
	b, err := s.in.ReadSlice('\n')
	if err != nil {
		return "", fmt.Errorf("bench: after %q: %w", b, err)
	}
	if b[0] != '+' {
		return "", fmt.Errorf("bench: the server says %q", b)
	}
	return strings.TrimRight(string(b), "\r\n"), nil
}

func (s *session) send(text string) error {
	_, err := io.WriteString(s.Conn, text)
	return err
}

// do sends a command and reads its one-line reply.
func (s *session) do(command string) (string, error) {
	if err := s.send(command + "\r\n"); err != nil {
		return "", err
	}
	return s.line()
}

// gssapi logs in by AUTH GSSAPI.
func (s *session) gssapi(p *proof) error {
	if _, err := s.line(); err != nil {
		return err
	}
	if _, err := s.do("AUTH GSSAPI"); err != nil {
		return err
	}
	challenge, err := s.respond(p.request)
	if err != nil {
		return err
	}
	if challenge == nil {
		return errors.New("bench: no AP-REP came")
	}
	if _, err := s.respond(nil); err != nil {
		return err
	}
	choice, err := p.choice(challenge)
	if err != nil {
		return err
	}
	_, err = s.respond(choice)
	return err
}

// respond sends a SASL response and gives the next challenge; nil after +OK.
func (s *session) respond(b []byte) ([]byte, error) {
	if err := s.send(encoded(b)); err != nil {
		return nil, err
	}
	line, err := s.line()
	if err != nil {
		return nil, err
	}
	text, isChallenge := strings.CutPrefix(line, "+ ")
	if !isChallenge {
		return nil, nil //nolint:nilnil // +OK is no challenge
	}
	return base64.StdEncoding.DecodeString(text)
}

// kpop logs in by a ticket before the greeting (MIT's sendauth).
func (s *session) kpop(p *proof) error {
	hello := field(field(nil, []byte("KRB5_SENDAUTH_V1.0\x00")), []byte("KPOPV1.0\x00"))
	if _, err := s.Write(hello); err != nil {
		return err
	}
	if status, err := s.in.ReadByte(); err != nil || status != 0 {
		return fmt.Errorf("bench: sendauth: status %d, %w", status, err)
	}
	if _, err := s.Write(field(nil, p.request)); err != nil {
		return err
	}
	refusal, err := s.field()
	if err != nil || len(refusal) > 0 {
		return fmt.Errorf("bench: sendauth: %d octets of refusal, %w", len(refusal), err)
	}
	reply, err := s.field()
	if err != nil {
		return err
	}
	if _, _, err := p.open(reply); err != nil {
		return err
	}
	if _, err := s.line(); err != nil {
		return err
	}
	if _, err := s.do("USER " + p.ticket.user); err != nil {
		return err
	}
	_, err = s.do("PASS ticket") // a rite: the ticket has proved who it is
	return err
}

func field(dst, b []byte) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(b))), b...) //nolint:gosec // G115: tickets are small
}

func (s *session) field() ([]byte, error) {
	var prefix [4]byte
	if _, err := io.ReadFull(s.in, prefix[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(prefix[:])
	if n > 1<<16 {
		return nil, errors.New("bench: sendauth: too long an answer")
	}
	b := make([]byte, n)
	_, err := io.ReadFull(s.in, b)
	return b, err
}

// quit ends the session and waits until the server has let go of it.
func (s *session) quit() error {
	if _, err := s.do("QUIT"); err != nil {
		return err
	}
	return s.gone()
}

// gone waits for the server to close.
func (s *session) gone() error {
	_, err := s.in.ReadByte()
	if closeErr := s.Close(); closeErr != nil && !errors.Is(closeErr, net.ErrClosed) && errors.Is(err, io.EOF) {
		return nil // the other end was faster
	}
	if errors.Is(err, io.EOF) || isReset(err) {
		return nil
	}
	return fmt.Errorf("bench: after QUIT: %w", err)
}

func isReset(err error) bool {
	return err != nil && (strings.Contains(err.Error(), "reset") || strings.Contains(err.Error(), "broken pipe"))
}

// skip reads a multi-line reply of known length.
func (s *session) skip(octets int) error {
	if _, err := s.line(); err != nil {
		return err
	}
	const end = "\r\n.\r\n"
	if _, err := s.in.Discard(octets - len(end)); err != nil {
		return err
	}
	var tail [len(end)]byte
	if _, err := io.ReadFull(s.in, tail[:]); err != nil {
		return err
	}
	if string(tail[:]) != end {
		return fmt.Errorf("bench: a reply of %d octets was expected and ends in %q", octets, tail)
	}
	return nil
}

// lines reads a multi-line reply of unknown length and counts its lines.
func (s *session) lines() (n int, err error) {
	if _, err := s.line(); err != nil {
		return 0, err
	}
	for ; ; n++ {
		b, err := s.in.ReadSlice('\n')
		switch {
		case err != nil:
			return n, err
		case bytes.Equal(b, []byte(".\r\n")):
			return n, nil
		}
	}
}

// pipeline sends commands in batches of some, and skips their replies.
func (s *session) pipeline(batch, n int, command func(dst []byte, i int) []byte, reply func(i int) int) error {
	var out []byte
	for i := 0; i < n; {
		last := min(n, i+batch)
		out = out[:0]
		for k := i; k < last; k++ {
			out = command(out, k)
		}
		if _, err := s.Write(out); err != nil {
			return err
		}
		for ; i < last; i++ {
			if err := s.skip(reply(i)); err != nil {
				return err
			}
		}
	}
	return nil
}
