// Package client is the other side of a POP3 login: it proves a Kerberos ticket
// by KPOP or by AUTH GSSAPI and shows the dialogue, for `kpop login` and for
// tests.
package client

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// ErrRefused is what an -ERR comes to; the error's text has the server's words.
var ErrRefused = errors.New("refused")

// maxLine bounds a line of the server's. Base64 of a token fits, and a message's
// lines may be longer than RFC 5322 allows.
const maxLine = 16 << 20

// A Dialog is a connection to a POP3 server. After an error that is not
// ErrRefused it is of no further use.
type Dialog struct {
	conn    net.Conn
	in      *bufio.Reader
	host    string
	timeout time.Duration

	// Trace, when not nil, is shown each line, without its line end: direction
	// is C or S, secrets and message texts are replaced by a note.
	Trace func(direction, line string)
}

// Options are for Dial.
type Options struct {
	TLS     *tls.Config   // nil: TLS cannot be used
	Timeout time.Duration // for each answer; zero: 30 seconds
	Trace   func(direction, line string)
}

// Dial connects and says nothing yet. With implicit, TLS comes first.
func Dial(ctx context.Context, host, port string, implicit bool, o Options) (*Dialog, error) {
	d := &Dialog{host: host, timeout: o.Timeout, Trace: o.Trace}
	if d.timeout == 0 {
		d.timeout = 30 * time.Second
	}
	dialer := net.Dialer{Timeout: d.timeout}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	d.use(conn)
	if implicit {
		if err := d.handshake(ctx, o.TLS); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	return d, nil
}

func (d *Dialog) use(conn net.Conn) { d.conn, d.in = conn, bufio.NewReader(conn) }

// Close closes the connection.
func (d *Dialog) Close() error { return d.conn.Close() }

func (d *Dialog) trace(direction, format string, args ...any) {
	if d.Trace != nil {
		d.Trace(direction, fmt.Sprintf(format, args...))
	}
}

// handshake begins TLS on the connection.
func (d *Dialog) handshake(ctx context.Context, config *tls.Config) error {
	if config == nil {
		return errors.New("client: no TLS configuration")
	}
	config = config.Clone()
	if config.ServerName == "" {
		config.ServerName = d.host
	}
	conn := tls.Client(d.conn, config)
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("client: TLS: %w", err)
	}
	d.use(conn)
	state := conn.ConnectionState()
	d.trace("-", "%s, %s", tls.VersionName(state.Version), tls.CipherSuiteName(state.CipherSuite))
	return nil
}

// STLS upgrades the connection (RFC 2595 section 4). What the server had sent
// ahead in clear is refused.
func (d *Dialog) STLS(ctx context.Context, config *tls.Config) error {
	if _, err := d.Command("STLS"); err != nil {
		return err
	}
	if d.in.Buffered() > 0 {
		return errors.New("client: the server sent octets in clear after its answer to STLS")
	}
	return d.handshake(ctx, config)
}

// Greeting reads the server's first line.
func (d *Dialog) Greeting() (string, error) { return d.status("") }

// Command sends a line and reads the status line of the answer: the text after
// +OK, or an error that wraps ErrRefused.
func (d *Dialog) Command(line string) (string, error) {
	return d.secret(line, line)
}

// secret is Command with another text in the trace.
func (d *Dialog) secret(line, shown string) (string, error) {
	if err := d.send(line, shown); err != nil {
		return "", err
	}
	return d.status("")
}

func (d *Dialog) send(line, shown string) error {
	d.trace("C", "%s", shown)
	if err := d.conn.SetDeadline(time.Now().Add(d.timeout)); err != nil {
		return fmt.Errorf("client: %w", err)
	}
	if _, err := d.conn.Write([]byte(line + "\r\n")); err != nil {
		return fmt.Errorf("client: sending: %w", err)
	}
	return nil
}

// status reads a status line; challenge, when not empty, is a third kind of
// answer besides +OK and -ERR (RFC 5034 section 4).
func (d *Dialog) status(challenge string) (string, error) {
	line, err := d.line()
	if err != nil {
		return "", err
	}
	if rest, ok := strings.CutPrefix(line, challenge); ok && challenge != "" {
		d.trace("S", "%s(token, %d octets of base64)", challenge, len(rest))
		return rest, nil
	}
	d.trace("S", "%s", line)
	if rest, ok := strings.CutPrefix(line, "+OK"); ok && challenge == "" {
		return strings.TrimPrefix(rest, " "), nil
	}
	if rest, ok := strings.CutPrefix(line, "-ERR"); ok {
		return "", fmt.Errorf("client: %w: %s", ErrRefused, strings.TrimPrefix(rest, " "))
	}
	return "", fmt.Errorf("client: the server's answer is not POP3: %.80q", line)
}

func (d *Dialog) line() (string, error) {
	if err := d.conn.SetDeadline(time.Now().Add(d.timeout)); err != nil {
		return "", fmt.Errorf("client: %w", err)
	}
	var line []byte
	for {
		part, err := d.in.ReadSlice('\n')
		line = append(line, part...)
		if err == nil {
			return strings.TrimSuffix(string(line[:len(line)-1]), "\r"), nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) || len(line) > maxLine {
			return "", fmt.Errorf("client: reading an answer: %w", err)
		}
	}
}

// List runs a command with a multi-line answer and gives its lines.
func (d *Dialog) List(command string) ([]string, error) {
	if _, err := d.Command(command); err != nil {
		return nil, err
	}
	var lines []string
	for {
		line, err := d.line()
		if err != nil {
			return nil, err
		}
		d.trace("S", "%s", line)
		if line == "." {
			return lines, nil
		}
		lines = append(lines, strings.TrimPrefix(line, "."))
	}
}

// Retrieve gives a message with its CRLF line ends, dots unstuffed.
func (d *Dialog) Retrieve(number int) ([]byte, error) {
	if _, err := d.Command(fmt.Sprintf("RETR %d", number)); err != nil {
		return nil, err
	}
	var message []byte
	for lines := 0; ; lines++ {
		line, err := d.line()
		if err != nil {
			return nil, err
		}
		if line == "." {
			d.trace("S", "(%d lines, %d octets)", lines, len(message))
			d.trace("S", ".")
			return message, nil
		}
		message = append(append(message, strings.TrimPrefix(line, ".")...), '\r', '\n')
	}
}
