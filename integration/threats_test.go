//go:build integration

package integration_test

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jcmturner/gokrb5/v8/iana/flags"
	"github.com/jcmturner/gokrb5/v8/iana/nametype"
	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"github.com/kpopd/kpopd/integration"
	"github.com/kpopd/kpopd/integration/player"
)

// The ten threats that decide (docs/security.md), each played against the
// running daemon from outside. After each of them the same process must serve a
// good ticket.

// stillServing checks that the daemon was neither ended nor replaced, and that a
// good login works.
func stillServing(t *testing.T) {
	t.Helper()
	before, alive := realm.Pid()
	if !alive {
		t.Fatal("kpopd is not running")
	}
	t.Cleanup(func() {
		t.Helper()
		if after, alive := realm.Pid(); !alive || after != before {
			t.Errorf("kpopd was process %d and is now %d, alive: %v", before, after, alive)
		}
		if _, code := sendauth(t, apReq(t, "carol", "pop")); code != 0 {
			t.Errorf("a good ticket gets KRB-ERROR %d", code)
		}
	})
}

// A ciphertext shorter than its confounder and checksum ended every server built
// on gokrb5's own verification.
func TestThreatT1ShortCipher(t *testing.T) {
	stillServing(t)
	var good messages.APReq
	if err := good.Unmarshal(apReq(t, "alice", "pop")); err != nil {
		t.Fatal(err)
	}
	for _, enctype := range []int32{16, 17, 18, 19, 20, 23} {
		for _, length := range []int{0, 1, 11, 15, 16, 27, 28} {
			short := good
			short.Ticket.EncPart.EType = enctype
			short.Ticket.EncPart.Cipher = good.Ticket.EncPart.Cipher[:length]
			if _, code := sendauth(t, player.Marshal(t, short)); code == 0 {
				t.Errorf("enctype %d with %d octets was let in", enctype, length)
			}
			short = good
			short.EncryptedAuthenticator.Cipher = good.EncryptedAuthenticator.Cipher[:length]
			if _, code := sendauth(t, player.Marshal(t, short)); code == 0 {
				t.Errorf("an authenticator of %d octets was let in", length)
			}
			p := dial(t, realm.Ports.POP3)
			p.Expect("+OK")
			p.Send("AUTH GSSAPI " + base64.StdEncoding.EncodeToString(player.Marshal(t, short)) + "\r\n")
			p.Expect("-ERR")
		}
	}
}

