package lmtp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/kpopd/kpopd/mailstore"
)

// A Forwarder hands mail over to another LMTP server, such as Cyrus's lmtpd,
// whose answers pass through (AnswerError). It is durable when that server is.
type Forwarder struct {
	Address  string        // a unix socket's path, or host:port
	Hostname string        // by which we introduce ourselves
	Timeout  time.Duration // for a command; zero: a minute
}

var (
	_ mailstore.Deliverer = (*Forwarder)(nil)
	_ mailstore.Verifier  = (*Forwarder)(nil)
)

// network is the address's kind.
func (f *Forwarder) network() string {
	if strings.HasPrefix(f.Address, "/") {
		return "unix"
	}
	return "tcp"
}

// begin connects and gives the envelope. The connection ends with ctx; raw is what a
// message is written to.
func (f *Forwarder) begin(ctx context.Context, mailbox, from string, size int64) (client *smtp.Client, raw net.Conn, end func(), err error) {
	timeout := f.Timeout
	if timeout == 0 {
		timeout = time.Minute
	}
	d := net.Dialer{Timeout: timeout}
	raw, err = d.DialContext(ctx, f.network(), f.Address)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("lmtp: %w: %w", mailstore.ErrTemporary, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() }) // whoever reads is told by that
	c := smtp.NewClientLMTP(raw)
	c.CommandTimeout, c.SubmissionTimeout = timeout, timeout+time.Minute
	end = func() {
		_ = c.Close() // the answers were read, or do not come any more
		stop()
	}
	err = c.Hello(f.Hostname)
	if err == nil {
		err = c.Mail(from, &smtp.MailOptions{Size: size, UTF8: !isASCII(from + mailbox)})
	}
	if err == nil {
		err = c.Rcpt(mailbox, nil)
	}
	if err != nil {
		end()
		return nil, nil, nil, passed(err)
	}
	return c, raw, end, nil
}

// Accepts implements mailstore.Verifier.
func (f *Forwarder) Accepts(ctx context.Context, mailbox string, octets int64) error {
	c, _, end, err := f.begin(ctx, mailbox, "", octets)
	if err != nil {
		return err
	}
	defer end()
	_ = c.Quit() // the recipient has been accepted, whatever comes
	return nil
}

// A patient writer waits so long for each piece to be taken: go-smtp bounds commands
// and the last answer only.
type patient struct {
	net.Conn
	each time.Duration
}

// Write implements io.Writer.
func (p patient) Write(b []byte) (int, error) {
	if err := p.SetWriteDeadline(time.Now().Add(p.each)); err != nil {
		return 0, err
	}
	return p.Conn.Write(b)
}

// Deliver implements mailstore.Deliverer. The other server writes the
// Return-Path.
func (f *Forwarder) Deliver(ctx context.Context, mailbox string, message io.Reader, from string) error {
	c, raw, end, err := f.begin(ctx, mailbox, from, 0)
	if err != nil {
		return err
	}
	defer end()
	w, err := c.Data()
	if err != nil {
		return passed(err)
	}
	dots := newDotWriter(patient{raw, c.CommandTimeout})
	_, err = io.Copy(dots, message)
	if err == nil {
		err = dots.finish()
	}
	if err != nil {
		return fmt.Errorf("lmtp: %w: %w", mailstore.ErrTemporary, err)
	}
	if _, err := w.CloseWithLMTPResponse(); err != nil {
		return passed(err)
	}
	_ = c.Quit() // the message was taken
	return nil
}

// passed makes an AnswerError of what the other server said.
func passed(err error) error {
	var said *smtp.SMTPError
	if all := (smtp.LMTPDataError)(nil); errors.As(err, &all) {
		for _, said = range all {
			break // there is one recipient
		}
	}
	if said == nil && !errors.As(err, &said) {
		return fmt.Errorf("lmtp: %w: %w", mailstore.ErrTemporary, err)
	}
	return &AnswerError{Code: said.Code, Enhanced: said.EnhancedCode, Text: said.Message}
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= 0x80 })
}
