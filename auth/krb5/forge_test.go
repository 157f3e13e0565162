package krb5_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jcmturner/gofork/encoding/asn1"
	"github.com/jcmturner/gokrb5/v8/asn1tools"
	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
	"github.com/kpopd/kpopd/auth/krb5"
)

const (
	realm   = "REALM.TEST"
	host    = "mail.realm.test"
	service = "pop/" + host
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 123456000, time.UTC)

var keySize = map[int32]int{17: 16, 18: 32, 19: 16, 20: 32, 23: 16}

func randomKey(t testing.TB, etype int32) types.EncryptionKey {
	t.Helper()
	k := types.EncryptionKey{KeyType: etype, KeyValue: make([]byte, keySize[etype])}
	if _, err := rand.Read(k.KeyValue); err != nil {
		t.Fatal(err)
	}
	return k
}

// keytabOf makes a keytab with kvno 2 of each principal in each enctype, in the
// file's format: keys made of passwords would take most of the tests' time.
func keytabOf(t testing.TB, etypes []int32, principals ...string) *keytab.Keytab {
	t.Helper()
	kt := keytab.New()
	if err := kt.Unmarshal(keytabFile(etypes, principals...)); err != nil {
		t.Fatal(err)
	}
	return kt
}

// keytabFile is the file of keytabOf.
func keytabFile(etypes []int32, principals ...string) []byte {
	counted := func(b []byte, s string) []byte {
		return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
	}
	file := []byte{5, 2}
	for _, p := range principals {
		for _, e := range etypes {
			components := strings.Split(p, "/")
			entry := binary.BigEndian.AppendUint16(nil, uint16(len(components)))
			entry = counted(entry, realm)
			for _, c := range components {
				entry = counted(entry, c)
			}
			entry = append(entry, 0, 0, 0, 1, 0, 0, 0, 1, 2) // name type, time, kvno
			entry = binary.BigEndian.AppendUint16(entry, uint16(e))
			sum := sha256.Sum256([]byte(p + strconv.Itoa(int(e))))
			entry = counted(entry, string(sum[:keySize[e]]))
			entry = append(entry, 0, 0, 0, 2)
			file = append(binary.BigEndian.AppendUint32(file, uint32(len(entry))), entry...)
		}
	}
	return file
}

