package bench

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"strings"
	"time"
)

// deliveries hand n messages of 4 KiB over by LMTP (RFC 2033), each client on a
// connection and to a maildrop of its own. Both servers have a message on disk
// before they answer. No Message-ID comes twice: Cyrus would drop the second.
func deliveries(clients, n int) func(*trial) error {
	return func(t *trial) error {
		users := t.w.corpus.mail.names()
		if t.server.lmtp == "" {
			return errLeftOut
		}
		text := string(message(1, 4<<10))
		head, body, _ := strings.Cut(strings.ReplaceAll(text, "\r\n.", "\r\n.."), "Message-ID: <1.")
		conns := make([]*session, clients)
		for i := range conns {
			c, err := dialLMTP(t.server.lmtp)
			if err != nil {
				return err
			}
			defer c.Close() //nolint:errcheck // closed after QUIT
			conns[i] = c
		}
		if err := t.start(); err != nil {
			return err
		}
		err := parallel(clients, clients, func(i int) error {
			for k := range n / clients {
				id := fmt.Sprintf("Message-ID: <%d.%d.%d.", t.began.UnixNano(), i, k)
				began := time.Now()
				if err := conns[i].deliver(users[i], head+id+body); err != nil {
					return err
				}
				t.took(began)
			}
			return conns[i].answer("221", "QUIT\r\n")
		})
		if err != nil {
			return err
		}
		return t.stop(float64(n / clients * clients))
	}
}

func dialLMTP(path string) (*session, error) {
	c, err := net.DialTimeout("unix", path, patience)
	if err != nil {
		return nil, err
	}
	s := &session{Conn: c, in: bufio.NewReader(c)}
	if err := c.SetDeadline(time.Now().Add(4 * patience)); err != nil {
		return nil, err
	}
	if err := s.answer("220", ""); err != nil {
		return nil, err
	}
	return s, s.answer("250", "LHLO bench.test\r\n")
}

// answer sends a command, if any, and reads its reply to the last line.
func (s *session) answer(code, command string) error {
	if command != "" {
		if err := s.send(command); err != nil {
			return err
		}
	}
	for {
		b, err := s.in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(b) < 4 || !bytes.HasPrefix(b, []byte(code)) {
			return fmt.Errorf("bench: the server says %q", b)
		}
		if b[3] == ' ' {
			return nil
		}
	}
}

func (s *session) deliver(user, text string) error {
	if err := s.answer("250", "MAIL FROM:<sender@origin.test>\r\n"); err != nil {
		return err
	}
	if err := s.answer("250", "RCPT TO:<"+user+"@realm.test>\r\n"); err != nil {
		return err
	}
	if err := s.answer("354", "DATA\r\n"); err != nil {
		return err
	}
	return s.answer("250", text+".\r\n")
}