// forged makes a ticket with the server's own key, as its holder could: what is
// refused below is refused for the name alone.
func forged(t *testing.T, realmName string, name types.PrincipalName) (messages.Ticket, types.EncryptionKey) {
	t.Helper()
	kt, err := keytab.Load(realm.Path("server.keytab"))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC()
	f := types.NewKrbFlags()
	types.SetFlag(&f, flags.Initial)
	service := types.NewPrincipalName(nametype.KRB_NT_SRV_INST, "pop/"+integration.Host)
	ticket, key, err := messages.NewTicket(name, realmName, service, integration.RealmName, f, kt, 18, kvno(t, kt, 18),
		now, now, now.Add(time.Hour), now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return ticket, key
}

func kvno(t *testing.T, kt *keytab.Keytab, enctype int32) int {
	t.Helper()
	_, kvno, err := kt.GetEncryptionKey(types.NewPrincipalName(nametype.KRB_NT_SRV_INST, "pop/"+integration.Host), integration.RealmName, 0, enctype)
	if err != nil {
		t.Fatal(err)
	}
	return kvno
}

// The authenticator is the client's own words; who it is stands in the ticket.
func TestThreatT2RealmInTheAuthenticator(t *testing.T) {
	stillServing(t)
	alice := types.NewPrincipalName(nametype.KRB_NT_PRINCIPAL, "alice")
	ticket, key := forged(t, integration.RealmName, alice)
	if _, code := sendauth(t, player.Request(t, ticket, key, "EVIL.TEST", alice)); code != 36 {
		t.Errorf("another realm in the authenticator: KRB-ERROR %d, want 36", code)
	}
	ticket, key = forged(t, "EVIL.TEST", alice)
	if _, code := sendauth(t, player.Request(t, ticket, key, integration.RealmName, alice)); code != 36 {
		t.Errorf("our realm in the authenticator of a foreign ticket: KRB-ERROR %d, want 36", code)
	}
}

// A principal is a whole name: neither realm nor instance is dropped to make a
// user of it.
func TestThreatT3ForeignPrincipals(t *testing.T) {
	stillServing(t)
	fill(t, "alice")
	name := func(parts ...string) types.PrincipalName {
		return types.PrincipalName{NameType: nametype.KRB_NT_PRINCIPAL, NameString: parts}
	}
	for _, c := range []struct {
		realm string
		name  types.PrincipalName
	}{
		{"EVIL.TEST", name("alice")},
		{"realm.test", name("alice")},
		{integration.RealmName, name("alice", "admin")},
		{integration.RealmName, name("alice@" + integration.RealmName)},
		{integration.RealmName, name("WELLKNOWN", "ANONYMOUS")},
		{integration.RealmName, name("alice\x00")},
		{integration.RealmName, name("")},
		{integration.RealmName, name("../alice")},
		{integration.RealmName, name("alice+x")},
	} {
		ticket, key := forged(t, c.realm, c.name)
		p, code := sendauth(t, player.Request(t, ticket, key, c.realm, c.name))
		if code != 0 {
			continue // refused with the ticket
		}
		p.Send("USER alice\r\nPASS x\r\nQUIT\r\n")
		if all := p.Rest(); !strings.Contains(all, "-ERR [AUTH]") || strings.Contains(all, "+OK Maildrop") {
			t.Errorf("%q of %s: %q", c.name.NameString, c.realm, all)
		}
	}
}

// One AP-REQ lets in once, whichever port and however many connections present
// it at the same time.
func TestThreatT4Replay(t *testing.T) {
	stillServing(t)
	const presentations = 16
	octets := apReq(t, "alice", "pop")
	var in atomic.Int32
	var all sync.WaitGroup
	for range presentations {
		p := dial(t, realm.Ports.KPOP)
		all.Go(func() {
			p.Send(kpopHello)
			if status, err := p.In.ReadByte(); err != nil || status != 0 {
				t.Errorf("status octet %d, %v", status, err)
				return
			}
			p.Send(string(player.Prefixed(octets)))
			if length, err := p.In.Peek(4); err == nil && bytes.Equal(length, []byte{0, 0, 0, 0}) {
				in.Add(1)
			}
		})
	}
	all.Wait()
	if n := in.Load(); n != 1 {
		t.Errorf("one AP-REQ was accepted %d times of %d", n, presentations)
	}
}

// What was sent in clear behind STLS is not run inside TLS.
func TestThreatT5CommandsBehindSTLS(t *testing.T) {
	stillServing(t)
	for _, behind := range []string{"CAPA\r\n", "USER alice\r\n", "QU"} {
		p := dial(t, realm.Ports.POP3)
		p.Expect("+OK")
		p.Send("STLS\r\n" + behind)
		if all := p.Rest(); strings.Count(all, "\r\n") > 1 {
			t.Errorf("behind STLS %q was answered: %q", behind, all)
		}
	}
	p := dial(t, realm.Ports.POP3)
	p.Play("S: +OK\nC: STLS\nS: +OK\n")
	p.Secure(realm)
	p.Play("C: PASS x\nS: -ERR\nC: STLS\nS: -ERR\n")
}

// A handshake that fails ends the connection: nothing goes on in clear.
func TestThreatT6FailedHandshake(t *testing.T) {
	stillServing(t)
	p := dial(t, realm.Ports.POP3)
	p.Play("S: +OK\nC: STLS\nS: +OK\n")
	bad := tls.Client(p.Conn, &tls.Config{ServerName: integration.Host, NextProtos: []string{"http/1.1"}, MinVersion: tls.VersionTLS12})
	if err := bad.HandshakeContext(t.Context()); err == nil {
		t.Fatal("a client that wants HTTP and trusts nobody has shaken hands")
	}
	p.Send("CAPA\r\n")
	if all := p.Rest(); strings.Contains(all, "+OK") || strings.Contains(all, "-ERR") {
		t.Errorf("after a failed handshake: %q", all)
	}
}

// TestOldTLS: TLS before 1.2 is refused, and so is a client that came for another
// protocol than POP3, on POP3S and behind STLS alike.
func TestOldTLS(t *testing.T) {
	stillServing(t)
	for _, test := range []struct {
		name   string
		least  uint16
		most   uint16
		alpn   []string
		served bool
	}{
		{"TLS 1.0", tls.VersionTLS10, tls.VersionTLS10, nil, false},
		{"TLS 1.1", tls.VersionTLS11, tls.VersionTLS11, nil, false},
		{"TLS 1.2", tls.VersionTLS12, tls.VersionTLS12, nil, true},
		{"TLS 1.3", tls.VersionTLS13, tls.VersionTLS13, nil, true},
		{"ALPN http/1.1", tls.VersionTLS12, tls.VersionTLS13, []string{"http/1.1"}, false},
		{"ALPN imap", tls.VersionTLS12, tls.VersionTLS12, []string{"imap"}, false},
		{"ALPN pop3", tls.VersionTLS12, tls.VersionTLS13, []string{"pop3"}, true},
	} {
		for _, port := range []int{realm.Ports.POP3, realm.Ports.POP3S} {
			p := dial(t, port)
			if port == realm.Ports.POP3 {
				p.Play("S: +OK\nC: STLS\nS: +OK\n")
			}
			config := realmTLS(t, realm)
			config.MinVersion, config.MaxVersion, config.NextProtos = test.least, test.most, test.alpn
			err := tls.Client(p.Conn, config).HandshakeContext(t.Context())
			if (err == nil) != test.served {
				t.Errorf("%s at port %d: %v", test.name, port, err)
			}
		}
	}
}

// The tail of a line that is too long is no command.
func TestThreatT7TailOfALongLine(t *testing.T) {
	stillServing(t)
	fill(t, "alice")
	for _, length := range []int{513, 4096, 8191, 8192, 65536} {
		p := player.Login(t, realm, "alice")
		p.Send("NOOP " + strings.Repeat("x", length-5) + "DELE 1\r\nSTAT\r\nRSET\r\nQUIT\r\n")
		p.Expect("-ERR")
		p.Expect("+OK 5 ")
		p.Rest()
	}
}

// Lengths are believed only after they are checked: no memory is taken for what
// somebody merely announces.
func TestThreatT8LengthsOf4GiB(t *testing.T) {
	stillServing(t)
	before := residentKiB(t)
	for range 50 {
		for _, text := range []string{"\xff\xff\xff\xff", "\x7f\xff\xff\xff", kpopHello + "\xff\xff\xff\xff", kpopHello + "\x7f\xff\xff\xff", kpopHello + "\x00\x10\x00\x00"} {
			dial(t, realm.Ports.KPOP).Send(text)
		}
	}
	if after := residentKiB(t); after > before+64<<10 {
		t.Errorf("the daemon grew from %d to %d KiB", before, after)
	}
	p := dial(t, realm.Ports.KPOP)
	p.Send(kpopHello + "\x7f\xff\xff\xff")
	if all := p.Rest(); strings.Contains(all, "+OK") {
		t.Errorf("got %q", all)
	}
}

func residentKiB(t *testing.T) int {
	t.Helper()
	pid, _ := realm.Pid()
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "statm"))
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(b))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * (os.Getpagesize() >> 10)
}

