package krb5

import (
	"context"
	"net"

	"github.com/jcmturner/gokrb5/v8/types"
)

// establish accepts one AP-REQ for GSS-API and answers with the AP-REP message
// (nil without mutual authentication) and the context's protector.
func (a *Acceptor) establish(ctx context.Context, request []byte, remote net.Addr, check func(gssChecksum) *Refusal) (*Accepted, []byte, *protector, error) {
	var sum gssChecksum
	acc, err := a.Accept(ctx, request, remote, func(c types.Checksum) *Refusal {
		var refusal *Refusal
		if sum, refusal = parseGSSChecksum(c); refusal != nil {
			return refusal
		}
		return check(sum)
	})
	if err != nil {
		return nil, nil, nil, err
	}
	initiator := uint32(acc.auth.SeqNumber) //nolint:gosec // G115: old libraries encode it negative; RFC 4120 means 32 bits
	acc.Mutual = acc.Mutual || sum.flags&gssMutual != 0
	if !acc.Mutual {
		// Without an AP-REP there is no acceptor subkey, and both directions
		// begin at the initiator's number.
		return acc, nil, newProtector(a.Rand, acc.contextKey(), false, initiator, initiator), nil
	}
	subkey, err := freshKey(a.Rand, acc.contextKey())
	if err != nil {
		return nil, nil, nil, err
	}
	sequence, err := freshSequence(a.Rand)
	if err != nil {
		return nil, nil, nil, err
	}
	reply, err := acc.fullReply(a.Rand, subkey, sequence)
	if err != nil {
		return nil, nil, nil, err
	}
	return acc, reply, newProtector(a.Rand, subkey, true, sequence, initiator), nil
}

// contextKey is the initiator's subkey or, without one, the session key (RFC
// 4121 section 2).
func (c *Accepted) contextKey() key {
	if c.subkey != nil {
		return *c.subkey
	}
	return c.session
}
