package kpop_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/md5"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/kpop"
	"github.com/kpopd/kpopd/mailstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of a test, on a machine and a disk that have much
// else to do.
const patience = 60 * time.Second

// secret is what no log may ever hold.
const secret = "tanstaaf"

// A rig is a server on loopback with everything it needs.
type rig struct {
	testing.TB
	server *kpop.Server
	store  *memStore
	port   *kpop.Port
	addr   string
	log    *logBuffer
	level  slog.LevelVar
	served chan error
}

// newRig serves store on a port made by change; change may be nil.
func newRig(t testing.TB, store *memStore, change func(*kpop.Server, *kpop.Port)) *rig {
	t.Helper()
	r := &rig{TB: t, store: store, log: &logBuffer{}, served: make(chan error, 1)}
	r.level.Set(slog.LevelDebug)
	r.server = &kpop.Server{
		Hostname: "pop.test", Implementation: "kpopd-1.0", Directory: auth.DirectoryFunc(lookup), Store: store,
		Log:    slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: &r.level})),
		Limits: kpop.Limits{FailureDelay: -1},
	}
	r.port = &kpop.Port{
		Name: "pop3", PasswordInClear: true, Password: password,
		Mechanisms: []auth.Mechanism{plain, steps, layered, never},
	}
	if change != nil {
		change(r.server, r.port)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = l.Addr().String()
	go func() { r.served <- r.server.Serve(context.Background(), l, r.port) }()
	t.Cleanup(r.stop)
	return r
}

func (r *rig) stop() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = r.server.Shutdown(ctx)
	<-r.served
}

// dial connects and reads the greeting.
func (r *rig) dial() *client {
	r.Helper()
	nc, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.Fatal(err)
	}
	c := &client{TB: r.TB, Conn: nc}
	c.wrap(nc)
	r.Cleanup(func() { _ = c.Close() })
	return c
}

// login connects and logs alice in.
func (r *rig) login() *client {
	r.Helper()
	c := r.dial()
	c.want("+OK pop.test POP3 server ready")
	c.do("USER alice", "+OK PASS please")
	c.do("PASS "+secret, "+OK Maildrop is locked and ready")
	return c
}

// A client is the other end, in a test.
type client struct {
	testing.TB
	net.Conn
	in *bufio.Reader
}

func (c *client) wrap(nc net.Conn) {
	c.Conn, c.in = nc, bufio.NewReaderSize(nc, 64<<10)
	_ = nc.SetDeadline(time.Now().Add(patience))
}

func (c *client) send(text string) {
	c.Helper()
	if _, err := io.WriteString(c.Conn, text); err != nil {
		c.Fatalf("send %.40q: %v", text, err)
	}
}

func (c *client) line() string {
	c.Helper()
	line, err := c.in.ReadString('\n')
	if err != nil {
		c.Fatalf("after %q: %v", line, err)
	}
	if !strings.HasSuffix(line, "\r\n") {
		c.Fatalf("line %q does not end in CRLF", line)
	}
	return line[:len(line)-2]
}

func (c *client) want(reply string) {
	c.Helper()
	if got := c.line(); got != reply {
		c.Fatalf("got %q, want %q", got, reply)
	}
}

func (c *client) do(command, reply string) {
	c.Helper()
	c.send(command + "\r\n")
	c.want(reply)
}

// dots reads a multi-line reply's octets up to its end mark, as on the wire.
func (c *client) dots() string {
	c.Helper()
	var all strings.Builder
	for {
		line, err := c.in.ReadString('\n')
		if err != nil {
			c.Fatal(err)
		}
		if line == ".\r\n" {
			return all.String()
		}
		all.WriteString(line)
	}
}

