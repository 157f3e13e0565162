package krb5

import (
	"context"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"time"
	"unicode/utf8"

	"github.com/kpopd/kpopd/auth"
)

// Names of the mechanisms.
const (
	nameGSSAPI  = "GSSAPI"
	nameGS2     = "GS2-KRB5"
	nameGS2Plus = "GS2-KRB5-PLUS"
	nameSPNEGO  = "GSS-SPNEGO"
)

// Security layers (RFC 4752 section 3.3).
const (
	layerNone            = 1
	layerIntegrity       = 2
	layerConfidentiality = 4

	// Client: Cyrus SASL in ad_compat mode sends both bits for confidentiality.
	layerBoth = layerIntegrity | layerConfidentiality
)

// maxReceive is the largest layered token that is taken, as announced.
const maxReceive = 65536

// maxSend is the longest layered token that is sent, whatever a client announces.
// Client: nmh 1.8 announces 65536 octets and reads as many at once, into a buffer
// without room for the rest of a token that it has read before. What tokens of this
// size add to the text makes up for that rest.
const maxSend = 2048

// SASLConfig says how the mechanisms of one listener behave.
type SASLConfig struct {
	Binding BindingPolicy

	// NoLayers offers no security layer in clear either.
	NoLayers bool

	// NoPlus says that the listener does not offer GS2-KRB5-PLUS: a client that
	// knows bindings and says that the server does not (y) is right then.
	NoPlus bool

	// Certificate gives the certificate that this server showed to the
	// peer, for tls-server-end-point; nil when that is not offered.
	Certificate func(auth.Peer) *x509.Certificate
}

type mechanism struct {
	acceptor *Acceptor
	cfg      SASLConfig
	name     string
}

// Mechanisms gives GSSAPI (RFC 4752), GS2-KRB5-PLUS and GS2-KRB5 (RFC 5801), and
// GSS-SPNEGO (RFC 4178), in that order.
func (a *Acceptor) Mechanisms(cfg SASLConfig) []auth.Mechanism {
	gss := &mechanism{a, cfg, nameGSSAPI}
	gs2 := &mechanism{a, cfg, nameGS2}
	plus := &mechanism{a, cfg, nameGS2Plus}
	spnego := &mechanism{a, cfg, nameSPNEGO}
	required := func(p auth.Peer) bool { return cfg.Binding != BindingRequire || gss.canBind(p) }
	return []auth.Mechanism{
		{Name: nameGSSAPI, Usable: required, Begin: func(p auth.Peer) auth.Exchange { return newExchange(gss, p) }},
		{Name: nameGS2Plus, Usable: plus.canBind, Begin: func(p auth.Peer) auth.Exchange { return newGS2(plus, p) }},
		{Name: nameGS2, Usable: required, Begin: func(p auth.Peer) auth.Exchange { return newGS2(gs2, p) }},
		{Name: nameSPNEGO, Usable: func(p auth.Peer) bool { return !cfg.NoLayers && required(p) }, Begin: func(p auth.Peer) auth.Exchange { return newSPNEGO(spnego, p) }},
	}
}

// An exchange is one run of GSSAPI.
type exchange struct {
	steps

	offer, chosen byte
	maxSend       int
}

func newExchange(m *mechanism, peer auth.Peer) auth.Exchange {
	e := &exchange{steps: steps{m: m, peer: peer}}
	e.next = e.token
	return e
}

// token takes the initial token.
func (e *exchange) token(ctx context.Context, response []byte) ([]byte, *auth.Identity, error) {
	if err := e.accept(ctx, response); err != nil {
		return nil, nil, err
	}
	if e.gss.reply == nil {
		return e.offerLayers()
	}
	e.next = e.replied
	return e.gss.reply, nil, nil
}

