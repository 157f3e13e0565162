package password

import (
	"context"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/jcmturner/gokrb5/v8/config"
	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/iana/errorcode"
	"github.com/jcmturner/gokrb5/v8/iana/flags"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/iana/nametype"
	"github.com/jcmturner/gokrb5/v8/iana/patype"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"github.com/kpopd/kpopd/auth"
)

// enctypes are those a password or a ticket may use, strongest first. Whoever
// answers must not be able to ask for RC4: it would get a hash to crack.
var enctypes = []int32{20, 19, 18, 17}

// keySizes and macSizes are in octets (RFC 3962 section 6, RFC 8009 section 6).
var (
	keySizes = map[int32]int{17: 16, 18: 32, 19: 16, 20: 32}
	macSizes = map[int32]int{17: 12, 18: 12, 19: 16, 20: 24}
)

const (
	confounder = 16              // octets
	skew       = 5 * time.Minute // between our clock and the KDC's

	// Hash rounds that a KDC may ask for: not fewer than the oldest default
	// (RFC 3962 section 4), not so many that they stop the server.
	minRounds = 4096
	maxRounds = 1 << 20
)

// An exchange is one client's dialogue with the KDC.
type exchange struct {
	realm  string
	client types.PrincipalName
	config *config.Config
	wire   *transport
}

// A grant is a ticket and what the KDC told us with it.
type grant struct {
	ticket  messages.Ticket
	session types.EncryptionKey
}

// initial gets a ticket-granting ticket with the password (RFC 4120 section
// 3.1), by encrypted timestamp where the KDC wants preauthentication.
func (e *exchange) initial(ctx context.Context, password string) (*grant, error) {
	req, err := messages.NewASReqForTGT(e.realm, e.config, e.client)
	if err != nil {
		return nil, fmt.Errorf("password: AS request: %w: %w", auth.ErrTemporary, err)
	}
	reply, said, err := e.as(ctx, &req)
	if err != nil {
		return nil, err
	}
	if said != nil && said.ErrorCode == errorcode.KDC_ERR_PREAUTH_REQUIRED {
		if err := e.preauthenticate(&req, said, password); err != nil {
			return nil, err
		}
		if reply, said, err = e.as(ctx, &req); err != nil {
			return nil, err
		}
	}
	if said != nil {
		return nil, clientRefusal(said.ErrorCode)
	}
	key, err := e.passwordKey(password, reply.EncPart.EType, reply.PAData)
	if err != nil {
		return nil, err
	}
	plain, err := open(reply.EncPart, key, keyusage.AS_REP_ENCPART)
	if err != nil {
		// Without preauthentication this is how a wrong password shows.
		return nil, fmt.Errorf("password: wrong password, the KDC's answer does not open: %w", auth.ErrDenied)
	}
	return e.granted(&reply.KDCRepFields, &req.KDCReqFields, plain)
}

