package authtest_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/auth/authtest"
)

// twoSteps is a mechanism of a name and a secret: the least that has state.
type twoSteps struct {
	name []byte
	over bool
}

func (x *twoSteps) Next(ctx context.Context, response []byte) ([]byte, *auth.Identity, error) {
	switch {
	case ctx.Err() != nil:
		return nil, nil, auth.ErrTemporary
	case x.over || len(response) > 255:
		x.over = true
		return nil, nil, auth.ErrProtocol
	case x.name == nil && response == nil:
		return []byte{}, nil, nil
	case x.name == nil:
		x.name = bytes.Clone(response)
		return []byte("secret?"), nil, nil
	}
	x.over = true
	if string(x.name) != "alice" || string(response) != "right" {
		return nil, nil, auth.ErrDenied
	}
	return nil, &auth.Identity{Mechanism: "TWO-STEPS", Authcid: "alice"}, nil
}

func TestExchange(t *testing.T) {
	t.Parallel()
	for _, initial := range []bool{true, false} {
		authtest.Exchange(t, func(*testing.T) authtest.ExchangeCase {
			return authtest.ExchangeCase{
				Mechanism: auth.Mechanism{Name: "TWO-STEPS", Begin: func(auth.Peer) auth.Exchange { return &twoSteps{} }},
				Client: func(_ int, challenge []byte) []byte {
					switch {
					case string(challenge) == "secret?":
						return []byte("right")
					case challenge == nil && !initial:
						return nil
					}
					return []byte("alice")
				},
			}
		})
	}
}
