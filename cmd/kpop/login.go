package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// A login is one run of `kpop login`.
type login struct {
	address string
	user    string
	kpop    bool
	stls    bool
	tls     bool
	ca      string
	retr    int
	out     io.Writer

	conn net.Conn
	in   *bufio.Reader
}

func loginCommand() *cobra.Command {
	l := &login{}
	c := &cobra.Command{
		Use: "login HOST:PORT", Short: "log in with the ticket cache and show the dialogue", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			l.address, l.out = args[0], c.OutOrStdout()
			return l.run()
		},
	}
	f := c.Flags()
	f.BoolVar(&l.kpop, "kpop", false, "send the ticket before the greeting (KPOP); otherwise AUTH GSSAPI")
	f.BoolVar(&l.stls, "stls", false, "STLS before logging in")
	f.BoolVar(&l.tls, "tls", false, "TLS from the first octet (POP3S)")
	f.StringVar(&l.ca, "ca", "", "file with the CA that signed the server's certificate")
	f.StringVar(&l.user, "user", "", "whose maildrop; default: the ticket's own")
	f.IntVar(&l.retr, "retr", 0, "retrieve this message")
	return c
}

// loginTime bounds the whole run.
const loginTime = time.Minute

func (l *login) run() error {
	host, _, err := net.SplitHostPort(l.address)
	if err != nil {
		return fmt.Errorf("%w; say HOST:PORT, such as %s:995 with --tls or %s:1109 with --kpop", err, l.address, l.address)
	}
	if l.conn, err = net.DialTimeout("tcp", l.address, loginTime); err != nil {
		return err
	}
	defer func() { _ = l.conn.Close() }()
	if err := l.conn.SetDeadline(time.Now().Add(loginTime)); err != nil {
		return err
	}
	ticket, err := newTicket(host)
	if err != nil {
		return err
	}
	if l.tls {
		if err := l.upgrade(host); err != nil {
			return err
		}
	}
	if l.kpop {
		if err := ticket.sendauth(l.conn); err != nil {
			return err
		}
		l.say("(ticket of %s for %s sent and accepted)", ticket.principal, ticket.service)
	}
	l.in = bufio.NewReader(l.conn)
	if _, err := l.reply(); err != nil {
		return err
	}
	return l.session(host, ticket)
}

func (l *login) session(host string, ticket *ticket) error {
	if l.stls {
		if _, err := l.command("STLS"); err != nil {
			return err
		}
		if err := l.upgrade(host); err != nil {
			return err
		}
	}
	if err := l.authenticate(ticket); err != nil {
		return err
	}
	if _, err := l.command("STAT"); err != nil {
		return err
	}
	if l.retr > 0 {
		if _, err := l.command(fmt.Sprintf("RETR %d", l.retr)); err != nil {
			return err
		}
		if err := l.message(); err != nil {
			return err
		}
	}
	_, err := l.command("QUIT")
	return err
}

func (l *login) authenticate(ticket *ticket) error {
	if !l.kpop {
		return ticket.gssapi(l)
	}
	user := l.user
	if user == "" {
		user, _, _ = strings.Cut(ticket.principal, "@")
	}
	if _, err := l.command("USER " + user); err != nil {
		return err
	}
	_, err := l.command("PASS ticket") // a rite: the ticket has proved who it is
	return err
}

func (l *login) say(format string, args ...any) { _, _ = fmt.Fprintf(l.out, format+"\n", args...) }

// command sends a line and gives the reply, which must be +OK.
func (l *login) command(line string) (string, error) {
	l.say("C: %s", line)
	if _, err := io.WriteString(l.conn, line+"\r\n"); err != nil {
		return "", err
	}
	return l.reply()
}

func (l *login) reply() (string, error) {
	line, err := l.line()
	if err != nil {
		return "", err
	}
	l.say("S: %s", line)
	if !strings.HasPrefix(line, "+") {
		return "", errors.New("the server refused; its log says why")
	}
	return line, nil
}

// maxReply bounds a line of the server's: a challenge holds an AP-REP.
const maxReply = 64 << 10

func (l *login) line() (string, error) {
	var b strings.Builder
	for b.Len() < maxReply {
		part, prefix, err := l.in.ReadLine()
		if err != nil {
			return "", err
		}
		b.Write(part)
		if !prefix {
			return b.String(), nil
		}
	}
	return "", errors.New("the server's line has no end")
}

// message counts a multi-line reply.
func (l *login) message() error {
	octets := 0
	for {
		line, err := l.line()
		if err != nil {
			return err
		}
		if line == "." {
			l.say("S: (%d octets)\nS: .", octets)
			return nil
		}
		octets += len(strings.TrimPrefix(line, ".")) + 2
	}
}

func (l *login) upgrade(host string) error {
	config := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	if l.ca != "" {
		pem, err := os.ReadFile(l.ca)
		if err != nil {
			return err
		}
		config.RootCAs = x509.NewCertPool()
		config.RootCAs.AppendCertsFromPEM(pem)
	}
	t := tls.Client(l.conn, config)
	if err := t.Handshake(); err != nil {
		return err
	}
	l.conn = t
	if l.in != nil {
		l.in = bufio.NewReader(t)
	}
	l.say("(TLS: %s)", tls.VersionName(t.ConnectionState().Version))
	return nil
}
