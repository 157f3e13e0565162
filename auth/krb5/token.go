package krb5

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"

	"github.com/kpopd/kpopd/auth"
)

// mechanismOID is 1.2.840.113554.1.2.2, Kerberos 5, as a DER element.
const mechanismOID = "\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02"

const (
	tokenAPReq = "\x01\x00"
	tokenAPRep = "\x02\x00"
)

// Context flags in the authenticator's checksum (RFC 4121 section 4.1.1.1).
const (
	gssMutual       = 0x2
	gssConfidential = 0x10
	gssIntegrity    = 0x20
	gssDCE          = 0x1000
)

var errToken = errors.New("krb5: not a Kerberos 5 initial token")

// unframe takes the frame of RFC 2743 section 3.1 off an initial token.
func unframe(token []byte) ([]byte, error) {
	return unframeOf(token, mechanismOID)
}

func unframeOf(token []byte, oid string) ([]byte, error) {
	tag, content, rest, ok := head(token)
	if !ok || tag != 0x60 || len(rest) != 0 || len(content) < len(oid) || string(content[:len(oid)]) != oid {
		return nil, errToken
	}
	return content[len(oid):], nil
}

func frame(id string, message []byte) []byte {
	w := newBuilder(len(message) + 32)
	w.raw(message...)
	w.raw([]byte(mechanismOID + id)...)
	w.wrap(0x60, 0)
	return w.bytes()
}

// A gssContext is an established security context of the acceptor.
type gssContext struct {
	*Context
	flags    uint32 // as the initiator's checksum has them
	mutual   bool
	reply    []byte // framed AP-REP; nil without mutual authentication
	bindings [16]byte
	in, out  direction
}

// acceptToken establishes a context from an initial token without its frame.
func (a *Acceptor) acceptToken(ctx context.Context, token []byte, peer auth.Peer) (*gssContext, error) {
	if len(token) < len(tokenAPReq) || string(token[:len(tokenAPReq)]) != tokenAPReq {
		return nil, refuseFor(idToken, errToken)
	}
	c, err := a.Accept(ctx, token[len(tokenAPReq):], UseGSS, peer.Remote)
	if err != nil {
		return nil, err
	}
	// RFC 4121 section 4.1.1: length 16, bindings, flags. A delegated
	// credential and extensions may follow; they are of no use here.
	sum := c.auth.sum
	if len(sum) < 24 || binary.LittleEndian.Uint32(sum) != 16 {
		return nil, refuse(idChecksum, slog.Int("octets", len(sum))).with(c.logAttrs()...)
	}
	flags := binary.LittleEndian.Uint32(sum[20:])
	if flags&gssDCE != 0 {
		return nil, refuse(idDCE).with(c.logAttrs()...)
	}
	g := &gssContext{Context: c, flags: flags, mutual: flags&gssMutual != 0, bindings: [16]byte(sum[4:20])}
	if err := g.establish(); err != nil {
		return nil, refuseFor(idInternal, err)
	}
	return g, nil
}

// establish chooses keys and sequence numbers. With mutual authentication the
// acceptor asserts a key and a number of its own; without, both sides go on
// with the initiator's (RFC 4121 section 2 and 4.2.6).
func (g *gssContext) establish() error {
	k := g.session
	if g.subkey.et != nil {
		k = g.subkey
	}
	seq, flags := g.auth.seq, byte(0)
	if g.mutual {
		var err error
		if k, err = freshKey(k, g.random); err != nil {
			return err
		}
		if seq, err = freshSeq(g.random); err != nil {
			return err
		}
		rep, err := g.apRep(k, seq)
		if err != nil {
			return err
		}
		g.reply, flags = frame(tokenAPRep, rep), wrapAcceptorSubkey
	}
	g.in = direction{key: k, usage: usageInitiatorSeal, flags: flags, seq: uint64(g.auth.seq), random: g.random}
	g.out = direction{key: k, usage: usageAcceptorSeal, flags: flags | wrapFromAcceptor, seq: uint64(seq), random: g.random}
	return nil
}