// What was proved first stays proved: neither USER nor an authzid nor a password
// makes it somebody else.
func TestThreatT9AnotherIdentityInTheSession(t *testing.T) {
	stillServing(t)
	fill(t, "bob")
	password, err := realm.Password("bob")
	if err != nil {
		t.Fatal(err)
	}
	for _, lines := range []string{
		"USER bob\r\nPASS " + password + "\r\n", "USER bob\r\nPASS x\r\n", "USER alice\x00bob\r\nPASS x\r\n",
		"AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00bob\x00"+password)) + "\r\nSTAT\r\n", "APOP bob 0123456789abcdef0123456789abcdef\r\nSTAT\r\n",
	} {
		p, code := sendauth(t, apReq(t, "alice", "pop"))
		if code != 0 {
			t.Fatalf("KRB-ERROR %d", code)
		}
		p.Send(lines + "QUIT\r\n")
		if all := p.Rest(); !strings.Contains(all, "-ERR") || strings.Contains(all, "Maildrop is locked") {
			t.Errorf("alice's ticket and %q: %q", lines, all)
		}
	}
	p := dial(t, realm.Ports.POP3S)
	p.Secure(realm)
	p.Send("AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("alice\x00bob\x00"+password)) + "\r\n" +
		"AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("alice\x00x\x00bob\x00"+password)) + "\r\nQUIT\r\n")
	if all := p.Rest(); strings.Count(all, "-ERR") < 2 || strings.Contains(all, "Maildrop is locked") {
		t.Errorf("bob's password and alice's maildrop: %q", all)
	}
}

// Only a whole QUIT deletes. The daemon is killed with marks set, and loses
// nothing.
func TestThreatT10OnlyQuitDeletes(t *testing.T) {
	fill(t, "alice")
	ends := map[string]func(*player.Peer){
		"connection closed":   func(p *player.Peer) { _ = p.Close() },
		"QUIT, no line end":   func(p *player.Peer) { p.Send("QUIT"); _ = p.Close() },
		"half a QUIT":         func(p *player.Peer) { p.Send("QUI"); _ = p.Close() },
		"another command":     func(p *player.Peer) { p.Send("QUITE\r\n"); p.Expect("-ERR"); _ = p.Close() },
		"marks taken back":    func(p *player.Peer) { p.Send("RSET\r\nQUIT\r\n"); p.Expect("+OK"); p.Expect("+OK") },
		"the daemon's ending": func(p *player.Peer) { killDaemon(t); p.Rest() },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			p := player.Login(t, realm, "alice")
			p.Send("DELE 1\r\nDELE 2\r\nDELE 3\r\n")
			for range 3 {
				p.Expect("+OK")
			}
			end(p)
			player.Holds(t, realm, "alice", 5)
		})
	}
	out, err := realm.Reconstruct(t.Context(), t.TempDir(), "user.alice")
	if err != nil || strings.TrimSpace(out) != "user.alice" {
		t.Errorf("reconstruct -n -G says %q, %v", out, err)
	}
}

func killDaemon(t *testing.T) {
	t.Helper()
	pid, alive := realm.Pid()
	if !alive {
		t.Fatal("kpopd is not running")
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	player.Closed(t, realm.Ports.KPOP) // its sockets may outlive its name by a moment
	if err := realm.StartKpopd(); err != nil {
		t.Fatal(err)
	}
}
