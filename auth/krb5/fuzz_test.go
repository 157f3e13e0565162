package krb5

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
	"github.com/kpopd/kpopd/auth"
)

// sampleAPReq is well formed; nothing opens it.
func sampleAPReq(t testing.TB) []byte {
	t.Helper()
	name := types.PrincipalName{NameType: 2, NameString: []string{"pop", "mail.realm.test"}}
	flags := types.NewKrbFlags()
	types.SetFlag(&flags, 2)
	req := messages.APReq{
		PVNO: 5, MsgType: 14, APOptions: flags,
		Ticket: messages.Ticket{
			TktVNO: 5, Realm: "REALM.TEST", SName: name,
			EncPart: types.EncryptedData{EType: 18, KVNO: 2, Cipher: make([]byte, 60)},
		},
		EncryptedAuthenticator: types.EncryptedData{EType: 18, Cipher: make([]byte, 60)},
	}
	b, err := req.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func fuzzAcceptor(t testing.TB) *Acceptor {
	t.Helper()
	kt := keytab.New()
	if err := kt.AddEntry("pop/mail.realm.test", "REALM.TEST", "secret", time.Unix(1, 0), 2, 18); err != nil {
		t.Fatal(err)
	}
	return &Acceptor{Keys: func() *keytab.Keytab { return kt }, Replay: NewReplayCache(0)}
}

// mustRefuse: nobody can make a ticket by chance, so all input is refused, and
// never by the net that catches panics.
func mustRefuse(t *testing.T, err error) {
	t.Helper()
	var r *Refusal
	if !errors.As(err, &r) || r.ID == idInternal {
		t.Fatalf("refusal expected, got %v", err)
	}
}

// recorded are the AP-REQs of real clients.
func recorded(f *testing.F) (all [][]byte) {
	f.Helper()
	names, err := filepath.Glob("testdata/*.apreq")
	if err != nil || len(names) == 0 {
		f.Fatal("no recordings", err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		all = append(all, b)
	}
	return all
}

// FuzzAPReq: what is decoded here, gokrb5 decodes to the same.
func FuzzAPReq(f *testing.F) {
	a := fuzzAcceptor(f)
	good := sampleAPReq(f)
	f.Add(good)
	f.Add(good[:len(good)-1])
	for _, b := range recorded(f) {
		f.Add(b)
	}
	f.Add([]byte{0x6e, 0x80, 0, 0})
	f.Add([]byte{0x6e, 0x84, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, use := range []Use{UseKPOP, UseGSS} {
			_, err := a.Accept(t.Context(), b, use, nil)
			mustRefuse(t, err)
		}
		ours, ok := decodeAPReq(b)
		if !ok {
			return
		}
		var theirs messages.APReq
		if theirs.Unmarshal(b) != nil {
			return // stricter in places, such as the text of names
		}
		if ours.realm != theirs.Ticket.Realm || !sameName(ours.service, theirs.Ticket.SName.NameString) ||
			!bytes.Equal(ours.ticket.cipher, theirs.Ticket.EncPart.Cipher) || ours.ticket.etype != theirs.Ticket.EncPart.EType ||
			!bytes.Equal(ours.authenticator.cipher, theirs.EncryptedAuthenticator.Cipher) {
			t.Fatalf("decoded %+v, gokrb5 %+v", ours, theirs)
		}
	})
}

// FuzzInner feeds the decoders of what is inside the encryption.
func FuzzInner(f *testing.F) {
	auth := types.Authenticator{AVNO: 5, CRealm: "REALM.TEST", CName: types.PrincipalName{NameType: 1, NameString: []string{"alice"}}, CTime: time.Unix(1e9, 0).UTC(), Cusec: 5, SeqNumber: 9}
	b, err := auth.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{0x63, 0x02, 0x30, 0x00})
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, ok := decodeAuthenticator(b); ok {
			var theirs types.Authenticator
			if theirs.Unmarshal(b) == nil && (theirs.CRealm != a.realm || !sameName(theirs.CName.NameString, a.name)) {
				t.Fatalf("decoded %+v, gokrb5 %+v", a, theirs)
			}
		}
		decodeTicketPart(b)
	})
}

// FuzzGSSAPI sends two responses to a fresh exchange of either mechanism.
func FuzzGSSAPI(f *testing.F) {
	a := fuzzAcceptor(f)
	req := sampleAPReq(f)
	f.Add(frame(tokenAPReq, req), []byte{})
	for _, b := range recorded(f) {
		f.Add(frame(tokenAPReq, b), []byte{})
	}
	f.Add(append([]byte("n,a=alice,\x01\x00"), req...), []byte{})
	f.Add([]byte("p=tls-exporter,,"), []byte("x"))
	f.Fuzz(func(t *testing.T, one, two []byte) {
		for _, m := range a.Mechanisms(SASLConfig{Binding: BindingWhenPresent}) {
			if m.Name == nameSPNEGO {
				continue // FuzzNegToken
			}
			x := m.Begin(auth.Peer{})
			if one == nil {
				one = []byte{}
			}
			_, id, err := x.Next(t.Context(), one)
			mustRefuse(t, err)
			_, id2, err := x.Next(t.Context(), two)
			mustRefuse(t, err)
			if id != nil || id2 != nil {
				t.Fatal("an identity out of nothing")
			}
		}
	})
}

