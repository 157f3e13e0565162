//go:build integration

package chaos_test

import (
	"encoding/base64"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kpopd/kpopd/integration"
	"github.com/kpopd/kpopd/integration/network"
	"github.com/kpopd/kpopd/integration/player"
)

// connections are those that are cut, half closed, or slow.
func connections() []row {
	reset := func(p *player.Peer) {
		if tcp, ok := p.Conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = p.Close()
	}
	half := func(p *player.Peer) {
		if tcp, ok := p.Conn.(*net.TCPConn); ok {
			_ = tcp.CloseWrite()
		}
		p.Rest()
	}
	marked := func(t *testing.T) *player.Peer {
		p := player.Login(t, realm, "alice")
		p.Play("C: DELE 2\nS: +OK\n")
		return p
	}
	return []row{
		{"reset in RETR", func(t *testing.T) {
			p := marked(t)
			p.Play("C: RETR 4\nS: +OK\n")
			reset(p)
		}, all},
		{"half closed in RETR", func(t *testing.T) {
			p := marked(t)
			p.Send("RETR 4\r\n")
			half(p)
		}, all},
		{"reset in AUTH", func(t *testing.T) {
			p := player.Dial(t, realm.Ports.POP3)
			p.Play("S: +OK\nC: AUTH GSSAPI\nS: +\n")
			reset(p)
		}, all},
		{"reset in half a QUIT", func(t *testing.T) {
			p := marked(t)
			p.Send("QUI")
			reset(p)
		}, all},
		{"QUIT whole, half closed behind it", func(t *testing.T) {
			p := marked(t)
			p.Send("QUIT\r\n")
			half(p)
		}, []int{1, 3, 4, 5, 6}},
		{"one octet at a time", func(t *testing.T) {
			p := marked(t)
			for _, c := range "RSET\r\nDELE 6\r\nQUIT\r\n" {
				p.Send(string(c))
			}
			p.Play("S: +OK\nS: +OK\nS: +OK\n")
		}, []int{1, 2, 3, 4, 5}},
		{"client that goes on behind QUIT", func(t *testing.T) {
			p := marked(t)
			p.Send("QUIT\r\n" + strings.Repeat("NOOP\r\n", 5000))
			p.Expect("+OK")
		}, []int{1, 3, 4, 5, 6}},
	}
}

// wires are networks that cut, delay and gather what they carry.
func wires() []row {
	var rows []row
	for _, wire := range []struct {
		name string
		player.Wire
	}{
		{"cut into segments of a few octets", player.Wire{Cut: 40}},
		{"delayed and cut into packets", player.Wire{Cut: 1400, Delay: 20 * time.Millisecond}},
		{"held back, then sent at once", player.Wire{Hold: 30 * time.Millisecond}},
	} {
		rows = append(rows, fromAfar(wire.name, func(*testing.T) player.Wire { return wire.Wire })...)
	}
	return rows
}

// paths are networks that treat packets badly. The daemon's own sockets are at the
// near end of them.
func paths() []row {
	if !alone("-n") {
		return nil
	}
	var rows []row
	for _, path := range []struct {
		name string
		network.Path
	}{
		{"over packets lost, doubled and out of order", network.Path{Lost: 0.01, Doubled: 0.01, Delay: 4 * time.Millisecond}},
		{"over a network that is gone now and then", network.Path{Gone: 100 * time.Millisecond, Every: 1000}},
	} {
		rows = append(rows, fromAfar(path.name, func(t *testing.T) player.Wire {
			far := path.Lay(t)
			t.Cleanup(func() {
				if far.Lost() == 0 {
					t.Error("no packet was lost")
				}
			})
			return player.Wire{Dial: far.Dial}
		})...)
	}
	return rows
}

// fromAfar are the sessions that are played over a network.
func fromAfar(name string, wire func(t *testing.T) player.Wire) []row {
	over := func(play func(t *testing.T, far *integration.Realm)) func(t *testing.T) {
		return func(t *testing.T) {
			far, w := *realm, wire(t)
			far.Ports.KPOP, far.Ports.POP3 = w.Lay(t, realm.Ports.KPOP), w.Lay(t, realm.Ports.POP3)
			play(t, &far)
		}
	}
	return []row{
		{"KPOP, RETR and QUIT " + name, over(ticketFromAfar), []int{1, 3, 5, 6}},
		{"STLS and SASL " + name, over(passwordFromAfar), all},
		{"GSSAPI's layer " + name, over(layerFromAfar), []int{1, 2, 3, 4, 5}},
	}
}

// ticketFromAfar reads alice's messages, and takes away two.
func ticketFromAfar(t *testing.T, far *integration.Realm) {
	p := player.Login(t, far, "alice")
	p.Send("DELE 2\r\nRETR 4\r\nTOP 1 0\r\nLIST\r\nUIDL 3\r\nDELE 4\r\n")
	p.Play("S: +OK\nS: +OK\n")
	if string(p.Message()) != text("alice", 4) {
		t.Error("message 4 is not what was delivered")
	}
	p.Play("S: +OK\nS: ...\nS: +OK\nS: ...\nS: +OK 3\nS: +OK\nC: QUIT\nS: +OK\n")
	if rest := p.Rest(); rest != "" {
		t.Errorf("behind the last reply: %.100q", rest)
	}
}

// passwordFromAfar logs alice in within TLS and is lost with marks.
func passwordFromAfar(t *testing.T, far *integration.Realm) {
	password, err := realm.Password("alice")
	if err != nil {
		t.Fatal(err)
	}
	p := player.Dial(t, far.Ports.POP3)
	p.Play("S: +OK\nC: STLS\nS: +OK\n")
	p.Secure(realm)
	p.Play("C: AUTH PLAIN\nS: +\nC: " + base64.StdEncoding.EncodeToString([]byte("\x00alice\x00"+password)) + "\nS: +OK\n")
	p.Play("C: DELE 1\nS: +OK\nC: RETR 4\nS: +OK\n")
	if string(p.Message()) != text("alice", 4) {
		t.Error("message 4 is not what was delivered")
	}
	_ = p.Close()
}

// layerFromAfar reads alice's messages under GSSAPI's confidentiality, whose
// tokens the network knows nothing of.
func layerFromAfar(t *testing.T, far *integration.Realm) {
	dir := t.TempDir()
	tool, program := realm.Tool(filepath.Join(dir, "cc")), filepath.Join(dir, "gsspop")
	run := func(name string, arguments ...string) string {
		t.Helper()
		out, err := tool.Run(t.Context(), name, arguments...)
		if err != nil {
			t.Fatal(err, out)
		}
		return out
	}
	source, err := filepath.Abs("../testdata/gsspop.c")
	if err != nil {
		t.Fatal(err)
	}
	flags := strings.Fields(run("krb5-config.mit", "--cflags", "--libs", "gssapi"))
	run("gcc", append([]string{"-O1", "-o", program, source}, flags...)...)
	run("kinit", "-k", "-t", realm.Path("alice.keytab"), "alice")
	out, err := tool.Input(t.Context(), "RETR 4\r\nDELE 6\r\nQUIT\r\n", program, strconv.Itoa(far.Ports.POP3), "4", "1", "alice")
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("+OK %d octets\r\n%s.\r\n+OK Marked\r\n+OK Goodbye\r\n", len(text("alice", 4)), text("alice", 4))
	if !strings.HasSuffix(out, want) {
		t.Errorf("%d octets, not the %d that were expected at the end", len(out), len(want))
	}
}
