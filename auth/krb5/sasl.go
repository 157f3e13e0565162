package krb5

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"unicode/utf8"

	"github.com/kpopd/kpopd/auth"
)

// SASLOptions are the choices a listener has for its Kerberos mechanisms.
type SASLOptions struct {
	NoLayers bool // offer no security layer in clear either
	Bindings BindingPolicy

	// Certificate gives the server's certificate of now, for
	// tls-server-end-point; nil without TLS.
	Certificate func() *x509.Certificate
}

// Mechanisms gives the SASL mechanisms of this acceptor in order of preference:
// GSSAPI (RFC 4752), GS2-KRB5-PLUS and GS2-KRB5 (RFC 5801).
func (a *Acceptor) Mechanisms(o SASLOptions) []auth.Mechanism {
	gs2 := func(plus bool) func(auth.Peer) auth.Exchange {
		return func(p auth.Peer) auth.Exchange { return &gs2Exchange{acceptor: a, options: o, peer: p, plus: plus} }
	}
	return []auth.Mechanism{
		{Name: "GSSAPI", Begin: func(p auth.Peer) auth.Exchange { return &gssapiExchange{acceptor: a, options: o, peer: p} }},
		{Name: "GS2-KRB5-PLUS", Usable: o.canBind, Begin: gs2(true)},
		{Name: "GS2-KRB5", Begin: gs2(false)},
	}
}

func (o SASLOptions) certificate() *x509.Certificate {
	if o.Certificate == nil {
		return nil
	}
	return o.Certificate()
}

// Security layers (RFC 4752 section 3.3).
const (
	layerNone            = 1
	layerIntegrity       = 2
	layerConfidentiality = 4
)

// maxFrame is the longest wrapped message we take, in octets (RFC 4752 section
// 3.2 gives three octets to it).
const maxFrame = 65536

// gssapiExchange is one run of RFC 4752: context token, then the layer offer,
// then the choice.
type gssapiExchange struct {
	acceptor *Acceptor
	options  SASLOptions
	peer     auth.Peer

	step     int
	accepted *Accepted
	protect  *protector
	offer    byte
	choice   byte
	peerMax  int
}

// Next implements auth.Exchange.
func (e *gssapiExchange) Next(ctx context.Context, response []byte) ([]byte, *auth.Identity, error) {
	e.step++
	switch {
	case response == nil && e.step == 1:
		e.step--
		return []byte{}, nil, nil // RFC 4752 section 3.1: the client begins
	case e.step == 1:
		return e.begin(ctx, response)
	case e.step == 2 && e.accepted != nil && e.accepted.Mutual:
		if len(response) != 0 {
			return nil, nil, fmt.Errorf("krb5: data where RFC 4752 wants an empty response: %w", auth.ErrProtocol)
		}
		challenge, err := e.offerLayers()
		return challenge, nil, err
	case e.protect != nil && e.offer != 0 && e.choice == 0:
		id, err := e.choose(response)
		return nil, id, err
	}
	return nil, nil, fmt.Errorf("krb5: GSSAPI exchange is over: %w", auth.ErrProtocol)
}

func (e *gssapiExchange) begin(ctx context.Context, token []byte) ([]byte, *auth.Identity, error) {
	inner, ok := unframe(token)
	if !ok {
		return nil, nil, fmt.Errorf("krb5: no Kerberos context token: %w", auth.ErrProtocol)
	}
	request, ok := bytes.CutPrefix(inner, tokenAPReq)
	if !ok {
		return nil, nil, fmt.Errorf("krb5: context token is no AP-REQ: %w", auth.ErrProtocol)
	}
	check := func(c gssChecksum) *Refusal {
		return e.options.Bindings.check(c.bindings, e.peer.TLS, e.options.certificate())
	}
	accepted, reply, protect, err := e.acceptor.establish(ctx, request, e.peer.Remote, check)
	if err != nil {
		return nil, nil, err
	}
	e.accepted, e.protect = accepted, protect
	if accepted.Mutual {
		return frame(tokenAPRep, reply), nil, nil
	}
	challenge, err := e.offerLayers()
	return challenge, nil, err
}

// offerLayers sends the bit mask and our receive size, not sealed (RFC 4752
// section 3.2). Under TLS a layer would only cost.
func (e *gssapiExchange) offerLayers() ([]byte, error) {
	e.offer = layerNone | layerIntegrity | layerConfidentiality
	size := uint32(maxFrame)
	if e.peer.TLS != nil || e.options.NoLayers {
		e.offer, size = layerNone, 0
	}
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], size)
	b[0] = e.offer
	return e.protect.wrap(b[:], false)
}

// choose reads the client's layer, receive size and authzid.
func (e *gssapiExchange) choose(response []byte) (*auth.Identity, error) {
	plain, _, err := e.protect.unwrap(response)
	if err != nil || len(plain) < 4 {
		return nil, errors.Join(auth.ErrDenied, err)
	}
	e.choice = plain[0]
	if e.choice == layerIntegrity|layerConfidentiality {
		// Client: Cyrus SASL's ad_compat sends both bits and means the stronger.
		e.choice = layerConfidentiality
	}
	switch e.choice {
	case layerNone, layerIntegrity, layerConfidentiality:
	default:
		return nil, fmt.Errorf("krb5: no single security layer chosen: %w", auth.ErrDenied)
	}
	if e.choice&e.offer == 0 {
		return nil, fmt.Errorf("krb5: a security layer chosen that was not offered: %w", auth.ErrDenied)
	}
	e.peerMax = int(plain[1])<<16 | int(plain[2])<<8 | int(plain[3])
	if e.choice != layerNone && e.peerMax <= e.protect.overhead(e.choice == layerConfidentiality) {
		return nil, fmt.Errorf("krb5: client's buffer of %d octets holds no message: %w", e.peerMax, auth.ErrDenied)
	}
	authzid, err := cleanAuthzid(plain[4:])
	if err != nil {
		return nil, err
	}
	return e.accepted.identity("GSSAPI", authzid), nil
}

// Layer implements auth.Layered.
func (e *gssapiExchange) Layer(inner net.Conn) net.Conn {
	if e.choice != layerIntegrity && e.choice != layerConfidentiality {
		return nil
	}
	return newLayer(inner, e.protect, e.choice == layerConfidentiality, e.peerMax)
}

// cleanAuthzid takes one trailing NUL, which fetchmail 6.3 counted in, and no
// other.
func cleanAuthzid(b []byte) (string, error) {
	b = bytes.TrimSuffix(b, []byte{0})
	if len(b) > maxName || bytes.IndexByte(b, 0) >= 0 || !utf8.Valid(b) {
		return "", fmt.Errorf("krb5: malformed authzid: %w", auth.ErrDenied)
	}
	return string(b), nil
}

func (c *Accepted) identity(mechanism, authzid string) *auth.Identity {
	return &auth.Identity{Mechanism: mechanism, Authcid: c.Principal, Authzid: authzid, Realm: c.Realm, Detail: c.Detail()}
}