// replied takes the empty response to the AP-REP.
func (e *exchange) replied(_ context.Context, response []byte) ([]byte, *auth.Identity, error) {
	if err := e.silent(response); err != nil {
		return nil, nil, err
	}
	return e.offerLayers()
}

// offerLayers sends the layers and our buffer size; inside TLS none, and size
// zero, as RFC 4752 section 3.3 demands.
func (e *exchange) offerLayers() ([]byte, *auth.Identity, error) {
	e.offer = layerNone
	size := uint32(0)
	if e.peer.TLS == nil && !e.m.cfg.NoLayers {
		e.offer |= layerIntegrity | layerConfidentiality
		size = maxReceive
	}
	var plain [4]byte
	binary.BigEndian.PutUint32(plain[:], size)
	plain[0] = e.offer
	token, err := e.gss.out.wrap(nil, plain[:], false)
	if err != nil {
		return nil, nil, refuseFor(idInternal, err)
	}
	e.next = e.choice
	return token, nil, nil
}

// choice takes the client's layer, buffer size and authorization identity.
func (e *exchange) choice(_ context.Context, response []byte) ([]byte, *auth.Identity, error) {
	plain, err := e.gss.in.unwrap(response, false)
	if err != nil {
		return nil, nil, refuseFor(idWrap, err).with(e.gss.logAttrs()...)
	}
	if len(plain) < 4 {
		return nil, nil, refuseFor(idWrap, errWrap).with(e.gss.logAttrs()...)
	}
	e.chosen = plain[0]
	if e.chosen == layerBoth {
		e.chosen = layerConfidentiality
	}
	size := int(binary.BigEndian.Uint32(plain) & 0xffffff)
	if err := e.checkLayer(size); err != nil {
		return nil, nil, err.with(slog.Int("choice", int(plain[0])), slog.Int("size", size)).with(e.gss.logAttrs()...)
	}
	authzid, err := parseAuthzid(plain[4:])
	if err != nil {
		return nil, nil, refuseFor(idAuthzid, err).with(e.gss.logAttrs()...)
	}
	return nil, e.gss.identity(nameGSSAPI, authzid), nil
}

func (e *exchange) checkLayer(size int) *Refusal {
	switch e.chosen {
	case layerNone: // the size means nothing then; 0, 65535 and 65536 are seen
		return nil
	case layerIntegrity, layerConfidentiality:
	default:
		return refuse(idLayer)
	}
	if e.chosen&e.offer == 0 {
		return refuse(idLayer)
	}
	e.maxSend = min(size, maxSend) - e.gss.out.overhead(e.chosen == layerConfidentiality)
	if e.maxSend < 1 {
		return refuse(idLayer)
	}
	return nil
}

// Layer implements auth.Layered.
func (e *exchange) Layer(inner net.Conn) net.Conn {
	if e.maxSend == 0 {
		return nil
	}
	return newLayer(inner, e.gss, e.chosen == layerConfidentiality, e.maxSend)
}

// logAttrs is what a refusal behind a good ticket says of it.
func (c *Context) logAttrs() []slog.Attr {
	return []slog.Attr{
		slog.String("client", clip(c.Principal())), slog.String("claimed_service", c.Service),
		slog.String("kvno", utoa(c.Kvno)), slog.String("enctype", EnctypeName(c.Enctype)), slog.Int64("skew_s", int64(c.Skew/time.Second)),
	}
}

// maxAuthzid bounds an authorization identity, as principals are bounded.
const maxAuthzid = 255

var errAuthzid = errors.New("krb5: malformed authorization identity")

// parseAuthzid takes the name as sent.
// Client: fetchmail 6.3 counts the terminating NUL; one is taken off.
func parseAuthzid(b []byte) (string, error) {
	if n := len(b); n > 0 && b[n-1] == 0 {
		b = b[:n-1]
	}
	if len(b) > maxAuthzid || !utf8.Valid(b) || hasControl(string(b)) {
		return "", errAuthzid
	}
	return string(b), nil
}