func (c *client) wantEOF() {
	c.Helper()
	if rest, err := io.ReadAll(c.in); len(rest) > 0 || (err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && isTimeout(err)) {
		c.Fatalf("got %q and %v, want the end", rest, err)
	}
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

func (c *client) startTLS() error {
	secure := tls.Client(c.Conn, &tls.Config{RootCAs: testRoots(), ServerName: "pop.test"})
	if err := secure.Handshake(); err != nil {
		return err
	}
	c.wrap(secure)
	return nil
}

// eventually polls until f is true.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// A logBuffer keeps what was logged.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// lookup lets each one open the maildrop of that name.
func lookup(_ context.Context, id auth.Identity) (auth.Account, error) {
	name, _, _ := strings.Cut(id.Authcid, "@")
	asked, _, _ := strings.Cut(id.Authzid, "@")
	account := auth.Account{User: name, Mailbox: name}
	switch {
	case asked != "" && asked != name:
		return auth.Account{}, fmt.Errorf("test: %s may not be %s: %w", name, asked, auth.ErrDenied)
	case name == "temp":
		return auth.Account{}, auth.ErrTemporary
	case name == "wrong":
		return auth.Account{}, auth.ErrPermanent
	case name == "away":
		account.Host = "other.test"
	case name == "carol":
		account.Retention, account.LoginDelay = 30*24*time.Hour, 90*time.Second
	case name == "dave":
		account.Retention = -1
	}
	return account, nil
}

func password(_ context.Context, _ auth.Peer, user, given string) (*auth.Identity, error) {
	switch {
	case user == "panic":
		panic("password check fell over")
	case user == "j\u00fcrgen" && given == "p\u00e4ssw\u00f6rter":
	case given != secret:
		return nil, auth.ErrDenied
	}
	name, _, _ := strings.Cut(user, "@")
	return &auth.Identity{Mechanism: "USER", Authcid: name, Detail: []slog.Attr{slog.Int("kvno", 7)}}, nil
}

// exchange is an Exchange made of a function of the round and the response.
type exchange struct {
	round int
	next  func(round int, response []byte) ([]byte, *auth.Identity, error)
}

func (x *exchange) Next(_ context.Context, response []byte) ([]byte, *auth.Identity, error) {
	x.round++
	return x.next(x.round, response)
}

var plain = auth.Mechanism{Name: "PLAIN", Plaintext: true, Begin: func(p auth.Peer) auth.Exchange {
	return &exchange{next: func(_ int, response []byte) ([]byte, *auth.Identity, error) {
		if response == nil {
			return []byte{}, nil, nil
		}
		f := strings.Split(string(response), "\x00")
		if len(f) != 3 {
			return nil, nil, auth.ErrProtocol
		}
		id, err := password(context.Background(), p, f[1], f[2])
		return nil, id, err
	}}
}}

// steps wants an empty response, then a long one, and proves alice.
var steps = auth.Mechanism{Name: "X-STEPS", Begin: func(auth.Peer) auth.Exchange {
	return &exchange{next: func(round int, response []byte) ([]byte, *auth.Identity, error) {
		switch {
		case round == 1 && response == nil:
			return []byte("first"), nil, nil
		case round == 2 && len(response) == 0:
			return []byte("second"), nil, nil
		case round == 3 && string(response) == strings.Repeat("x", len(response)):
			return nil, &auth.Identity{Mechanism: "X-STEPS", Authcid: "alice"}, nil
		}
		return nil, nil, auth.ErrDenied
	}}
}}

var never = auth.Mechanism{
	Name: "X-NEVER", Usable: func(auth.Peer) bool { return false },
	Begin: func(auth.Peer) auth.Exchange { panic("not usable") },
}

// layered proves alice at once and then turns every bit around.
var layered = auth.Mechanism{Name: "X-LAYER", Begin: func(auth.Peer) auth.Exchange {
	return layerExchange{&exchange{next: func(int, []byte) ([]byte, *auth.Identity, error) {
		return nil, &auth.Identity{Mechanism: "X-LAYER", Authcid: "alice"}, nil
	}}}
}}

type layerExchange struct{ *exchange }

func (layerExchange) Layer(inner net.Conn) net.Conn { return flipConn{inner} }

type flipConn struct{ net.Conn }

func flip(p []byte) []byte {
	out := make([]byte, len(p))
	for i, b := range p {
		out[i] = ^b
	}
	return out
}

func (c flipConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	copy(p, flip(p[:n]))
	return n, err
}

func (c flipConn) Write(p []byte) (int, error) { return c.Conn.Write(flip(p)) }

// testAPOP is RFC 1939's example.
type testAPOP struct{}

func (testAPOP) Stamp() string { return "<1896.697170952@dbc.mtview.ca.us>" }

func (testAPOP) Check(_ context.Context, _ auth.Peer, user, digest, stamp string) (*auth.Identity, error) {
	sum := md5.Sum([]byte(stamp + secret))
	if digest != hex.EncodeToString(sum[:]) {
		return nil, auth.ErrDenied
	}
	return &auth.Identity{Mechanism: "APOP", Authcid: user}, nil
}

// ticket is a preamble: a line with a principal's name.
func ticket(_ context.Context, nc net.Conn, _ auth.Peer) (*auth.Identity, error) {
	var name []byte
	for one := make([]byte, 1); ; name = append(name, one[0]) {
		if _, err := nc.Read(one); err != nil {
			return nil, fmt.Errorf("ticket: %w", auth.ErrProtocol)
		}
		if one[0] == '\n' {
			break
		}
	}
	if string(name) == "expired" {
		_, _ = io.WriteString(nc, "-ERR [AUTH] Ticket expired\r\n")
		return nil, auth.ErrDenied
	}
	return &auth.Identity{Mechanism: "KPOP", Authcid: string(name), Realm: "REALM.TEST"}, nil
}

var testCertificate = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	form := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"pop.test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, form, form, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
})

func testRoots() *x509.CertPool {
	pool := x509.NewCertPool()
	leaf, err := x509.ParseCertificate(testCertificate().Certificate[0])
	if err != nil {
		panic(err)
	}
	pool.AddCert(leaf)
	return pool
}

func testTLS() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{testCertificate()}, NextProtos: []string{"pop3"}}
}

var _ mailstore.Store = (*memStore)(nil)