// FuzzNegToken reads any octets as either negotiation token, and plays them as
// two responses of GSS-SPNEGO. What is taken for an answer is written back to
// the same octets, so that there is one form of each.
func FuzzNegToken(f *testing.F) {
	a := fuzzAcceptor(f)
	element := func(n, tag byte, b string) []byte {
		w := newBuilder(len(b) + 16)
		w.primitive(n, tag, []byte(b))
		return w.bytes()
	}
	list := element(0, 0x30, "\x06\x0a\x2b\x06\x01\x04\x01\x82\x37\x02\x02\x0a"+mechanismOID+microsoftOID)
	for _, tail := range [][]byte{nil, element(2, 0x04, string(frame(tokenAPReq, sampleAPReq(f)))), element(3, 0x04, "mic")} {
		w := newBuilder(1024)
		w.raw(append(list, tail...)...)
		w.wrap(0x30, 0)
		w.wrap(0xa0, 0)
		w.raw([]byte(spnegoOID)...)
		w.wrap(0x60, 0)
		answer := negResp{state: negIncomplete, mech: mechanismOID, token: frame(tokenAPReq, sampleAPReq(f)), mic: []byte("mic")}
		f.Add(w.bytes(), answer.encode())
	}
	m := a.Mechanisms(SASLConfig{})[3]
	f.Fuzz(func(t *testing.T, one, two []byte) {
		if r, err := parseNegResp(two); err == nil && r.hasState {
			if again := r.encode(); !bytes.Equal(again, two) {
				t.Fatalf("%x is written as %x", two, again)
			}
		}
		if i, err := parseNegInit(one); err == nil && (len(i.mechs) == 0 || len(i.list) == 0) {
			t.Fatalf("nothing proposed: %+v", i)
		}
		x := m.Begin(auth.Peer{})
		if one == nil {
			one = []byte{}
		}
		challenge, id, err := x.Next(t.Context(), one)
		if err != nil {
			mustRefuse(t, err)
		} else if answer, perr := parseNegResp(challenge); perr != nil || !answer.hasState {
			t.Fatalf("answered %x", challenge)
		}
		_, id2, err := x.Next(t.Context(), two)
		mustRefuse(t, err)
		if id != nil || id2 != nil {
			t.Fatal("an identity out of nothing")
		}
	})
}

// FuzzUnwrap: only the very token that was made goes through.
func FuzzUnwrap(f *testing.F) {
	k := key{&enctypes[1], make([]byte, 32)}
	side := func() *direction {
		return &direction{key: k, usage: usageInitiatorSeal, flags: wrapAcceptorSubkey, random: rand.Reader}
	}
	for _, sealed := range []bool{true, false} {
		b, err := side().wrap(nil, []byte("STAT\r\n"), sealed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, sealed)
		f.Add(b[:20], sealed)
	}
	f.Fuzz(func(t *testing.T, b []byte, sealed bool) {
		// The fuzzer knows the key through the corpus; it may replay and
		// rotate those tokens, not make others.
		plain, err := side().unwrap(bytes.Clone(b), sealed)
		if err == nil && string(plain) != "STAT\r\n" {
			t.Fatalf("a token nobody made: %q", plain)
		}
	})
}

// FuzzLayer reads a layered stream.
func FuzzLayer(f *testing.F) {
	k := key{&enctypes[1], make([]byte, 32)}
	b, err := (&direction{key: k, usage: usageInitiatorSeal, random: rand.Reader}).wrap([]byte{0, 0, 0, 66}, []byte("STAT\r\n"), true)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		in := direction{key: k, usage: usageInitiatorSeal}
		l := &layer{Conn: octets{Reader: bytes.NewReader(b)}, confidential: true, in: &in}
		got, err := io.ReadAll(l)
		if len(got) > 0 && string(got) != "STAT\r\n" {
			t.Fatalf("%q %v", got, err)
		}
	})
}

// octets is a connection made of given octets in, and of nothing out.
type octets struct {
	net.Conn
	io.Reader
}

func (o octets) Read(p []byte) (int, error)      { return o.Reader.Read(p) }
func (o octets) Write(p []byte) (int, error)     { return len(p), nil }
func (o octets) SetDeadline(time.Time) error     { return nil }
func (o octets) SetReadDeadline(time.Time) error { return nil }

// FuzzSendauth plays the whole KPOP dialog.
func FuzzSendauth(f *testing.F) {
	k := &KPOP{Acceptor: fuzzAcceptor(f)}
	start := "\x00\x00\x00\x13KRB5_SENDAUTH_V1.0\x00\x00\x00\x00\x09KPOPV1.0\x00"
	req := sampleAPReq(f)
	f.Add([]byte(start + string([]byte{0, 0, byte(len(req) >> 8), byte(len(req))}) + string(req)))
	f.Add([]byte(start + "QUIT\r\n"))
	f.Add([]byte("AUTHV0.1KPOPV0.1"))
	f.Add([]byte("\x16\x03\x01\x02\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		id, err := k.Receive(context.Background(), octets{Reader: bytes.NewReader(b)}, auth.Peer{})
		if id != nil {
			t.Fatal("an identity out of nothing")
		}
		mustRefuse(t, err)
	})
}
