// Package player plays dialogues with a running kpopd in tests: raw connections,
// lines as C: and S:, and AP-REQs of the realm's people.
package player

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jcmturner/gokrb5/v8/client"
	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"github.com/kpopd/kpopd/integration"
	"github.com/kpopd/kpopd/krb5conf"
)

// Patience is the longest that a dialogue may take, on a machine that has much
// else to do.
const Patience = 60 * time.Second

// Hello is what a KPOP client sends before its AP-REQ: the versions of sendauth
// and of the application, each behind its length.
const Hello = "\x00\x00\x00\x13KRB5_SENDAUTH_V1.0\x00\x00\x00\x00\x09KPOPV1.0\x00"

// A Peer is a raw connection to one of a realm's ports.
type Peer struct {
	net.Conn
	t  testing.TB
	In *bufio.Reader
}

// Dial connects to a port of loopback; the connection ends with the test.
func Dial(t testing.TB, port int) *Peer {
	t.Helper()
	c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		t.Fatal(err)
	}
	return On(t, c)
}

// On plays over a connection that is there; it ends with the test.
func On(t testing.TB, c net.Conn) *Peer {
	t.Helper()
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(Patience)); err != nil {
		t.Fatal(err)
	}
	return &Peer{c, t, bufio.NewReader(c)}
}

// Send writes octets; the server may have closed already.
func (p *Peer) Send(text string) { _, _ = io.WriteString(p, text) }

// Expect reads a line that must begin so.
func (p *Peer) Expect(prefix string) string {
	p.t.Helper()
	line, err := p.In.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, prefix) {
		p.t.Fatalf("S: %q, %v; want %q", line, err, prefix)
	}
	return line
}

// Message reads a message behind its first line, up to the end mark, with the
// dots of RFC 1939 section 3 taken off.
func (p *Peer) Message() []byte {
	p.t.Helper()
	var out []byte
	for {
		line, err := p.In.ReadBytes('\n')
		if err != nil {
			p.t.Fatalf("a message ends without its mark: %v", err)
		}
		if string(line) == ".\r\n" {
			return out
		}
		out = append(out, bytes.TrimPrefix(line, []byte("."))...)
	}
}

// Rest reads until the server closes.
func (p *Peer) Rest() string {
	b, _ := io.ReadAll(p.In)
	return string(b)
}

// Play sends the lines after "C: " and expects those after "S: ", by their
// beginnings; "S: ..." stands for lines up to the end mark.
func (p *Peer) Play(script string) {
	p.t.Helper()
	for line := range strings.Lines(script) {
		who, text := line[:3], strings.TrimSpace(line[3:])
		switch {
		case who == "C: ":
			p.Send(text + "\r\n")
		case text == "...":
			for p.Expect("") != ".\r\n" {
			}
		default:
			p.Expect(text)
		}
	}
}