func keyOf(t testing.TB, kt *keytab.Keytab, principal string, etype int32) types.EncryptionKey {
	t.Helper()
	name, _ := types.ParseSPNString(principal)
	k, _, err := kt.GetEncryptionKey(name, realm, 0, etype)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// A forge makes AP-REQs with the service's key, as no KDC would.
type forge struct {
	kt                    *keytab.Keytab
	now                   time.Time // what its other times are counted from
	service, serviceRealm string
	key                   types.EncryptionKey
	kvno                  int
	session               types.EncryptionKey
	cname                 []string
	crealm                string
	authName              []string
	authRealm             string
	flags                 []int
	transited             string
	start, end, ctime     time.Time
	addresses             types.HostAddresses
	authData              types.AuthorizationData
	options               []int
	checksum              *types.Checksum
	subkey                types.EncryptionKey
	seq                   int64
	pvno, msgType         int

	ticketCipher, authCipher func([]byte) []byte
	message                  func([]byte) []byte // the whole of it
}

func newForge(t testing.TB, kt *keytab.Keytab, etype int32) *forge {
	t.Helper()
	return newForgeAt(t, kt, etype, noon)
}

func newForgeAt(t testing.TB, kt *keytab.Keytab, etype int32, now time.Time) *forge {
	t.Helper()
	return &forge{
		kt: kt, now: now,
		service: service, serviceRealm: realm, key: keyOf(t, kt, service, etype), kvno: 2,
		session: randomKey(t, etype), cname: []string{"alice"}, crealm: realm,
		start: now.Add(-time.Hour), end: now.Add(time.Hour), ctime: now,
		options: []int{2}, pvno: 5, msgType: 14,
	}
}

func encrypt(t testing.TB, k types.EncryptionKey, plain []byte, usage uint32) []byte {
	t.Helper()
	e, err := crypto.GetEncryptedData(plain, k, usage, 0)
	if err != nil {
		t.Fatal(err)
	}
	return e.Cipher
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	b, err := asn1.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (f *forge) bits(list []int) asn1.BitString {
	b := asn1.BitString{Bytes: make([]byte, 4), BitLength: 32}
	for _, n := range list {
		types.SetFlag(&b, n)
	}
	return b
}

func (f *forge) ticket(t testing.TB) messages.Ticket {
	t.Helper()
	part := messages.EncTicketPart{
		Flags: f.bits(f.flags), Key: f.session, CRealm: f.crealm,
		CName:     types.PrincipalName{NameType: 1, NameString: f.cname},
		Transited: messages.TransitedEncoding{TRType: 1, Contents: []byte(f.transited)},
		AuthTime:  f.start, StartTime: f.start, EndTime: f.end, CAddr: f.addresses, AuthorizationData: f.authData,
	}
	cipher := encrypt(t, f.key, asn1tools.AddASNAppTag(marshal(t, part), 3), 2)
	if f.ticketCipher != nil {
		cipher = f.ticketCipher(cipher)
	}
	name, _ := types.ParseSPNString(f.service)
	return messages.Ticket{
		TktVNO: 5, Realm: f.serviceRealm, SName: name,
		EncPart: types.EncryptedData{EType: f.key.KeyType, KVNO: f.kvno, Cipher: cipher},
	}
}

func (f *forge) apReq(t testing.TB) []byte {
	t.Helper()
	name, crealm := f.cname, f.crealm
	if f.authName != nil {
		name = f.authName
	}
	if f.authRealm != "" {
		crealm = f.authRealm
	}
	a := types.Authenticator{
		AVNO: 5, CRealm: crealm, CName: types.PrincipalName{NameType: 1, NameString: name},
		Cusec: f.ctime.Nanosecond() / 1000, CTime: f.ctime, SubKey: f.subkey, SeqNumber: f.seq,
	}
	if f.checksum != nil {
		a.Cksum = *f.checksum
	}
	plain, err := a.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	cipher := encrypt(t, f.session, plain, 11)
	if f.authCipher != nil {
		cipher = f.authCipher(cipher)
	}
	req := messages.APReq{
		PVNO: f.pvno, MsgType: f.msgType, APOptions: f.bits(f.options), Ticket: f.ticket(t),
		EncryptedAuthenticator: types.EncryptedData{EType: f.session.KeyType, Cipher: cipher},
	}
	b, err := req.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if f.message != nil {
		return f.message(b)
	}
	return b
}

// gssChecksum is the checksum field of RFC 4121 section 4.1.1.
func gssChecksum(flags uint32, bnd [16]byte) *types.Checksum {
	b := binary.LittleEndian.AppendUint32(nil, 16)
	b = append(b, bnd[:]...)
	return &types.Checksum{CksumType: 0x8003, Checksum: binary.LittleEndian.AppendUint32(b, flags)}
}

func frameToken(inner []byte) []byte {
	oid := []byte("\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x01\x00")
	body := append(oid, inner...)
	return append([]byte{0x60, 0x82, byte(len(body) >> 8), byte(len(body))}, body...)
}

func newAcceptor(kt *keytab.Keytab) *krb5.Acceptor {
	return &krb5.Acceptor{
		Keys: func() *keytab.Keytab { return kt }, Replay: &clockedReplay{seen: map[[32]byte]bool{}},
		Now: func() time.Time { return noon }, Log: slog.New(slog.DiscardHandler),
	}
}

// clockedReplay is a Replay for a fixed clock.
type clockedReplay struct{ seen map[[32]byte]bool }

func (r *clockedReplay) Add(_ context.Context, key [32]byte, _ time.Time) (bool, error) {
	fresh := !r.seen[key]
	r.seen[key] = true
	return fresh, nil
}

func refusal(err error) *krb5.Refusal {
	var r *krb5.Refusal
	if errors.As(err, &r) {
		return r
	}
	return &krb5.Refusal{ID: "none"}
}