// as sends an AS request. said is the KDC's error, if it gave one.
func (e *exchange) as(ctx context.Context, req *messages.ASReq) (reply *messages.ASRep, said *messages.KRBError, err error) {
	b, err := req.Marshal()
	if err != nil {
		return nil, nil, fmt.Errorf("password: AS request: %w: %w", auth.ErrTemporary, err)
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
	return fmt.Errorf("password: the KDC's %s answer is malformed or not for our question: %w", what, auth.ErrTemporary)
}

// preauthenticate adds the encrypted timestamp (RFC 4120 section 5.2.7.2), in
// the first of the KDC's enctypes that we take.
func (e *exchange) preauthenticate(req *messages.ASReq, said *messages.KRBError, password string) error {
	var methods types.PADataSequence
	if methods.Unmarshal(said.EData) != nil {
		return malformed("preauthentication")
	}
	var enctype int32
	for _, entry := range etypeInfo(methods) {
		if slices.Contains(enctypes, entry.EType) {
			enctype = entry.EType
			break
		}
	}
	switch {
	case !methods.Contains(patype.PA_ENC_TIMESTAMP):
		return refusal(errorcode.KDC_ERR_PREAUTH_REQUIRED)
	case enctype == 0:
		return clientRefusal(errorcode.KDC_ERR_ETYPE_NOSUPP)
	}
	key, err := e.passwordKey(password, enctype, methods)
	if err != nil {
		return err
	}
	stamp, err := types.GetPAEncTSEncAsnMarshalled()
	if err != nil {
		return fmt.Errorf("password: timestamp: %w: %w", auth.ErrTemporary, err)
	}
	sealed, err := crypto.GetEncryptedData(stamp, key, keyusage.AS_REQ_PA_ENC_TIMESTAMP, 0)
	if err != nil {
		return fmt.Errorf("password: timestamp: %w: %w", auth.ErrTemporary, err)
	}
	b, err := sealed.Marshal()
	if err != nil {
		return fmt.Errorf("password: timestamp: %w: %w", auth.ErrTemporary, err)
	}
	req.PAData = append(req.PAData, types.PAData{PADataType: patype.PA_ENC_TIMESTAMP, PADataValue: b})
	return nil
}

// etypeInfo gives the KDC's ETYPE-INFO2 (RFC 4120 section 5.2.7.5), which every
// KDC that knows AES sends.
func etypeInfo(methods types.PADataSequence) types.ETypeInfo2 {
	for i := range methods {
		if methods[i].PADataType == patype.PA_ETYPE_INFO2 {
			if info, err := methods[i].GetETypeInfo2(); err == nil {
				return info
			}
		}
	}
	return nil
}

// passwordKey derives the user's key with the KDC's salt and rounds, or the
// default ones.
func (e *exchange) passwordKey(password string, enctype int32, methods types.PADataSequence) (types.EncryptionKey, error) {
	if !slices.Contains(enctypes, enctype) {
		return types.EncryptionKey{}, clientRefusal(errorcode.KDC_ERR_ETYPE_NOSUPP)
	}
	et, err := crypto.GetEtype(enctype)
	if err != nil {
		return types.EncryptionKey{}, fmt.Errorf("password: %w: %w", auth.ErrPermanent, err)
	}
	salt, params := e.client.GetSalt(e.realm), et.GetDefaultStringToKeyParams()
	for _, entry := range etypeInfo(methods) {
		if entry.EType != enctype {
			continue
		}
		if entry.Salt != "" {
			salt = entry.Salt
		}
		if len(entry.S2KParams) > 0 {
			params = hex.EncodeToString(entry.S2KParams)
		}
		break
	}
	if !saneRounds(params) {
		return types.EncryptionKey{}, fmt.Errorf("password: the KDC asks for %q hash rounds: %w", params, auth.ErrTemporary)
	}
	b, err := et.StringToKey(password, salt, params)
	if err != nil {
		return types.EncryptionKey{}, fmt.Errorf("password: the key cannot be made: %w", auth.ErrTemporary)
	}
	return types.EncryptionKey{KeyType: enctype, KeyValue: b}, nil
}

func saneRounds(params string) bool {
	b, err := hex.DecodeString(params)
	if err != nil || len(b) != 4 {
		return false
	}
	n := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	return n >= minRounds && n <= maxRounds
}

// service gets a ticket for our own service (RFC 4120 section 3.3).
func (e *exchange) service(ctx context.Context, tgt *grant, name string) (*grant, error) {
	service := types.NewPrincipalName(nametype.KRB_NT_PRINCIPAL, name)
	req, err := messages.NewTGSReq(e.client, e.realm, e.config, tgt.ticket, tgt.session, service, false)
	if err != nil {
		return nil, fmt.Errorf("password: TGS request: %w: %w", auth.ErrTemporary, err)
	}
	b, err := req.Marshal()
	if err != nil {
		return nil, fmt.Errorf("password: TGS request: %w: %w", auth.ErrTemporary, err)
	}
	if b, err = e.wire.ask(ctx, b); err != nil {
		return nil, err
	}
	var said messages.KRBError
	if said.Unmarshal(b) == nil {
		return nil, refusal(said.ErrorCode)
	}
	var reply messages.TGSRep
	if reply.Unmarshal(b) != nil {
		return nil, malformed("TGS")
	}
	plain, err := open(reply.EncPart, tgt.session, keyusage.TGS_REP_ENCPART_SESSION_KEY)
	if err != nil {
		return nil, malformed("TGS")
	}
	return e.granted(&reply.KDCRepFields, &req.KDCReqFields, plain)
}

// granted checks a reply against its request (RFC 4120 sections 3.1.5 and
// 3.3.4).
func (e *exchange) granted(reply *messages.KDCRepFields, req *messages.KDCReqFields, plain []byte) (*grant, error) {
	var part messages.EncKDCRepPart
	if part.Unmarshal(plain) != nil {
		return nil, malformed("opened")
	}
	ok := reply.CRealm == e.realm && reply.CName.Equal(e.client) &&
		part.Nonce == req.ReqBody.Nonce &&
		part.SRealm == e.realm && part.SName.Equal(req.ReqBody.SName) &&
		keySizes[part.Key.KeyType] == len(part.Key.KeyValue) && len(part.Key.KeyValue) > 0
	if !ok {
		return nil, malformed("opened")
	}
	if d := time.Since(part.AuthTime); d > skew || d < -skew {
		return nil, refusal(errorcode.KRB_AP_ERR_SKEW)
	}
	return &grant{reply.Ticket, part.Key}, nil
}

// open decrypts what has been checked to be long enough: gokrb5 slices before
// it looks.
func open(sealed types.EncryptedData, key types.EncryptionKey, usage uint32) ([]byte, error) {
	if sealed.EType != key.KeyType || keySizes[key.KeyType] != len(key.KeyValue) || len(key.KeyValue) == 0 ||
		len(sealed.Cipher) < confounder+macSizes[key.KeyType] {
		return nil, fmt.Errorf("password: ciphertext does not fit the key: %w", auth.ErrTemporary)
	}
	b, err := crypto.DecryptEncPart(sealed, key, usage)
	if err != nil {
		return nil, fmt.Errorf("password: ciphertext does not open: %w", auth.ErrTemporary)
	}
	return b, nil
}

// prove opens the ticket with our own key: only a KDC of our realm can have
// made it, and only for who is named inside.
func (k *KDC) prove(g *grant, user string) error {
	t := &g.ticket
	name := types.NewPrincipalName(nametype.KRB_NT_PRINCIPAL, k.Service)
	if t.Realm != k.Realm || !t.SName.Equal(name) {
		return fmt.Errorf("password: the KDC's ticket is not for %s: %w", k.Service, auth.ErrTemporary)
	}
	key, _, err := k.Keys().GetEncryptionKey(name, k.Realm, t.EncPart.KVNO, t.EncPart.EType)
	if err != nil {
		return fmt.Errorf("password: our keytab has no key of %s with kvno %d and enctype %d, for which the KDC made a ticket: %w",
			k.Service, t.EncPart.KVNO, t.EncPart.EType, auth.ErrTemporary)
	}
	plain, err := open(t.EncPart, key, keyusage.KDC_REP_TICKET)
	if err != nil {
		return fmt.Errorf("password: the KDC's ticket for %s does not open with our keytab: the KDC is not ours, or the keytab is old: %w", k.Service, auth.ErrTemporary)
	}
	var part messages.EncTicketPart
	if part.Unmarshal(plain) != nil {
		return malformed("ticket")
	}
	if part.CRealm != k.Realm || len(part.CName.NameString) != 1 || part.CName.NameString[0] != user ||
		part.Key.KeyType != g.session.KeyType || subtle.ConstantTimeCompare(part.Key.KeyValue, g.session.KeyValue) != 1 {
		return fmt.Errorf("password: the KDC's ticket is for somebody else: %w", auth.ErrTemporary)
	}
	now := time.Now()
	begin := part.StartTime
	if begin.IsZero() {
		begin = part.AuthTime
	}
	if now.Before(begin.Add(-skew)) || now.After(part.EndTime.Add(skew)) || types.IsFlagSet(&part.Flags, flags.Invalid) {
		return fmt.Errorf("password: the KDC's ticket is not valid now: %w", auth.ErrTemporary)
	}
	return nil
}
