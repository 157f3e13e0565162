//go:build integration

package integration_test

import (
	"testing"
)

// dialogue is RFC 1939's session after login; "..." stands for lines up to the
// end mark.
const dialogue = `C: STAT
S: +OK 5 5244022
C: LIST 1
S: +OK 1 199
C: LIST
S: +OK
S: ...
C: UIDL
S: +OK
S: ...
C: DELE 1
S: +OK
C: DELE 1
S: -ERR
C: RETR 1
S: -ERR
C: LIST 9
S: -ERR
C: RSET
S: +OK
C: TOP 2 2
S: +OK
S: ...
C: RETR 4
S: +OK
S: ...
C: NOOP
S: +OK
C: STAT
S: +OK 5
C: QUIT
S: +OK`

// The same dialogue over all three ports, by a ticket and by a password under
// TLS.
func TestDialogueOverEveryPort(t *testing.T) {
	fill(t, "carol")
	password, err := realm.Password("carol")
	if err != nil {
		t.Fatal(err)
	}
	login := "C: USER carol\nS: +OK\nC: PASS " + password + "\nS: +OK\n"
	t.Run("KPOP", func(t *testing.T) {
		p, code := sendauth(t, apReq(t, "carol", "pop"))
		if code != 0 {
			t.Fatalf("KRB-ERROR %d", code)
		}
		p.Play("S: +OK\nC: USER carol\nS: +OK\nC: PASS x\nS: +OK\n" + dialogue)
	})
	t.Run("POP3 with STLS", func(t *testing.T) {
		p := dial(t, realm.Ports.POP3)
		p.Play("S: +OK\nC: STLS\nS: +OK\n")
		p.Secure(realm)
		p.Play(login + dialogue)
	})
	t.Run("POP3S", func(t *testing.T) {
		p := dial(t, realm.Ports.POP3S)
		p.Secure(realm)
		p.Play("S: +OK\n" + login + dialogue)
	})
}
