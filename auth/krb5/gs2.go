package krb5

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/kpopd/kpopd/auth"
)

// gs2Exchange is one run of GS2-KRB5 or GS2-KRB5-PLUS (RFC 5801): one token
// each way, no security layer, mutual authentication demanded.
type gs2Exchange struct {
	acceptor *Acceptor
	options  SASLOptions
	peer     auth.Peer
	plus     bool
	identity *auth.Identity
}

// canBind says whether this peer's connection has a channel binding.
func (o SASLOptions) canBind(p auth.Peer) bool {
	return binding("tls-exporter", p.TLS, nil) != nil || binding("tls-unique", p.TLS, nil) != nil
}

// Next implements auth.Exchange.
func (e *gs2Exchange) Next(ctx context.Context, response []byte) ([]byte, *auth.Identity, error) {
	switch {
	case e.identity != nil && len(response) == 0:
		return nil, e.identity, nil
	case e.identity != nil:
		return nil, nil, fmt.Errorf("krb5: data behind the GS2 exchange: %w", auth.ErrProtocol)
	case response == nil:
		return []byte{}, nil, nil
	}
	header, token, err := parseGS2(response)
	if err != nil {
		return nil, nil, err
	}
	bindings, err := e.bindings(header)
	if err != nil {
		return nil, nil, err
	}
	// RFC 5801 section 4: the token comes without its frame.
	request, ok := bytes.CutPrefix(token, tokenAPReq)
	if !ok {
		return nil, nil, fmt.Errorf("krb5: GS2 token is no AP-REQ: %w", auth.ErrProtocol)
	}
	want := bindingHash(bindings)
	accepted, reply, _, err := e.acceptor.establish(ctx, request, e.peer.Remote, func(c gssChecksum) *Refusal {
		if c.bindings != want {
			return refuse("KP-118")
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	if !accepted.Mutual {
		return nil, nil, fmt.Errorf("krb5: GS2 without mutual authentication: %w", auth.ErrDenied)
	}
	name := "GS2-KRB5"
	if header.kind != "" {
		name = "GS2-KRB5-PLUS"
	}
	e.identity = accepted.identity(name, header.authzid)
	return frame(tokenAPRep, reply), nil, nil
}

// bindings gives the application data that the client must have bound: the GS2
// header and, with p=, the channel's data (RFC 5801 section 5.1).
func (e *gs2Exchange) bindings(h gs2Header) ([]byte, error) {
	if h.kind == "" {
		if e.plus {
			return nil, fmt.Errorf("krb5: -PLUS without channel binding: %w", auth.ErrDenied)
		}
		if h.downgraded && e.options.canBind(e.peer) {
			// RFC 5801 section 5.1: the client could bind and believes that we
			// cannot: somebody cut -PLUS out of our list.
			return nil, fmt.Errorf("krb5: channel binding was stripped from the mechanism list: %w", auth.ErrDenied)
		}
		return h.text, nil
	}
	data := binding(h.kind, e.peer.TLS, e.options.certificate())
	if data == nil {
		return nil, fmt.Errorf("krb5: channel binding type %q is not available here: %w", clip(h.kind), auth.ErrDenied)
	}
	_, value, _ := bytes.Cut(data, []byte{':'}) // the header names the type already
	return slices.Concat(h.text, value), nil
}

type gs2Header struct {
	text       []byte // as sent, with both commas
	kind       string // channel binding type of p=
	downgraded bool   // y: could bind, believes the server cannot
	authzid    string
}

// parseGS2 splits a message into gs2-header and token (RFC 5801 section 4).
func parseGS2(b []byte) (gs2Header, []byte, error) {
	var h gs2Header
	malformed := fmt.Errorf("krb5: malformed GS2 header: %w", auth.ErrProtocol)
	flag, rest, ok1 := bytes.Cut(b, []byte{','})
	authz, token, ok2 := bytes.Cut(rest, []byte{','})
	if !ok1 || !ok2 || len(flag) > 64 || len(authz) > 2*maxName {
		return h, nil, malformed
	}
	switch kind, isBound := strings.CutPrefix(string(flag), "p="); {
	case isBound && kind != "":
		h.kind = kind
	case string(flag) == "y":
		h.downgraded = true
	case string(flag) != "n":
		return h, nil, malformed
	}
	if len(authz) > 0 {
		name, ok := strings.CutPrefix(string(authz), "a=")
		if !ok || name == "" {
			return h, nil, malformed
		}
		clean, err := cleanAuthzid([]byte(strings.NewReplacer("=2C", ",", "=3D", "=").Replace(name)))
		if err != nil {
			return h, nil, err
		}
		h.authzid = clean
	}
	h.text = b[:len(b)-len(token)]
	return h, token, nil
}
