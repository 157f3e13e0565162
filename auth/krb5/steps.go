package krb5

import (
	"context"
	"log/slog"

	"github.com/kpopd/kpopd/auth"
)

// A step takes one response of the client's.
type step func(context.Context, []byte) ([]byte, *auth.Identity, error)

// steps is what the runs of all mechanisms share: one step follows the other, and
// one that fails, or that ends in an identity, leaves none to go on with.
type steps struct {
	m     *mechanism
	peer  auth.Peer
	next  step // begins with the one that takes the initial response
	asked bool // the client was told to begin
	over  bool
	gss   *gssContext
}

// Next implements auth.Exchange.
func (s *steps) Next(ctx context.Context, response []byte) (challenge []byte, id *auth.Identity, err error) {
	defer func() {
		if p := recover(); p != nil {
			challenge, id, err = nil, nil, s.m.acceptor.caught(s.m.name, p)
		}
		if err != nil || id != nil {
			s.over = true
		}
	}()
	switch {
	case s.over:
		return nil, nil, refuse(idOrder)
	case response == nil && !s.asked: // the client begins (RFC 4752 section 3.1)
		s.asked = true
		return []byte{}, nil, nil
	}
	s.asked = true
	return s.next(ctx, response)
}

// accept establishes the context by a framed initial token.
func (s *steps) accept(ctx context.Context, token []byte) error {
	inner, err := unframe(token)
	if err != nil {
		return refuseFor(idToken, err, slog.Int("octets", len(token)))
	}
	if s.gss, err = s.m.acceptor.acceptToken(ctx, inner, s.peer); err != nil {
		return err
	}
	return s.m.checkBinding(s.gss, s.peer)
}

// silent checks the response to the acceptor's last token, which says nothing.
func (s *steps) silent(response []byte) error {
	if len(response) != 0 {
		return refuse(idOrder).with(s.gss.logAttrs()...)
	}
	return nil
}
