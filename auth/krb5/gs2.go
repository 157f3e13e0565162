package krb5

import (
	"bytes"
	"context"
	"crypto/subtle"
	"errors"
	"log/slog"
	"strings"

	"github.com/kpopd/kpopd/auth"
)

var errGS2 = errors.New("krb5: malformed GS2 header")

// A gs2Header is what a GS2 message begins with (RFC 5801 section 4).
type gs2Header struct {
	raw     []byte // with both commas
	binding byte   // n, y or p
	kind    string // channel binding type after p=
	authzid string
}

func parseGS2(message []byte) (h gs2Header, token []byte, err error) {
	flag, rest, ok := bytes.Cut(message[:min(len(message), 1024)], []byte(","))
	if !ok || len(flag) == 0 {
		return h, nil, errGS2
	}
	name, _, ok := bytes.Cut(rest, []byte(","))
	if !ok {
		return h, nil, errGS2
	}
	h.binding = flag[0]
	switch {
	case len(flag) == 1 && (h.binding == 'n' || h.binding == 'y'):
	case h.binding == 'p' && len(flag) > 2 && flag[1] == '=':
		h.kind = string(flag[2:])
	default: // "F," would be another mechanism's token: never Kerberos
		return h, nil, errGS2
	}
	if len(name) > 0 {
		if h.authzid, err = gs2Name(name); err != nil {
			return h, nil, err
		}
	}
	size := len(flag) + 1 + len(name) + 1
	h.raw = message[:size]
	return h, message[size:], nil
}

// gs2Name decodes "a=" saslname, where =2C and =3D stand for comma and equals.
func gs2Name(b []byte) (string, error) {
	s, ok := strings.CutPrefix(string(b), "a=")
	if !ok || s == "" {
		return "", errGS2
	}
	var out []byte
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] != '=':
			out = append(out, s[i])
		case strings.HasPrefix(s[i:], "=2C"):
			out = append(out, ',')
			i += 2
		case strings.HasPrefix(s[i:], "=3D"):
			out = append(out, '=')
			i += 2
		default:
			return "", errGS2
		}
	}
	if bytes.IndexByte(out, 0) >= 0 {
		return "", errAuthzid
	}
	return parseAuthzid(out)
}

// A gs2Exchange is one run of GS2-KRB5 or GS2-KRB5-PLUS. There is no step for
// layers; the bindings always cover the header.
type gs2Exchange struct {
	steps
	authzid string
}

func newGS2(m *mechanism, peer auth.Peer) auth.Exchange {
	e := &gs2Exchange{steps: steps{m: m, peer: peer}}
	e.next = e.token
	return e
}

func (e *gs2Exchange) token(ctx context.Context, response []byte) ([]byte, *auth.Identity, error) {
	h, token, err := parseGS2(response)
	if err != nil {
		return nil, nil, refuseFor(idGS2, err)
	}
	data, err := e.bound(&h)
	if err != nil {
		return nil, nil, err
	}
	if e.gss, err = e.m.acceptor.acceptToken(ctx, token, e.peer); err != nil {
		return nil, nil, err
	}
	want := bindingHash(h.raw, data)
	switch {
	case subtle.ConstantTimeCompare(want[:], e.gss.bindings[:]) != 1:
		return nil, nil, refuse(idBinding, slog.String("type", h.kind)).with(e.gss.logAttrs()...)
	case e.gss.reply == nil:
		return nil, nil, refuse(idNoMutual).with(e.gss.logAttrs()...)
	}
	e.authzid, e.next = h.authzid, e.replied
	return e.gss.reply, nil, nil
}

// replied takes the empty response to the AP-REP.
func (e *gs2Exchange) replied(_ context.Context, response []byte) ([]byte, *auth.Identity, error) {
	if err := e.silent(response); err != nil {
		return nil, nil, err
	}
	return nil, e.gss.identity(e.m.name, e.authzid), nil
}

// bound gives the channel binding data that the header calls for (RFC 5801
// section 5). Client: pop3test 3.6.1 says p= under the name without -PLUS; it
// is verified under either.
func (e *gs2Exchange) bound(h *gs2Header) ([]byte, error) {
	switch h.binding {
	case 'p':
		if data := e.m.bindingData(h.kind, e.peer); data != nil {
			return data, nil
		}
		return nil, refuse(idBinding, slog.String("type", h.kind), slog.Bool("tls", e.peer.TLS != nil))
	case 'y':
		// The client believes that we know no bindings: somebody has
		// taken -PLUS out of the list it saw.
		if !e.m.cfg.NoPlus && e.m.canBind(e.peer) {
			return nil, refuse(idBinding, slog.String("flag", "y"))
		}
	}
	if e.m.name == nameGS2Plus || e.m.cfg.Binding == BindingRequire {
		return nil, refuse(idNoBinding, slog.String("flag", string(h.binding)))
	}
	return nil, nil
}
