//go:build integration

package integration_test

import (
	"encoding/base64"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/kpopd/kpopd/integration"
	"github.com/kpopd/kpopd/integration/player"
)

// TestRelay plays somebody on the path: it lets a real client log in by GSSAPI
// on what the client takes for the POP3 port, keeps the token back and presents
// the AP-REQ in it on the KPOP port. The server has never seen it, so only what
// it was made for can tell.
func TestRelay(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	caught := make(chan []byte, 1)
	go func() {
		defer close(caught)
		c, err := l.Accept()
		if err != nil {
			return
		}
		caught <- catchToken(t, player.On(t, c))
	}()
	// The client fails, for the connection ends.
	_, err = realm.Tool(cacheOf(t, "alice")).Run(t.Context(), "curl", "-sS", "--login-options", "AUTH=GSSAPI", "-u", ":",
		fmt.Sprintf("pop3://%s:%d/1", integration.Host, l.Addr().(*net.TCPAddr).Port))
	if err == nil {
		t.Error("curl is content")
	}
	token := <-caught
	at := strings.Index(string(token), "\x01\x00\x6e") // token id, then the AP-REQ (RFC 4121 section 4.1)
	if at < 0 {
		t.Fatalf("no AP-REQ in %x", token)
	}
	if _, code := sendauth(t, token[at+2:]); code != 50 {
		t.Errorf("KRB-ERROR %d, want 50", code)
	}
	logged(t, "KP-122", "alice@"+integration.RealmName)
}

// catchToken is the server's side up to the client's first token.
func catchToken(t *testing.T, p *player.Peer) []byte {
	t.Helper()
	defer p.Close()
	p.Send("+OK ready\r\n")
	for {
		line, err := p.In.ReadString('\n')
		switch line = strings.TrimSpace(line); {
		case err != nil:
			return nil
		case line == "CAPA":
			p.Send("+OK\r\nSASL GSSAPI\r\n.\r\n")
		case line == "AUTH GSSAPI":
			p.Send("+ \r\n")
		default:
			token, err := base64.StdEncoding.DecodeString(line)
			if err != nil {
				t.Errorf("C: %q", line)
			}
			return token
		}
	}
}
