package lmtp_test

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/kpopd/kpopd/mailstore/lmtp"
)

// An oneListener gives one connection.
type oneListener struct {
	conns chan net.Conn
	done  chan struct{}
}

func (l *oneListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *oneListener) Close() error {
	select {
	case <-l.done:
	default:
		close(l.done)
	}
	return nil
}

func (l *oneListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// FuzzSession sends any octets: the session ends when they do, and no message is
// there unless 250 was answered for it.
func FuzzSession(f *testing.F) {
	const hello = "LHLO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<alice@mail.test>\r\n"
	f.Add(hello + "DATA\r\nSubject: x\r\n\r\n..\r\n.\r\nQUIT\r\n")
	f.Add(hello + "BDAT 3\r\nabcBDAT 0 LAST\r\nRSET\r\n")
	f.Add(hello + "DATA\r\nhalf")
	f.Add(hello + "DATA\r\nbare\n.\nand\r.\r\n.\r\nNOOP\r\n")
	f.Add(hello + "BDAT 99999999999999999999 LAST\r\n")
	f.Fuzz(func(t *testing.T, octets string) {
		s := newStore()
		server := &lmtp.Server{Store: s, Hostname: "mail.test", Recipient: recipient, Limits: lmtp.Limits{Message: 1 << 16, Timeout: 10 * time.Second}}
		l := &oneListener{conns: make(chan net.Conn, 1), done: make(chan struct{})}
		ended := make(chan error, 1)
		go func() { ended <- server.Serve(l) }()
		ours, theirs := net.Pipe()
		l.conns <- theirs
		go func() {
			_, _ = io.WriteString(ours, octets) // the server may hang up before the end
			_, _ = io.WriteString(ours, "\r\nQUIT\r\n\r\n.\r\nQUIT\r\n")
		}()
		_ = ours.SetReadDeadline(time.Now().Add(5 * time.Second)) // a message that waits for more
		answers, _ := io.ReadAll(ours)
		_ = ours.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-ended; err != nil {
			t.Errorf("serve: %v", err)
		}
		accepted := strings.Count(string(answers), "> OK: queued\r\n")
		if there := len(s.Messages("alice")) + len(s.Messages("bob")); there != accepted {
			t.Errorf("%d messages, %d accepted", there, accepted)
		}
	})
}
