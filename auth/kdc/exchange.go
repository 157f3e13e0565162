package kdc

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jcmturner/gokrb5/v8/config"
	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/iana/errorcode"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/iana/nametype"
	"github.com/jcmturner/gokrb5/v8/iana/patype"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
)

// skew is what may be between our clock and the KDC's.
const skew = 5 * time.Minute

// An Exchange is one client's dialogue with the KDCs of its realm. It is for one
// goroutine, and gokrb5 may panic over what the network sends: whoever calls it recovers.
type Exchange struct {
	realm  *Realm
	client types.PrincipalName
	config *config.Config
	wire   *transport // to the realm's own KDCs
}

// Answered is the KDC that answered last, as proto/host:port.
func (e *Exchange) Answered() string { return e.wire.answered.String() }

// HostRealm is the realm of a host: what [domain_realm] says, or else the client's.
func (e *Exchange) HostRealm(host string) string {
	if realm := e.config.ResolveRealm(strings.ToLower(host)); realm != "" {
		return realm
	}
	return e.realm.Name
}

// Initial gets a ticket-granting ticket with the secret (RFC 4120 section 3.1), by
// encrypted timestamp where the KDC wants preauthentication.
func (e *Exchange) Initial(ctx context.Context, secret Secret) (*Grant, error) {
	req, err := messages.NewASReqForTGT(e.realm.Name, e.config, e.client)
	if err != nil {
		return nil, fmt.Errorf("kdc: AS request: %w", err)
	}
	if req.ReqBody.EType, err = secret.enctypes(e); err != nil {
		return nil, err
	}
	reply, said, err := e.as(ctx, &req)
	if err != nil {
		return nil, err
	}
	if said != nil && said.ErrorCode == errorcode.KDC_ERR_PREAUTH_REQUIRED {
		if err := e.preauthenticate(&req, said, secret); err != nil {
			return nil, err
		}
		if reply, said, err = e.as(ctx, &req); err != nil {
			return nil, err
		}
	}
	if said != nil {
		return nil, &Refusal{said.ErrorCode}
	}
	key, err := secret.key(e, reply.EncPart.EType, reply.PAData)
	if err != nil {
		return nil, err
	}
	plain, err := Open(reply.EncPart, key, keyusage.AS_REP_ENCPART)
	if err != nil {
		return nil, ErrSecret // without preauthentication this is how a wrong password shows
	}
	return e.granted(&reply.KDCRepFields, &req.KDCReqFields, e.realm.Name, plain)
}

// as sends an AS request. said is the KDC's error, if it gave one.
func (e *Exchange) as(ctx context.Context, req *messages.ASReq) (reply *messages.ASRep, said *messages.KRBError, err error) {
	b, err := req.Marshal()
	if err != nil {
		return nil, nil, fmt.Errorf("kdc: AS request: %w", err)
	}
	if b, err = e.wire.ask(ctx, b); err != nil {
		return nil, nil, err
	}
	said = &messages.KRBError{}
	if said.Unmarshal(b) == nil {
		return nil, said, nil
	}
	reply = &messages.ASRep{}
	if reply.Unmarshal(b) != nil {
		return nil, nil, malformed("AS")
	}
	return reply, nil, nil
}

func malformed(what string) error {
	return fmt.Errorf("kdc: the KDC's %s answer is malformed or not for our question", what)
}

