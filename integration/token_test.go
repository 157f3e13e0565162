//go:build integration

package integration_test

import (
	"crypto/md5" //nolint:gosec // RFC 4121 section 4.1.1.2
	"encoding/base64"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"github.com/kpopd/kpopd/integration"
	"github.com/kpopd/kpopd/integration/player"
)

// gssRequest is alice's AP-REQ as GSSAPI has it (RFC 4121 section 4.1.1), mutual, with
// bindings to data when there is some.
func gssRequest(t *testing.T, data string) []byte {
	t.Helper()
	ticket, key, name := player.Ticket(t, realm, "alice", "pop")
	a, err := types.NewAuthenticator(integration.RealmName, name)
	if err != nil {
		t.Fatal(err)
	}
	var bound [md5.Size]byte
	if data != "" {
		bound = md5.Sum(append(binary.LittleEndian.AppendUint32(make([]byte, 16), uint32(len(data))), data...)) //nolint:gosec // see above
	}
	sum := append(binary.LittleEndian.AppendUint32(nil, uint32(len(bound))), bound[:]...)
	a.Cksum = types.Checksum{CksumType: 0x8003, Checksum: binary.LittleEndian.AppendUint32(sum, 0x3a)}
	request, err := messages.NewAPReq(ticket, key, a)
	if err != nil {
		t.Fatal(err)
	}
	return player.Marshal(t, request)
}

// gs2Message is the client's message of GS2-KRB5 (RFC 5801 section 4) with a header
// and no channel.
func gs2Message(t *testing.T, header string) string {
	t.Helper()
	return base64.StdEncoding.EncodeToString([]byte(header + "\x01\x00" + string(gssRequest(t, header))))
}

// gssToken is the initial token of GSSAPI, in the frame of RFC 2743 section 3.1.
func gssToken(request []byte) string {
	body := append([]byte("\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x01\x00"), request...)
	token := append(binary.BigEndian.AppendUint16([]byte{0x60, 0x82}, uint16(len(body))), body...)
	return base64.StdEncoding.EncodeToString(token)
}

// TestOneUseOfAnAuthenticator: what was presented on one port is a replay on every
// other, and what was made for one protocol is worth nothing in the other.
func TestOneUseOfAnAuthenticator(t *testing.T) {
	secured := func() *player.Peer {
		p := dial(t, realm.Ports.POP3S)
		p.Secure(realm)
		return p
	}
	request := gssRequest(t, "")
	dial(t, realm.Ports.POP3).Play("S: +OK\nC: AUTH GSSAPI " + gssToken(request) + "\nS: + \nC: *\nS: -ERR\n")
	for _, p := range []*player.Peer{dial(t, realm.Ports.POP3), secured()} {
		p.Play("S: +OK\nC: AUTH GSSAPI\nS: + \nC: " + gssToken(request) + "\nS: -ERR [AUTH]\nC: CAPA\nS: +OK\nS: ...\n")
	}
	logged(t, "KP-116", "listener=pop3s")
	if _, code := sendauth(t, request); code != 50 {
		t.Errorf("a SASL login over KPOP: KRB-ERROR %d, want 50", code)
	}
	request = apReq(t, "alice", "pop")
	secured().Play("S: +OK\nC: AUTH GSSAPI " + gssToken(request) + "\nS: -ERR [AUTH]\n")
	logged(t, "KP-152", "listener=pop3s")
	if _, code := sendauth(t, apReq(t, "alice", "pop")); code != 0 {
		t.Errorf("a good ticket afterwards: KRB-ERROR %d", code)
	}
}

// TestGS2Downgrade: a client that knows bindings and saw no GS2-KRB5-PLUS (y) is
// refused where PLUS is offered, for somebody has taken it out of the list, and
// welcome where it is not. The message goes as initial response and by itself.
func TestGS2Downgrade(t *testing.T) {
	for _, c := range []struct {
		name   string
		port   int
		header string
		answer string
	}{
		{"y where PLUS is offered", realm.Ports.POP3, "y,,", "-ERR [AUTH]"},
		{"n where PLUS is offered", realm.Ports.POP3, "n,,", "+ "},
		{"y where PLUS is not offered", negotiate, "y,,", "+ "},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := dial(t, c.port)
			p.Play("S: +OK\nC: STLS\nS: +OK\n")
			p.Secure(realm)
			p.Play("C: AUTH GS2-KRB5 " + gs2Message(t, c.header) + "\nS: " + c.answer + "\n")
			if strings.HasPrefix(c.answer, "+") {
				p.Play("C: *\nS: -ERR\n")
			}
			p.Play("C: AUTH GS2-KRB5\nS: + \nC: " + gs2Message(t, c.header) + "\nS: " + c.answer + "\n")
		})
	}
}
