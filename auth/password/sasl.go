package password

import (
	"bytes"
	"context"
	"fmt"
	"unicode"
	"unicode/utf8"

	"github.com/kpopd/kpopd/auth"
)

// Mechanisms gives PLAIN (RFC 4616) and LOGIN, for use under TLS.
func Mechanisms(check auth.PasswordCheck) []auth.Mechanism {
	return []auth.Mechanism{
		{Name: "PLAIN", Plaintext: true, Begin: func(p auth.Peer) auth.Exchange { return &plain{check: check, peer: p} }},
		{Name: "LOGIN", Plaintext: true, Begin: func(p auth.Peer) auth.Exchange { return &login{check: check, peer: p} }},
	}
}

// maxField bounds names and passwords, in octets (RFC 4616 section 2 gives 255
// to each).
const maxField = 255

// field says whether b may be a name or a password: UTF-8, no control octet
// (RFC 4013 section 2.3).
func field(b []byte) bool {
	return len(b) <= maxField && utf8.Valid(b) && bytes.IndexFunc(b, unicode.IsControl) < 0
}

func broken(mechanism string) error {
	return fmt.Errorf("password: malformed %s response: %w", mechanism, auth.ErrProtocol)
}

type plain struct {
	check auth.PasswordCheck
	peer  auth.Peer
	asked bool
	done  bool
}

// Next implements auth.Exchange: [authzid] NUL authcid NUL passwd.
func (p *plain) Next(ctx context.Context, response []byte) ([]byte, *auth.Identity, error) {
	if response == nil && !p.asked && !p.done {
		p.asked = true
		return []byte{}, nil, nil
	}
	parts := bytes.Split(response, []byte{0})
	ok := !p.done && len(parts) == 3
	p.done = true
	for _, part := range parts {
		ok = ok && field(part)
	}
	if !ok || len(parts[1]) == 0 || len(parts[2]) == 0 {
		return nil, nil, broken("PLAIN")
	}
	authzid, err := auth.PrepareName(string(parts[0]))
	if err != nil {
		return nil, nil, err
	}
	id, err := prepared(ctx, p.check, p.peer, parts[1], parts[2])
	if err != nil {
		return nil, nil, err
	}
	id.Mechanism = "PLAIN"
	if authzid != "" { // else what the name as sent asked for, john@host, stays
		id.Authzid = authzid
	}
	return nil, id, nil
}

// prepared checks a name and a password in the form in which they are compared
// (RFC 4616 section 2).
func prepared(ctx context.Context, check auth.PasswordCheck, peer auth.Peer, user, password []byte) (*auth.Identity, error) {
	name, err := auth.PrepareName(string(user))
	if err != nil {
		return nil, err
	}
	secret, err := auth.PreparePassword(string(password))
	if err != nil {
		return nil, err
	}
	return check(ctx, peer, name, secret)
}

// login is the LOGIN mechanism (draft-murchison-sasl-login-00): two questions.
// Client: Outlook and others send the name as an initial response.
type login struct {
	check auth.PasswordCheck
	peer  auth.Peer
	step  int // questions asked
	user  string
}

// Next implements auth.Exchange.
func (l *login) Next(ctx context.Context, response []byte) ([]byte, *auth.Identity, error) {
	if l.step == 0 {
		l.step++
		if response == nil {
			return []byte("Username:"), nil, nil
		}
	}
	step := l.step
	l.step++
	if step > 2 || len(response) == 0 || !field(response) {
		l.step = 3
		return nil, nil, broken("LOGIN")
	}
	if step == 1 {
		l.user = string(response)
		return []byte("Password:"), nil, nil
	}
	id, err := prepared(ctx, l.check, l.peer, []byte(l.user), response)
	if err != nil {
		return nil, nil, err
	}
	id.Mechanism = "LOGIN"
	return nil, id, nil
}
