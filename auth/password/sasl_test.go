package password_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/auth/password"
)

// one accepts alice with sesame.
func one(_ context.Context, _ auth.Peer, user, pw string) (*auth.Identity, error) {
	if user != "alice" || pw != "sesame" {
		return nil, auth.ErrDenied
	}
	return &auth.Identity{Mechanism: "USER", Authcid: "alice@R.TEST", Realm: "R.TEST"}, nil
}

func begin(t *testing.T, name string) auth.Exchange {
	t.Helper()
	for _, m := range password.Mechanisms(one) {
		if m.Name == name {
			if !m.Plaintext {
				t.Errorf("%s is not marked as plain text", name)
			}
			return m.Begin(auth.Peer{})
		}
	}
	t.Fatalf("no %s", name)
	return nil
}

// run feeds responses, "-" being none at all, and gives the challenges and the
// outcome.
func run(t *testing.T, name string, responses ...string) (string, *auth.Identity, error) {
	t.Helper()
	e := begin(t, name)
	var challenges []string
	for _, r := range responses {
		b := []byte(r)
		if r == "-" {
			b = nil
		}
		challenge, id, err := e.Next(t.Context(), b)
		if id != nil || err != nil {
			if challenge != nil || id != nil && err != nil {
				t.Errorf("ended with challenge %q, %v, %v", challenge, id, err)
			}
			// What is over stays over.
			if _, again, err := e.Next(t.Context(), []byte(responses[len(responses)-1])); again != nil || err == nil {
				t.Errorf("%s goes on after its end: %v, %v", name, again, err)
			}
			return strings.Join(challenges, ","), id, err
		}
		if challenge == nil {
			t.Errorf("%s: neither challenge nor end", name)
		}
		challenges = append(challenges, string(challenge))
	}
	t.Fatalf("%s: no end", name)
	return "", nil, nil
}

func TestMechanisms(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 256)
	for _, c := range []struct {
		name, mechanism, responses, challenges, authzid string
		want                                            error
	}{
		{"initial response", "PLAIN", "\x00alice\x00sesame", "", "", nil},
		{"asked for", "PLAIN", "-|\x00alice\x00sesame", "", "", nil},
		{"authzid", "PLAIN", "bob\x00alice\x00sesame", "", "bob", nil},
		{"wrong password", "PLAIN", "\x00alice\x00no", "", "", auth.ErrDenied},
		{"empty", "PLAIN", "", "", "", auth.ErrProtocol},
		{"nothing after the question", "PLAIN", "-|-", "", "", auth.ErrProtocol},
		{"two parts", "PLAIN", "alice\x00sesame", "", "", auth.ErrProtocol},
		{"four parts", "PLAIN", "\x00alice\x00sesame\x00", "", "", auth.ErrProtocol},
		{"NUL in the authzid", "PLAIN", "a\x00b\x00alice\x00sesame", "", "", auth.ErrProtocol},
		{"no name", "PLAIN", "\x00\x00sesame", "", "", auth.ErrProtocol},
		{"no password", "PLAIN", "\x00alice\x00", "", "", auth.ErrProtocol},
		{"control octet", "PLAIN", "\x00alice\x00ses\name", "", "", auth.ErrProtocol},
		{"not UTF-8", "PLAIN", "\x00alice\x00\xff", "", "", auth.ErrProtocol},
		{"long name", "PLAIN", "\x00" + long + "\x00x", "", "", auth.ErrProtocol},
		{"long password", "PLAIN", "\x00alice\x00" + long, "", "", auth.ErrProtocol},

		{"two questions", "LOGIN", "-|alice|sesame", "Username:,Password:", "", nil},
		{"initial name", "LOGIN", "alice|sesame", "Password:", "", nil},
		{"wrong password", "LOGIN", "-|alice|no", "Username:,Password:", "", auth.ErrDenied},
		{"empty name", "LOGIN", "", "", "", auth.ErrProtocol},
		{"nothing", "LOGIN", "-|-", "Username:", "", auth.ErrProtocol},
		{"empty password", "LOGIN", "alice||", "Password:", "", auth.ErrProtocol},
		{"NUL", "LOGIN", "ali\x00ce", "", "", auth.ErrProtocol},
		{"long", "LOGIN", "alice|" + long, "Password:", "", auth.ErrProtocol},
	} {
		challenges, id, err := run(t, c.mechanism, strings.Split(c.responses, "|")...)
		if challenges = strings.TrimPrefix(challenges, ","); challenges != c.challenges || !errors.Is(err, c.want) {
			t.Errorf("%s, %s: challenges %q, error %v", c.mechanism, c.name, challenges, err)
		}
		if c.want == nil && (id == nil || id.Mechanism != c.mechanism || id.Authcid != "alice@R.TEST" || id.Authzid != c.authzid || id.Realm != "R.TEST") {
			t.Errorf("%s, %s: identity %+v", c.mechanism, c.name, id)
		}
		if err != nil && (strings.Contains(err.Error(), "sesame") || strings.Contains(err.Error(), "alice")) {
			t.Errorf("%s, %s: error tells: %v", c.mechanism, c.name, err)
		}
	}
}

func FuzzMechanisms(f *testing.F) {
	f.Add("\x00alice\x00sesame", "")
	f.Add("alice", "sesame")
	f.Fuzz(func(t *testing.T, first, second string) {
		for _, m := range password.Mechanisms(one) {
			e := m.Begin(auth.Peer{})
			_, id, err := e.Next(t.Context(), []byte(first))
			if id == nil && err == nil {
				_, id, err = e.Next(t.Context(), []byte(second))
			}
			if (id == nil) == (err == nil) || id != nil && id.Authcid != "alice@R.TEST" {
				t.Errorf("%s ends with %v, %v", m.Name, id, err)
			}
		}
	})
}