// preauthenticate adds the encrypted timestamp (RFC 4120 section 5.2.7.2), in
// the first of the KDC's enctypes that we take.
func (e *Exchange) preauthenticate(req *messages.ASReq, said *messages.KRBError, secret Secret) error {
	var methods types.PADataSequence
	if methods.Unmarshal(said.EData) != nil {
		return malformed("preauthentication")
	}
	if !methods.Contains(patype.PA_ENC_TIMESTAMP) {
		return &Refusal{errorcode.KDC_ERR_PREAUTH_REQUIRED}
	}
	key, err := offeredKey(e, secret, methods)
	if err != nil {
		return err
	}
	stamp, err := types.GetPAEncTSEncAsnMarshalled()
	if err != nil {
		return fmt.Errorf("kdc: timestamp: %w", err)
	}
	sealed, err := crypto.GetEncryptedData(stamp, key, keyusage.AS_REQ_PA_ENC_TIMESTAMP, 0)
	if err != nil {
		return fmt.Errorf("kdc: timestamp: %w", err)
	}
	b, err := sealed.Marshal()
	if err != nil {
		return fmt.Errorf("kdc: timestamp: %w", err)
	}
	req.PAData = append(req.PAData, types.PAData{PADataType: patype.PA_ENC_TIMESTAMP, PADataValue: b})
	return nil
}

// Service gets a ticket for a service, as name/host, with the ticket-granting ticket
// (RFC 4120 section 3.3). Its realm may be another one that has a key in common with
// the client's (section 1.2); a way over more realms is not taken.
func (e *Exchange) Service(ctx context.Context, tgt *Grant, service, realm string) (*Grant, error) {
	wire := e.wire
	if realm != e.realm.Name {
		cross, err := e.ticket(ctx, wire, tgt, types.NewPrincipalName(nametype.KRB_NT_SRV_INST, "krbtgt/"+realm))
		if err != nil {
			return nil, err
		}
		cross.server = realm
		tgt, wire = cross, e.realm.transport(realm, e.config)
	}
	return e.ticket(ctx, wire, tgt, types.NewPrincipalName(nametype.KRB_NT_PRINCIPAL, service))
}

// ticket is one TGS exchange with who takes tgt.
func (e *Exchange) ticket(ctx context.Context, wire *transport, tgt *Grant, name types.PrincipalName) (*Grant, error) {
	req, err := messages.NewTGSReq(e.client, tgt.server, e.config, tgt.Ticket, tgt.Session, name, false)
	if err != nil {
		return nil, fmt.Errorf("kdc: TGS request: %w", err)
	}
	b, err := req.Marshal()
	if err != nil {
		return nil, fmt.Errorf("kdc: TGS request: %w", err)
	}
	if b, err = wire.ask(ctx, b); err != nil {
		return nil, err
	}
	var said messages.KRBError
	if said.Unmarshal(b) == nil {
		return nil, &Refusal{said.ErrorCode}
	}
	var reply messages.TGSRep
	if reply.Unmarshal(b) != nil {
		return nil, malformed("TGS")
	}
	plain, err := Open(reply.EncPart, tgt.Session, keyusage.TGS_REP_ENCPART_SESSION_KEY)
	if err != nil {
		return nil, malformed("TGS")
	}
	return e.granted(&reply.KDCRepFields, &req.KDCReqFields, tgt.server, plain)
}

// granted checks a reply of a realm's KDC against its request (RFC 4120 sections 3.1.5
// and 3.3.4).
func (e *Exchange) granted(reply *messages.KDCRepFields, req *messages.KDCReqFields, realm string, plain []byte) (*Grant, error) {
	var part messages.EncKDCRepPart
	if part.Unmarshal(plain) != nil {
		return nil, malformed("opened")
	}
	ok := reply.CRealm == e.realm.Name && reply.CName.Equal(e.client) &&
		part.Nonce == req.ReqBody.Nonce &&
		part.SRealm == realm && part.SName.Equal(req.ReqBody.SName) &&
		keySizes[part.Key.KeyType] == len(part.Key.KeyValue) && len(part.Key.KeyValue) > 0
	if !ok {
		return nil, malformed("opened")
	}
	if d := time.Since(part.AuthTime); d > skew || d < -skew {
		return nil, &Refusal{errorcode.KRB_AP_ERR_SKEW}
	}
	return &Grant{reply.Ticket, part.Key, realm}, nil
}