// Secure puts TLS over the connection; the realm's own authority vouches for the
// server.
func (p *Peer) Secure(r *integration.Realm) {
	p.t.Helper()
	pem, err := os.ReadFile(r.Path("ca.pem"))
	if err != nil {
		p.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	p.Conn = tls.Client(p.Conn, &tls.Config{RootCAs: roots, ServerName: integration.Host, MinVersion: tls.VersionTLS12})
	p.In = bufio.NewReader(p.Conn)
}

// APReq makes a fresh AP-REQ of a user's for a service, by a new ticket.
func APReq(t testing.TB, r *integration.Realm, user, service string) []byte {
	t.Helper()
	ticket, session, name := Ticket(t, r, user, service)
	return Request(t, ticket, session, integration.RealmName, name)
}

// Ticket gets a user's ticket from the KDC; alice-admin is alice/admin.
func Ticket(t testing.TB, r *integration.Realm, user, service string) (messages.Ticket, types.EncryptionKey, types.PrincipalName) {
	t.Helper()
	profile, err := krb5conf.Load(r.Path("krb5.conf"))
	if err != nil {
		t.Fatal(err)
	}
	kt, err := keytab.Load(r.Path(user + ".keytab"))
	if err != nil {
		t.Fatal(err)
	}
	c := client.NewWithKeytab(strings.ReplaceAll(user, "-", "/"), integration.RealmName, kt, profile.Client(), client.DisablePAFXFAST(true))
	defer c.Destroy()
	if err := c.Login(); err != nil {
		t.Fatal(err)
	}
	ticket, session, err := c.GetServiceTicket(service + "/" + integration.Host)
	if err != nil {
		t.Fatal(err)
	}
	return ticket, session, c.Credentials.CName()
}

// Request makes an AP-REQ whose authenticator says what the caller wants.
func Request(t testing.TB, ticket messages.Ticket, key types.EncryptionKey, realmName string, name types.PrincipalName) []byte {
	t.Helper()
	a, err := types.NewAuthenticator(realmName, name)
	if err != nil {
		t.Fatal(err)
	}
	a.SeqNumber = 0
	request, err := messages.NewAPReq(ticket, key, a)
	if err != nil {
		t.Fatal(err)
	}
	return Marshal(t, request)
}

// Marshal gives an AP-REQ's octets.
func Marshal(t testing.TB, r messages.APReq) []byte {
	t.Helper()
	b, err := r.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Prefixed puts sendauth's length of four octets before b.
func Prefixed(b []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)
}

// Sendauth presents an AP-REQ to the KPOP port and gives the KRB-ERROR's code, 0
// when there is none. The greeting is not read yet.
func Sendauth(t testing.TB, r *integration.Realm, request []byte) (*Peer, int32) {
	t.Helper()
	p := Dial(t, r.Ports.KPOP)
	p.Send(Hello)
	if status, err := p.In.ReadByte(); err != nil || status != 0 {
		t.Fatalf("status octet %d, %v", status, err)
	}
	p.Send(string(Prefixed(request)))
	var length [4]byte
	if _, err := io.ReadFull(p.In, length[:]); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, min(binary.BigEndian.Uint32(length[:]), 64<<10))
	if _, err := io.ReadFull(p.In, answer); err != nil {
		t.Fatal(err)
	}
	if len(answer) == 0 {
		return p, 0
	}
	var e messages.KRBError
	if err := e.Unmarshal(answer); err != nil {
		t.Fatal(err)
	}
	return p, e.ErrorCode
}

// Login opens user's own maildrop by KPOP; it must be free.
func Login(t testing.TB, r *integration.Realm, user string) *Peer {
	t.Helper()
	p, code := Sendauth(t, r, APReq(t, r, user, "pop"))
	if code != 0 {
		t.Fatalf("KRB-ERROR %d", code)
	}
	p.Play("S: +OK\nC: USER " + user + "\nS: +OK\nC: PASS x\nS: +OK\n")
	return p
}

// Holds waits until user's maildrop is free and checks how many messages are in
// it.
func Holds(t testing.TB, r *integration.Realm, user string, messages int) {
	t.Helper()
	got := ""
	Until(t, "a free maildrop of "+user, func() bool {
		p, code := Sendauth(t, r, APReq(t, r, user, "pop"))
		if code != 0 {
			t.Fatalf("KRB-ERROR %d", code)
		}
		p.Send("USER " + user + "\r\nPASS x\r\nSTAT\r\nQUIT\r\n")
		got = p.Rest()
		return !strings.Contains(got, "[IN-USE]")
	})
	if !strings.Contains(got, "+OK "+strconv.Itoa(messages)+" ") {
		t.Errorf("%s does not have %d messages: %q", user, messages, got)
	}
}

// Until polls until ok holds; what is said when it never does.
func Until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(Patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// Closed waits until nothing listens on a port any more.
func Closed(t testing.TB, port int) {
	t.Helper()
	Until(t, "port "+strconv.Itoa(port)+" to close", func() bool {
		c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
}

// Logged waits for a line of a realm's kpopd.log that holds all words.
func Logged(t testing.TB, r *integration.Realm, words ...string) {
	t.Helper()
	var text string
	found := func() bool {
		b, err := os.ReadFile(r.Path("kpopd.log"))
		if err != nil {
			t.Fatal(err)
		}
		text = string(b)
		for line := range strings.Lines(text) {
			if holdsAll(line, words) {
				return true
			}
		}
		return false
	}
	for end := time.Now().Add(Patience / 2); !found(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Errorf("no log line with %q; the log ends in %s", words, text[max(0, len(text)-2000):])
			return
		}
	}
}

func holdsAll(line string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(line, w) {
			return false
		}
	}
	return true
}
