//go:build integration

package chaos_test

import (
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kpopd/kpopd/integration/player"
)

// signals are SIGHUP, SIGTERM and SIGKILL in every state of a session.
func signals() []row {
	type moment struct {
		name  string
		begin func(t *testing.T) *player.Peer
	}
	moments := []moment{
		{"before the ticket", func(t *testing.T) *player.Peer { return player.Dial(t, realm.Ports.KPOP) }},
		{"in sendauth", func(t *testing.T) *player.Peer {
			p := player.Dial(t, realm.Ports.KPOP)
			p.Send(player.Hello)
			return p
		}},
		{"in SASL", func(t *testing.T) *player.Peer {
			p := player.Dial(t, realm.Ports.POP3)
			p.Play("S: +OK\nC: AUTH GSSAPI\nS: +\n")
			return p
		}},
		{"after USER", func(t *testing.T) *player.Peer {
			p, _ := player.Sendauth(t, realm, player.APReq(t, realm, "alice", "pop"))
			p.Play("S: +OK\nC: USER alice\nS: +OK\n")
			return p
		}},
		{"with marks", func(t *testing.T) *player.Peer {
			p := player.Login(t, realm, "alice")
			p.Play("C: DELE 1\nS: +OK\nC: DELE 5\nS: +OK\n")
			return p
		}},
		{"in RETR", func(t *testing.T) *player.Peer {
			p := player.Login(t, realm, "alice")
			p.Play("C: DELE 1\nS: +OK\nC: RETR 4\nS: +OK\n")
			return p
		}},
	}
	var rows []row
	for _, m := range moments {
		rows = append(rows,
			row{"SIGHUP " + m.name, func(t *testing.T) {
				p := m.begin(t)
				if err := realm.Signal("kpopd", syscall.SIGHUP); err != nil {
					t.Fatal(err)
				}
				player.Login(t, realm, "bob").Play("C: QUIT\nS: +OK\n")
				_ = p.Close()
			}, all},
			row{"SIGTERM " + m.name, func(t *testing.T) {
				p := m.begin(t)
				if err := realm.Signal("kpopd", syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
				_ = p.Close()
				if err := realm.Restart(); err != nil {
					t.Fatal(err)
				}
			}, all},
			row{"SIGKILL " + m.name, func(t *testing.T) {
				m.begin(t)
				if err := realm.Signal("kpopd", syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
				player.Closed(t, realm.Ports.KPOP)
				if err := realm.StartKpopd(); err != nil {
					t.Fatal(err)
				}
			}, all})
	}
	return append(rows,
		row{"SIGHUP in QUIT", func(t *testing.T) { signalAtQuit(t, syscall.SIGHUP) }, []int{2, 3, 4, 6}},
		row{"SIGTERM in QUIT", func(t *testing.T) { signalAtQuit(t, syscall.SIGTERM) }, []int{2, 3, 4, 6}},
		row{"SIGKILL in QUIT", killAtQuit, all})
}

// signalAtQuit: a session that has asked for UPDATE gets it, and its answer.
func signalAtQuit(t *testing.T, s syscall.Signal) {
	p := player.Login(t, realm, "alice")
	p.Play("C: DELE 1\nS: +OK\nC: DELE 5\nS: +OK\n")
	p.Send("QUIT\r\n")
	if err := realm.Signal("kpopd", s); err != nil {
		t.Fatal(err)
	}
	p.Expect("+OK")
	if s == syscall.SIGTERM {
		if err := realm.Restart(); err != nil {
			t.Fatal(err)
		}
	}
}

// killAtQuit kills somewhere in UPDATE: the marked messages are gone together or
// there together, and gone if the client was told so.
func killAtQuit(t *testing.T) {
	p := player.Login(t, realm, "alice")
	p.Play("C: DELE 1\nS: +OK\nC: DELE 5\nS: +OK\n")
	p.Send("QUIT\r\n")
	time.Sleep(rand.N(4 * time.Millisecond)) // no condition: anywhere in it is meant
	if err := realm.Signal("kpopd", syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	told := strings.HasPrefix(p.Rest(), "+OK")
	player.Closed(t, realm.Ports.KPOP)
	if err := realm.StartKpopd(); err != nil {
		t.Fatal(err)
	}
	q := player.Login(t, realm, "alice")
	q.Send("STAT\r\n")
	gone := strings.HasPrefix(q.Expect("+OK"), "+OK 4 ")
	q.Play("C: QUIT\nS: +OK\n")
	left := all
	if gone {
		left = []int{2, 3, 4, 6}
	}
	if told && !gone {
		t.Error("messages that are gone by the reply are there")
	}
	whole(t, "alice", left...)
	fill(t, "alice")
}
