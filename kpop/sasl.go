package kpop

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/kpopd/kpopd/auth"
)

// auth is AUTH (RFC 5034 section 4): without a mechanism it lists them.
func (a *authorization) auth(ctx context.Context, args [][]byte) (state, error) {
	offered := a.mechanisms()
	if len(args) == 0 {
		return a, a.listMechanisms(offered)
	}
	m, err := pick(offered, string(args[0]))
	if err != nil {
		return nil, a.whyNot(string(args[0]))
	}
	var initial []byte // nil: none was sent
	if len(args) == 2 {
		if initial, err = decodeInitial(args[1]); err != nil {
			return nil, errNotBase64
		}
	}
	exchange := m.Begin(a.peer)
	id, err := a.converse(ctx, exchange, initial)
	var r *refusal
	switch {
	case errors.As(err, &r):
		return nil, r
	case errors.Is(err, errConnection):
		return nil, err
	case err != nil:
		return nil, a.fail(ctx, m.Name, err)
	}
	return a.enterLayered(ctx, id, exchange)
}

func (a *authorization) listMechanisms(offered []auth.Mechanism) error {
	b := append(*a.output(), "+OK\r\n"...)
	for _, m := range offered {
		b = append(append(b, m.Name...), "\r\n"...)
	}
	*a.out = append(b, ".\r\n"...)
	return a.relieve()
}

func pick(offered []auth.Mechanism, name string) (auth.Mechanism, error) {
	for _, m := range offered {
		if strings.EqualFold(m.Name, name) {
			return m, nil
		}
	}
	return auth.Mechanism{}, errNoMechanism
}

// whyNot tells a client that asks for a password mechanism in clear what to do.
func (a *authorization) whyNot(name string) *refusal {
	if _, err := pick(a.port.Mechanisms, name); err == nil && a.canSTLS() {
		return errNeedsTLS
	}
	return errNoMechanism
}

// decodeInitial reads an initial response; "=" is one of no octets, which is
// something else than none (RFC 5034 section 4).
func decodeInitial(b []byte) ([]byte, error) {
	if len(b) == 1 && b[0] == '=' {
		return []byte{}, nil
	}
	return decodeBase64(bytes.TrimRight(b, " "))
}

func decodeBase64(b []byte) ([]byte, error) {
	out := make([]byte, base64.StdEncoding.DecodedLen(len(b)))
	n, err := base64.StdEncoding.Strict().Decode(out, b)
	return out[:n], err
}

// errConnection marks what ends the connection in the middle of an exchange.
var errConnection = errors.New("kpop: connection lost during authentication")

// maxSteps bounds an exchange: GSSAPI takes four, LOGIN three.
const maxSteps = 10

// converse runs an exchange to its end. A "*" alone cancels it (RFC 5034
// section 4).
func (a *authorization) converse(ctx context.Context, e auth.Exchange, response []byte) (*auth.Identity, error) {
	for range maxSteps {
		challenge, id, err := e.Next(ctx, response)
		if err != nil {
			return nil, err
		}
		if id != nil {
			return id, nil
		}
		if response, err = a.challenge(challenge); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("kpop: SASL exchange has no end: %w", auth.ErrProtocol)
}

// challenge sends one and reads the response.
func (a *authorization) challenge(challenge []byte) ([]byte, error) {
	b := append(*a.output(), "+ "...)
	*a.out = append(base64.StdEncoding.AppendEncode(b, challenge), "\r\n"...)
	line, err := a.readLine(a.server.Limits.saslLine())
	switch {
	case errors.Is(err, errLong):
		return nil, errLineTooLong
	case err != nil:
		return nil, fmt.Errorf("%w: %w", errConnection, err)
	case len(line) == 1 && line[0] == '*':
		return nil, errCancelled
	}
	response, err := decodeBase64(line)
	if err != nil {
		return nil, errNotBase64
	}
	return response, nil
}

// enterLayered goes through the door and puts the security layer on, which
// covers everything behind our +OK (RFC 4422 section 3.7).
func (a *authorization) enterLayered(ctx context.Context, id *auth.Identity, e auth.Exchange) (state, error) {
	t, err := a.enter(ctx, id)
	if err != nil {
		return nil, err
	}
	layered, ok := e.(auth.Layered)
	if !ok {
		return t, nil
	}
	if err := a.flush(); err != nil {
		return t, err
	}
	// What the client sent ahead is under the layer already.
	if wrapped := layered.Layer(a.readAhead()); wrapped != nil {
		a.discardInput()
		a.rw, a.layered = wrapped, true
	}
	return t, nil
}
