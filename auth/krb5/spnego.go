package krb5

import (
	"context"
	"log/slog"
	"net"

	"github.com/kpopd/kpopd/auth"
)

// spnegoMaxToken is the longest layered token that is sent. SPNEGO has no step
// in which the client would say what it takes.
// Client: pop3test 3.6.1 (Cyrus SASL) takes 1024 octets.
const spnegoMaxToken = 1024

// A spnegoExchange is one run of GSS-SPNEGO: Kerberos 5 inside a negotiation
// (RFC 4178) that has one outcome here. As in Cyrus SASL and in Windows there is
// no step for layers and names behind it: the layer is the one that the context's
// flags call for, and the maildrop the principal's own.
//
// Where a layer is agreed on, the next octet proves that the client has the
// session key, and otherwise its MIC does. Without either the AP-REQ would be the
// only proof, and one caught on its way would be worth a login: refused.
type spnegoExchange struct {
	steps

	list      []byte // MechTypeList
	mech      string // Kerberos 5 as the initiator calls it
	preferred bool   // it is the initiator's first choice: MICs may be left out
	named     bool   // supportedMech has gone out
	proved    bool   // the initiator's MIC was right
}

func newSPNEGO(m *mechanism, peer auth.Peer) auth.Exchange {
	e := &spnegoExchange{steps: steps{m: m, peer: peer}}
	e.next = e.propose
	return e
}

// propose takes the initiator's list and, when Kerberos 5 is its first choice,
// the token that came along.
func (e *spnegoExchange) propose(ctx context.Context, response []byte) ([]byte, *auth.Identity, error) {
	t, err := parseNegInit(response)
	if err != nil {
		return nil, nil, refuseFor(idNegToken, err, slog.Int("octets", len(response)))
	}
	at := t.kerberos()
	if at < 0 {
		return nil, nil, refuse(idNegMech, slog.Int("proposed", len(t.mechs)))
	}
	e.list, e.mech, e.preferred = t.list, t.mechs[at], at == 0
	if e.preferred && t.token != nil {
		return e.establish(ctx, t.token, t.mic)
	}
	// RFC 4178 section 5: a choice other than the initiator's first must be
	// confirmed by MICs, and the token it sent along is for that first one.
	answer := negResp{state: negRequestMIC, mech: e.mech}
	if e.preferred {
		answer.state = negIncomplete
	}
	e.next, e.named = e.token, true
	return answer.encode(), nil, nil
}

// token takes the Kerberos token when it did not come at once.
func (e *spnegoExchange) token(ctx context.Context, response []byte) ([]byte, *auth.Identity, error) {
	t, err := e.response(response)
	if err != nil {
		return nil, nil, err
	}
	if t.token == nil {
		return nil, nil, refuse(idNegToken, slog.String("missing", "responseToken"))
	}
	return e.establish(ctx, t.token, t.mic)
}

func (e *spnegoExchange) response(b []byte) (negResp, error) {
	t, err := parseNegResp(b)
	if err != nil {
		return t, refuseFor(idNegToken, err, slog.Int("octets", len(b)))
	}
	if t.hasState && t.state == negReject || t.mech != "" && t.mech != e.mech {
		return t, refuse(idNegToken, slog.Int("state", int(t.state)))
	}
	return t, nil
}

// establish accepts the Kerberos token and answers it. The MICs follow RFC 4178
// section 5: the initiator's comes with its last token, or answers ours.
func (e *spnegoExchange) establish(ctx context.Context, token, mic []byte) ([]byte, *auth.Identity, error) {
	if err := e.accept(ctx, token); err != nil {
		return nil, nil, err
	}
	answer := negResp{state: negCompleted, token: e.gss.reply}
	if !e.named {
		answer.mech = e.mech
	}
	e.next = e.acknowledged
	switch {
	case mic != nil:
		if err := e.confirm(mic); err != nil {
			return nil, nil, err
		}
		answer.mic = e.gss.out.sign(e.list)
	case e.preferred:
	case e.gss.reply == nil: // the initiator's last token was the place for it
		return nil, nil, refuse(idNegMIC).with(e.gss.logAttrs()...)
	default:
		answer.state, answer.mic = negIncomplete, e.gss.out.sign(e.list)
		e.next = e.confirmed
	}
	return answer.encode(), nil, nil
}

func (e *spnegoExchange) confirm(mic []byte) error {
	if e.proved = e.gss.in.verify(e.list, mic); !e.proved {
		return refuse(idNegMIC).with(e.gss.logAttrs()...)
	}
	return nil
}

// confirmed takes the initiator's MIC in answer to ours.
func (e *spnegoExchange) confirmed(_ context.Context, response []byte) ([]byte, *auth.Identity, error) {
	t, err := e.response(response)
	if err != nil {
		return nil, nil, err
	}
	if err := e.confirm(t.mic); err != nil {
		return nil, nil, err
	}
	return e.finish()
}

// acknowledged takes the empty response to the last token.
func (e *spnegoExchange) acknowledged(_ context.Context, response []byte) ([]byte, *auth.Identity, error) {
	if err := e.silent(response); err != nil {
		return nil, nil, err
	}
	return e.finish()
}

func (e *spnegoExchange) finish() ([]byte, *auth.Identity, error) {
	if !e.proved && e.layer() == layerNone {
		return nil, nil, refuse(idNoProof).with(e.gss.logAttrs()...)
	}
	return nil, e.gss.identity(nameSPNEGO, ""), nil
}

// layer is what the context's flags call for.
func (e *spnegoExchange) layer() byte {
	switch {
	case e.gss.flags&gssIntegrity == 0:
		return layerNone
	case e.gss.flags&gssConfidential == 0:
		return layerIntegrity
	}
	return layerConfidentiality
}

// Layer implements auth.Layered.
func (e *spnegoExchange) Layer(inner net.Conn) net.Conn {
	layer := e.layer()
	if layer == layerNone {
		return nil
	}
	confidential := layer == layerConfidentiality
	return newLayer(inner, e.gss, confidential, spnegoMaxToken-e.gss.out.overhead(confidential))
}
