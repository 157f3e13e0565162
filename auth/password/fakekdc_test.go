package password_test

import (
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jcmturner/gofork/encoding/asn1"
	"github.com/jcmturner/gokrb5/v8/asn1tools"
	"github.com/jcmturner/gokrb5/v8/config"
	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/iana/asnAppTag"
	"github.com/jcmturner/gokrb5/v8/iana/errorcode"
	"github.com/jcmturner/gokrb5/v8/iana/flags"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/iana/msgtype"
	"github.com/jcmturner/gokrb5/v8/iana/patype"
	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"github.com/kpopd/kpopd/auth/kdc"
	"github.com/kpopd/kpopd/auth/password"
)

const (
	realm   = "R.TEST"
	service = "pop/mail.r.test"
)

// keysOf makes a keytab of our service, and of others, with one secret.
func keysOf(t testing.TB, secret string, enctypes ...int32) *keytab.Keytab {
	t.Helper()
	kt := keytab.New()
	for _, e := range enctypes {
		for _, name := range []string{service, "krbtgt/" + realm, "host/mail.r.test"} {
			if err := kt.AddEntry(name, realm, secret, time.Now(), 1, e); err != nil {
				t.Fatal(err)
			}
		}
	}
	return kt
}

// A fakeKDC is the attacker's: it says whatever a test wants. With our own
// service's keys it is a good one. A real one is asked in the integration test.
type fakeKDC struct {
	t         testing.TB
	keys      *keytab.Keytab
	password  string // everybody's
	preauth   bool
	enctype   int32   // of tickets and of the user's key
	offered   []int32 // in ETYPE-INFO2; none: enctype
	params    []byte  // of the hash; nil: the default
	failure   int32   // answers every AS request so
	tgs       int32   // answers every TGS request so
	ticketFor string  // the client in the service ticket; empty: who asked
	service   string  // of the service ticket; empty: as asked
	over      bool    // tickets have expired
	swapped   bool    // the service ticket holds another session key
	wrongs    bool    // nonces are wrong
	raw       []byte  // said instead of everything
	tooBig    bool    // by UDP: answers are too big

	asked atomic.Int32
}

// listen serves by TCP and UDP on one loopback port.
func (k *fakeKDC) listen() string {
	k.t.Helper()
	for range 20 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			k.t.Fatal(err)
		}
		u, err := net.ListenPacket("udp", l.Addr().String())
		if err != nil {
			_ = l.Close()
			continue // the port is another's by UDP
		}
		k.t.Cleanup(func() { _, _ = l.Close(), u.Close() })
		go k.serveTCP(l)
		go k.serveUDP(u)
		return l.Addr().String()
	}
	k.t.Fatal("no port for both TCP and UDP")
	return ""
}

func (k *fakeKDC) serveTCP(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			var head [4]byte
			if _, err := io.ReadFull(c, head[:]); err != nil {
				return
			}
			b := make([]byte, binary.BigEndian.Uint32(head[:]))
			if _, err := io.ReadFull(c, b); err != nil {
				return
			}
			reply := k.answer(b)
			_, _ = c.Write(binary.BigEndian.AppendUint32(nil, uint32(len(reply))))
			_, _ = c.Write(reply)
		}()
	}
}

func (k *fakeKDC) serveUDP(c net.PacketConn) {
	b := make([]byte, 64<<10)
	for {
		n, peer, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		reply := k.answer(b[:n])
		if k.tooBig {
			reply = k.refuse(errorcode.KRB_ERR_RESPONSE_TOO_BIG, nil)
		}
		_, _ = c.WriteTo(reply, peer)
	}
}

func (k *fakeKDC) refuse(code int32, edata []byte) []byte {
	e := messages.NewKRBError(types.PrincipalName{NameType: 2, NameString: []string{"krbtgt", realm}}, realm, code, "SECRET TEXT FROM THE NET")
	e.EData = edata
	b, err := e.Marshal()
	if err != nil {
		k.t.Error(err)
	}
	return b
}

func (k *fakeKDC) answer(b []byte) []byte {
	k.asked.Add(1)
	if k.raw != nil {
		return k.raw
	}
	var as messages.ASReq
	if as.Unmarshal(b) == nil {
		return k.initial(&as)
	}
	var tgs messages.TGSReq
	if tgs.Unmarshal(b) == nil {
		return k.ticket(&tgs)
	}
	k.t.Error("a request is neither AS nor TGS")
	return nil
}

func (k *fakeKDC) userKey(client types.PrincipalName) types.EncryptionKey {
	key, _, err := crypto.GetKeyFromPassword(k.password, client, realm, k.enctype, nil)
	if err != nil {
		k.t.Error(err)
	}
	return key
}

func (k *fakeKDC) methods() []byte {
	offered := k.offered
	if offered == nil {
		offered = []int32{k.enctype}
	}
	var info types.ETypeInfo2
	for _, e := range offered {
		info = append(info, types.ETypeInfo2Entry{EType: e, S2KParams: k.params})
	}
	b, err := asn1.Marshal(info)
	if err != nil {
		k.t.Error(err)
	}
	out, err := asn1.Marshal(types.PADataSequence{{PADataType: patype.PA_ETYPE_INFO2, PADataValue: b}, {PADataType: patype.PA_ENC_TIMESTAMP, PADataValue: []byte{}}})
	if err != nil {
		k.t.Error(err)
	}
	return out
}

