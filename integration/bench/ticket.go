package bench

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jcmturner/gofork/encoding/asn1"
	"github.com/jcmturner/gokrb5/v8/client"
	"github.com/jcmturner/gokrb5/v8/config"
	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/gssapi"
	"github.com/jcmturner/gokrb5/v8/iana/etypeID"
	"github.com/jcmturner/gokrb5/v8/iana/nametype"
	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"github.com/kpopd/kpopd/integration"
	"github.com/kpopd/kpopd/krb5conf"
)

// A ticket is a user's for the POP servers, all of which have the same key.
type ticket struct {
	user   string
	name   types.PrincipalName
	ticket messages.Ticket
	key    types.EncryptionKey
}

// A kdc gives tickets.
type kdc struct {
	realm   *integration.Realm
	config  *config.Config
	service *keytab.Keytab
	users   *keytab.Keytab
}

func newKDC(realm *integration.Realm) (*kdc, error) {
	profile, err := krb5conf.Load(realm.Path("krb5.conf"))
	if err != nil {
		return nil, err
	}
	k := &kdc{realm: realm, config: profile.Client()}
	k.service, err = keytab.Load(realm.Path("server.keytab"))
	return k, err
}

// register makes principals, some hundred in one run of kadmin.
func (k *kdc) register(ctx context.Context, users []string) error {
	for len(users) > 0 {
		part := users[:min(len(users), 100)]
		users = users[len(part):]
		var script strings.Builder
		for _, user := range part {
			fmt.Fprintf(&script, "addprinc -randkey %s\nktadd -norandkey -k %s %s\n", user, k.realm.Path("users.keytab"), user)
		}
		if _, err := k.realm.Kadmin(ctx, script.String()); err != nil {
			return err
		}
	}
	var err error
	k.users, err = keytab.Load(k.realm.Path("users.keytab"))
	return err
}

// fetch asks the KDC for a user's ticket.
func (k *kdc) fetch(user string) (*ticket, error) {
	c := client.NewWithKeytab(user, integration.RealmName, k.users, k.config, client.DisablePAFXFAST(true))
	defer c.Destroy()
	if err := c.Login(); err != nil {
		return nil, fmt.Errorf("bench: kinit %s: %w", user, err)
	}
	t, key, err := c.GetServiceTicket("pop/" + integration.Host)
	if err != nil {
		return nil, fmt.Errorf("bench: ticket of %s: %w", user, err)
	}
	return &ticket{user: user, name: c.Credentials.CName(), ticket: t, key: key}, nil
}

// mint makes a ticket with the service's key, as the KDC does, for thousands of
// users who only shall wait.
func (k *kdc) mint(user string) (*ticket, error) {
	name := types.NewPrincipalName(nametype.KRB_NT_PRINCIPAL, user)
	service := types.NewPrincipalName(nametype.KRB_NT_SRV_INST, "pop/"+integration.Host)
	now := time.Now().UTC()
	flags := asn1.BitString{Bytes: make([]byte, 4), BitLength: 32}
	t, key, err := messages.NewTicket(name, integration.RealmName, service, integration.RealmName, flags, k.service,
		etypeID.AES256_CTS_HMAC_SHA1_96, 0, now, now, now.Add(10*time.Hour), now)
	return &ticket{user: user, name: name, ticket: t, key: key}, err
}

const optionMutual = 2

// A proof is an AP-REQ that waits for its connection. It is good for one, and
// for less than the realm's clock skew.
type proof struct {
	ticket        *ticket
	request       []byte
	authenticator types.Authenticator
}

// prove makes an AP-REQ, for sendauth or for GSS-API (RFC 4121 section 4.1.1).
func (t *ticket) prove(gss bool) (*proof, error) {
	a, err := types.NewAuthenticator(integration.RealmName, t.name)
	if err != nil {
		return nil, err
	}
	a.SeqNumber |= 1 // gokrb5 leaves a zero out
	if gss {
		sum := make([]byte, 24)
		binary.LittleEndian.PutUint32(sum, 16)
		const flags = 0x02 | 0x08 | 0x20 // mutual, sequence, integrity
		binary.LittleEndian.PutUint32(sum[20:], flags)
		a.Cksum = types.Checksum{CksumType: 0x8003, Checksum: sum}
	}
	r, err := messages.NewAPReq(t.ticket, t.key, a)
	if err != nil {
		return nil, err
	}
	types.SetFlag(&r.APOptions, optionMutual)
	b, err := r.Marshal()
	if gss {
		b = append([]byte(mechanism+"\x01\x00"), b...)
		b = append([]byte{0x60, 0x82, byte(len(b) >> 8), byte(len(b))}, b...)
	}
	return &proof{ticket: t, request: b, authenticator: a}, err
}

// mechanism is Kerberos's object identifier (RFC 4121 section 4.1).
const mechanism = "\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02"

// open decrypts an AP-REP and gives the key and the flags for wrap tokens.
func (p *proof) open(b []byte) (types.EncryptionKey, byte, error) {
	var reply messages.APRep
	if err := reply.Unmarshal(b); err != nil {
		return p.ticket.key, 0, fmt.Errorf("bench: AP-REP: %w", err)
	}
	const usageAPRep, acceptorSubkey = 12, 4
	plain, err := crypto.DecryptEncPart(reply.EncPart, p.ticket.key, usageAPRep)
	if err != nil {
		return p.ticket.key, 0, fmt.Errorf("bench: AP-REP: %w", err)
	}
	var part messages.EncAPRepPart
	if err := part.Unmarshal(plain); err != nil {
		return p.ticket.key, 0, fmt.Errorf("bench: AP-REP: %w", err)
	}
	if part.Cusec != p.authenticator.Cusec {
		return p.ticket.key, 0, errors.New("bench: the AP-REP is to another request")
	}
	if part.Subkey.KeyType != 0 {
		return part.Subkey, acceptorSubkey, nil
	}
	return p.ticket.key, 0, nil
}

// choice is the last token of SASL GSSAPI: no security layer (RFC 4752 section
// 3.1).
func (p *proof) choice(challenge []byte) ([]byte, error) {
	_, reply, ok := strings.Cut(string(challenge), mechanism+"\x02\x00")
	if !ok {
		return nil, errors.New("bench: the server's token is no AP-REP")
	}
	key, flags, err := p.open([]byte(reply))
	if err != nil {
		return nil, err
	}
	etype, err := crypto.GetEtype(key.KeyType)
	if err != nil {
		return nil, err
	}
	w := gssapi.WrapToken{
		Flags: flags, EC: uint16(etype.GetHMACBitLength() / 8), SndSeqNum: uint64(p.authenticator.SeqNumber), //nolint:gosec // G115: small, not negative
		Payload: []byte{1, 0, 0, 0},
	}
	const usageInitiatorSeal = 24
	if err := w.SetCheckSum(key, usageInitiatorSeal); err != nil {
		return nil, err
	}
	return w.Marshal()
}

// proofs makes n AP-REQs of the tickets in turn.
func proofs(tickets []*ticket, n int, gss bool) ([]*proof, error) {
	all := make([]*proof, n)
	for i := range all {
		var err error
		if all[i], err = tickets[i%len(tickets)].prove(gss); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// encoded is a SASL response line.
func encoded(b []byte) string { return base64.StdEncoding.EncodeToString(b) + "\r\n" }

// makeReplayDirectory is where MIT's library keeps the peers' replay caches.
func makeReplayDirectory(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.Chmod(dir, 0o1777) //nolint:gosec // G302: every server's user writes there
}
