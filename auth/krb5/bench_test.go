package krb5_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"testing"
	"time"

	"github.com/jcmturner/gofork/encoding/asn1"
	"github.com/jcmturner/gokrb5/v8/asn1tools"
	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/auth/krb5"
)

// BenchmarkAccept verifies an AP-REQ and makes the AP-REP: ours against
// gokrb5's own path, by the same ticket and in the same run.
func BenchmarkAccept(b *testing.B) {
	kt := keytabOf(b, all, service)
	for _, et := range []int32{18, 20} {
		f := newForge(b, kt, et)
		f.ctime = time.Now().UTC()
		f.start, f.end = f.ctime.Add(-time.Hour), f.ctime.Add(time.Hour)
		message := f.apReq(b)
		name := map[int32]string{18: "aes256-sha1", 20: "aes256-sha2"}[et]
		b.Run(name+"/kpopd", func(b *testing.B) {
			a := newAcceptor(kt)
			a.Now, a.Replay = time.Now, alwaysFresh{krb5.NewReplayCache(0), new(uint64)}
			b.ReportAllocs()
			for b.Loop() {
				c, err := a.Accept(b.Context(), message, krb5.UseKPOP, nil)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := c.APRep(); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/gokrb5", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				gokrb5Accept(b, message, f)
			}
		})
	}
}

// gokrb5Accept is what a server on gokrb5 alone does. Its own Verify does the
// same with a PAC parser and a process-wide cache on top.
func gokrb5Accept(b *testing.B, message []byte, f *forge) {
	var req messages.APReq
	if err := req.Unmarshal(message); err != nil {
		b.Fatal(err)
	}
	if err := req.Ticket.Decrypt(f.key); err != nil {
		b.Fatal(err)
	}
	if err := req.DecryptAuthenticator(req.Ticket.DecryptedEncPart.Key); err != nil {
		b.Fatal(err)
	}
	gokrb5APRep(b, &req)
}

// gokrb5APRep makes an AP-REP of what gokrb5 has: it has no acceptor's side.
func gokrb5APRep(b *testing.B, req *messages.APReq) {
	b.Helper()
	session := req.Ticket.DecryptedEncPart.Key
	plain, err := asn1.Marshal(messages.EncAPRepPart{CTime: req.Authenticator.CTime, Cusec: req.Authenticator.Cusec})
	if err != nil {
		b.Fatal(err)
	}
	et, err := crypto.GetEtype(session.KeyType)
	if err != nil {
		b.Fatal(err)
	}
	_, cipher, err := et.EncryptMessage(session.KeyValue, asn1tools.AddASNAppTag(plain, 27), 12)
	if err != nil {
		b.Fatal(err)
	}
	rep, err := asn1.Marshal(messages.APRep{PVNO: 5, MsgType: 15, EncPart: types.EncryptedData{EType: session.KeyType, Cipher: cipher}})
	if err != nil {
		b.Fatal(err)
	}
	asn1tools.AddASNAppTag(rep, 15)
}

// alwaysFresh pays the price of a replay cache for one message again and again.
type alwaysFresh struct {
	*krb5.ReplayCache
	n *uint64
}

func (r alwaysFresh) Add(ctx context.Context, key [32]byte, _ time.Time) (bool, error) {
	*r.n++
	binary.BigEndian.PutUint64(key[:], *r.n)
	return r.ReplayCache.Add(ctx, sha256.Sum256(key[:]), time.Now().Add(-time.Hour))
}

// BenchmarkGSSAPI is a whole login, without the client's work of two tokens.
func BenchmarkGSSAPI(b *testing.B) {
	kt := keytabOf(b, all, service)
	a := newAcceptor(kt)
	a.Now, a.Replay = time.Now, alwaysFresh{krb5.NewReplayCache(0), new(uint64)}
	f := newForge(b, kt, 18)
	f.ctime = time.Now().UTC()
	f.start, f.end = f.ctime.Add(-time.Hour), f.ctime.Add(time.Hour)
	_, req := newInitiator(b, f, flagsMutual, [16]byte{})
	token := frameToken(req)
	begin := mechanismNamed(b, a.Mechanisms(krb5.SASLConfig{}), "GSSAPI").Begin
	b.ReportAllocs()
	for b.Loop() {
		x := begin(auth.Peer{})
		for _, in := range [][]byte{nil, token, {}} {
			if _, _, err := x.Next(b.Context(), in); err != nil {
				b.Fatal(err)
			}
		}
	}
}
