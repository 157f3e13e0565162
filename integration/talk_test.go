//go:build integration

package integration_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kpopd/kpopd/integration"
)

// A talk is a client of a line protocol. It returns errors instead of ending
// the test, and so serves many goroutines' clients.
type talk struct {
	net.Conn
	in   *bufio.Reader
	tags int
}

func newTalk(address string, config *tls.Config) (*talk, error) {
	return newTalkAt("tcp", address, config)
}

func newTalkAt(network, address string, config *tls.Config) (*talk, error) {
	c, err := net.DialTimeout(network, address, time.Minute)
	if err != nil {
		return nil, err
	}
	if err := c.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		return nil, err
	}
	if config != nil {
		c = tls.Client(c, config)
	}
	return &talk{Conn: c, in: bufio.NewReader(c)}, nil
}

// read reads a line that must begin with want.
func (c *talk) read(want string) (string, error) {
	line, err := c.in.ReadString('\n')
	if err == nil && !strings.HasPrefix(line, want) {
		err = fmt.Errorf("S: %q; want %q", line, want)
	}
	return line, err
}

// say sends a line and reads an answer of one line.
func (c *talk) say(line, want string) (string, error) {
	if _, err := fmt.Fprintf(c, "%s\r\n", line); err != nil {
		return "", err
	}
	answer, err := c.read(want)
	if err != nil {
		err = fmt.Errorf("C: %.80q %w", line, err)
	}
	return answer, err
}

// lines is say with an answer of many lines, up to the one with a dot.
func (c *talk) lines(line string) ([]string, error) {
	if _, err := c.say(line, "+OK"); err != nil {
		return nil, err
	}
	var all []string
	for {
		answer, err := c.read("")
		if err != nil || answer == ".\r\n" {
			return all, err
		}
		all = append(all, strings.TrimSuffix(answer, "\r\n"))
	}
}

// imap sends a command of IMAP and gives the lines before its tagged OK.
func (c *talk) imap(command string) ([]string, error) {
	c.tags++
	tag := fmt.Sprintf("a%d ", c.tags)
	if _, err := fmt.Fprintf(c, "%s%s\r\n", tag, command); err != nil {
		return nil, err
	}
	var all []string
	for {
		line, err := c.read("")
		if err != nil {
			return all, err
		}
		if rest, tagged := strings.CutPrefix(line, tag); tagged {
			if !strings.HasPrefix(rest, "OK") {
				return all, fmt.Errorf("C: %.80q S: %q", command, line)
			}
			return all, nil
		}
		all = append(all, strings.TrimSuffix(line, "\r\n"))
	}
}

// imapLogin is a session of IMAP with user's INBOX selected.
func imapLogin(r *integration.Realm, user string) (*talk, error) {
	c, err := newTalk(r.Cyrus.IMAP, nil)
	if err != nil {
		return nil, err
	}
	if _, err = c.read("* OK"); err == nil {
		_, err = c.imap("LOGIN " + user + " x")
	}
	if err == nil {
		_, err = c.imap("SELECT INBOX")
	}
	if err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("IMAP: %w", err)
	}
	return c, nil
}

// imapSubjects are what Cyrus says is in user's INBOX, in its order.
func imapSubjects(t *testing.T, r *integration.Realm, user string) []string {
	t.Helper()
	c, err := imapLogin(r, user)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // at the test's end
	lines, err := c.imap("FETCH 1:* (BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
	if err != nil && !noMessages(err) {
		t.Fatal(err)
	}
	return subjectsIn(lines)
}

// noMessages: Cyrus refuses to fetch from a mailbox without messages.
func noMessages(err error) bool { return strings.Contains(err.Error(), "NO No matching messages") }

func subjectsIn(lines []string) []string {
	var subjects []string
	for _, line := range lines {
		if s, found := strings.CutPrefix(line, "Subject: "); found {
			subjects = append(subjects, s)
		}
	}
	return subjects
}

// lmtpLogin is a session of LMTP with Cyrus.
func lmtpLogin(r *integration.Realm) (*talk, error) { return lmtpAt("tcp", r.Cyrus.LMTP) }

func lmtpAt(network, address string) (*talk, error) {
	c, err := newTalkAt(network, address, nil)
	if err != nil {
		return nil, err
	}
	if _, err = c.read("220 "); err == nil {
		_, err = fmt.Fprintf(c, "LHLO client.test\r\n")
	}
	for line := "250-"; err == nil && strings.HasPrefix(line, "250-"); {
		line, err = c.read("250")
	}
	if err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("LMTP: %w", err)
	}
	return c, nil
}

// deliver sends a message without a line of one dot by LMTP; nil: it was
// accepted.
func (c *talk) deliver(user, message string) error {
	for _, step := range [][2]string{
		{"MAIL FROM:<sender@client.test>", "250"}, {"RCPT TO:<" + user + ">", "250"}, {"DATA", "354"}, {message + "\r\n.", "250"},
	} {
		if _, err := c.say(step[0], step[1]); err != nil {
			return fmt.Errorf("LMTP: %w", err)
		}
	}
	return nil
}

func lmtp(t *testing.T, r *integration.Realm, user string, messages ...string) {
	t.Helper()
	c, err := lmtpLogin(r)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // at the test's end
	for _, message := range messages {
		if err := c.deliver(user, message); err != nil {
			t.Fatal(err)
		}
	}
}

// popLogin is a session of POP3 with kpopd, logged in by a password under TLS.
func popLogin(r *integration.Realm, user string) (*talk, error) {
	pem, err := os.ReadFile(r.Path("ca.pem"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	password, err := r.Password(user)
	if err != nil {
		return nil, err
	}
	return popPlain(net.JoinHostPort("127.0.0.1", strconv.Itoa(r.Ports.POP3S)), user, password,
		&tls.Config{RootCAs: roots, ServerName: integration.Host, MinVersion: tls.VersionTLS12})
}

// popPlain is a session of POP3, logged in by a password.
func popPlain(address, user, password string, config *tls.Config) (*talk, error) {
	c, err := newTalk(address, config)
	if err != nil {
		return nil, err
	}
	if _, err = c.read("+OK"); err == nil {
		_, err = c.say("USER "+user, "+OK")
	}
	if err == nil {
		_, err = c.say("PASS "+password, "+OK")
	}
	if err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("POP3: %w", err)
	}
	return c, nil
}

func popSession(t *testing.T, r *integration.Realm, user string) *talk {
	t.Helper()
	c, err := popLogin(r, user)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}