func (k *fakeKDC) initial(req *messages.ASReq) []byte {
	if k.failure != 0 {
		return k.refuse(k.failure, nil)
	}
	key := k.userKey(req.ReqBody.CName)
	if k.preauth {
		i := slices.IndexFunc(req.PAData, func(p types.PAData) bool { return p.PADataType == patype.PA_ENC_TIMESTAMP })
		if i < 0 {
			return k.refuse(errorcode.KDC_ERR_PREAUTH_REQUIRED, k.methods())
		}
		var sealed types.EncryptedData
		if err := sealed.Unmarshal(req.PAData[i].PADataValue); err != nil {
			k.t.Error(err)
		}
		if _, err := crypto.DecryptEncPart(sealed, key, keyusage.AS_REQ_PA_ENC_TIMESTAMP); err != nil {
			return k.refuse(errorcode.KDC_ERR_PREAUTH_FAILED, nil)
		}
	}
	fields := k.grant(&req.KDCReqFields, req.ReqBody.CName, req.ReqBody.SName, key, keyusage.AS_REP_ENCPART)
	fields.MsgType = msgtype.KRB_AS_REP
	reply := messages.ASRep{KDCRepFields: fields}
	b, err := reply.Marshal()
	if err != nil {
		k.t.Error(err)
	}
	return b
}

func (k *fakeKDC) ticket(req *messages.TGSReq) []byte {
	if k.tgs != 0 {
		return k.refuse(k.tgs, nil)
	}
	var ap messages.APReq
	if err := ap.Unmarshal(req.PAData[0].PADataValue); err != nil {
		k.t.Error(err)
	}
	if err := ap.Ticket.DecryptEncPart(k.keys, nil); err != nil {
		k.t.Error(err)
	}
	client, name := ap.Ticket.DecryptedEncPart.CName, req.ReqBody.SName
	if k.ticketFor != "" {
		client = types.NewPrincipalName(1, k.ticketFor)
	}
	if k.service != "" {
		name = types.NewPrincipalName(1, k.service)
	}
	fields := k.grant(&req.KDCReqFields, client, name, ap.Ticket.DecryptedEncPart.Key, keyusage.TGS_REP_ENCPART_SESSION_KEY)
	fields.MsgType = msgtype.KRB_TGS_REP
	fields.CName = ap.Ticket.DecryptedEncPart.CName
	reply := messages.TGSRep{KDCRepFields: fields}
	b, err := reply.Marshal()
	if err != nil {
		k.t.Error(err)
	}
	return b
}

// grant makes a ticket and tells the client of it.
func (k *fakeKDC) grant(req *messages.KDCReqFields, client, name types.PrincipalName, key types.EncryptionKey, usage uint32) messages.KDCRepFields {
	now := time.Now().UTC()
	end := now.Add(time.Hour)
	begin := now
	isService := usage == keyusage.TGS_REP_ENCPART_SESSION_KEY
	if k.over && isService {
		begin, end = now.Add(-2*time.Hour), now.Add(-time.Hour)
	}
	bits := types.NewKrbFlags()
	types.SetFlag(&bits, flags.PreAuthent)
	ticket, session, err := messages.NewTicket(client, realm, name, realm, bits, k.keys, k.enctype, 1, begin, begin, end, end)
	if err != nil {
		k.t.Error(err)
	}
	if k.swapped && isService {
		session.KeyValue = slices.Clone(session.KeyValue)
		session.KeyValue[0] ^= 1
	}
	part := messages.EncKDCRepPart{
		Key: session, LastReqs: []messages.LastReq{{LRType: 0, LRValue: now}}, Nonce: req.ReqBody.Nonce, Flags: bits,
		AuthTime: now, StartTime: now, EndTime: end, RenewTill: end, SRealm: realm, SName: req.ReqBody.SName,
	}
	if k.wrongs {
		part.Nonce++
	}
	b, err := asn1.Marshal(part)
	if err != nil {
		k.t.Error(err)
	}
	sealed, err := crypto.GetEncryptedData(asn1tools.AddASNAppTag(b, asnAppTag.EncASRepPart), key, usage, 1)
	if err != nil {
		k.t.Error(err)
	}
	return messages.KDCRepFields{PVNO: 5, CRealm: realm, CName: client, Ticket: ticket, EncPart: sealed}
}

// checker asks the KDCs at addresses.
func checker(t testing.TB, keys *keytab.Keytab, addresses ...string) *password.KDC {
	t.Helper()
	return &password.KDC{
		Service: service, Timeout: 20 * time.Second, Slots: make(chan struct{}, 8), Log: slog.New(slog.DiscardHandler),
		Keys: func() *keytab.Keytab { return keys },
		Realm: &kdc.Realm{Name: realm, Config: func() *config.Config {
			c := config.New()
			c.LibDefaults.NoAddresses = true
			c.Realms = []config.Realm{{Realm: "O.TEST", KDC: []string{"127.0.0.1:1"}}, {Realm: realm, KDC: slices.Clone(addresses)}}
			return c
		}},
	}
}
