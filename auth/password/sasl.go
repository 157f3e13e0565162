package password

import (
	"bytes"
	"context"
	"fmt"
	"unicode/utf8"

	"github.com/kpopd/kpopd/auth"
)

// Mechanisms gives PLAIN (RFC 4616) and LOGIN, for use under TLS.
func Mechanisms(check auth.PasswordCheck) []auth.Mechanism {
	return []auth.Mechanism{
		{Name: "PLAIN", Plaintext: true, Begin: func(p auth.Peer) auth.Exchange { return &plain{check, p} }},
		{Name: "LOGIN", Plaintext: true, Begin: func(p auth.Peer) auth.Exchange { return &login{check: check, peer: p} }},
	}
}

// maxField bounds names and passwords, in octets (RFC 4616 section 2).
const maxField = 255

type plain struct {
	check auth.PasswordCheck
	peer  auth.Peer
}

// Next implements auth.Exchange: [authzid] NUL authcid NUL passwd.
func (p *plain) Next(ctx context.Context, response []byte) ([]byte, *auth.Identity, error) {
	if response == nil {
		return []byte{}, nil, nil
	}
	parts := bytes.Split(response, []byte{0})
	if len(parts) != 3 || !fields(parts...) {
		return nil, nil, fmt.Errorf("password: malformed PLAIN message: %w", auth.ErrProtocol)
	}
	id, err := p.check(ctx, p.peer, string(parts[1]), string(parts[2]))
	if err != nil {
		return nil, nil, err
	}
	id.Mechanism, id.Authzid = "PLAIN", string(parts[0])
	return nil, id, nil
}

func fields(parts ...[]byte) bool {
	for _, p := range parts {
		if len(p) > maxField || !utf8.Valid(p) {
			return false
		}
	}
	return true
}

// login is the LOGIN mechanism (draft-murchison-sasl-login): two questions.
type login struct {
	check auth.PasswordCheck
	peer  auth.Peer
	user  *string
	asked bool
}

// Next implements auth.Exchange.
func (l *login) Next(ctx context.Context, response []byte) ([]byte, *auth.Identity, error) {
	switch {
	case !fields(response):
		return nil, nil, fmt.Errorf("password: malformed LOGIN response: %w", auth.ErrProtocol)
	case response == nil && !l.asked:
		l.asked = true
		return []byte("Username:"), nil, nil
	case l.user == nil:
		user := string(response)
		l.user = &user
		return []byte("Password:"), nil, nil
	}
	id, err := l.check(ctx, l.peer, *l.user, string(response))
	if err != nil {
		return nil, nil, err
	}
	id.Mechanism = "LOGIN"
	return nil, id, nil
}
