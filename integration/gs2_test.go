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

// gs2Message is the client's message of GS2-KRB5 (RFC 5801 section 4) with a header
// and no bindings.
func gs2Message(t *testing.T, header string) string {
	t.Helper()
	ticket, key, name := player.Ticket(t, realm, "alice", "pop")
	a, err := types.NewAuthenticator(integration.RealmName, name)
	if err != nil {
		t.Fatal(err)
	}
	bound := md5.Sum(append(binary.LittleEndian.AppendUint32(make([]byte, 16), uint32(len(header))), header...)) //nolint:gosec // see above
	sum := append(binary.LittleEndian.AppendUint32(nil, uint32(len(bound))), bound[:]...)
	a.Cksum = types.Checksum{CksumType: 0x8003, Checksum: binary.LittleEndian.AppendUint32(sum, 0x3a)}
	request, err := messages.NewAPReq(ticket, key, a)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString([]byte(header + "\x01\x00" + string(player.Marshal(t, request))))
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
