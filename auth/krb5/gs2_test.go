package krb5_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/auth/krb5"
)

// certificate makes a self-signed certificate for tests.
func certificate(t testing.TB) (tls.Certificate, *x509.Certificate) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k}, leaf
}

// tlsPeer makes a real TLS connection and gives the server's view and the
// client's.
func tlsPeer(t testing.TB, version uint16) (server auth.Peer, client tls.ConnectionState, leaf *x509.Certificate) {
	t.Helper()
	cert, leaf := certificate(t)
	a, b := net.Pipe()
	s := tls.Server(a, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: version, MaxVersion: version})
	c := tls.Client(b, &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version})
	done := make(chan error, 1)
	go func() { done <- s.Handshake() }()
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	state := s.ConnectionState()
	return auth.Peer{TLS: &state}, c.ConnectionState(), leaf
}

func bnd(data string) [16]byte {
	b := make([]byte, 16, 64)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(data)))
	return md5.Sum(append(b, data...))
}

// bindings gives the application data a client would use, by type.
func bindings(t testing.TB, client tls.ConnectionState, leaf *x509.Certificate) map[string]string {
	t.Helper()
	end := sha256.Sum256(leaf.Raw)
	exp, err := client.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{"tls-server-end-point": string(end[:]), "tls-exporter": string(exp), "tls-unique": string(client.TLSUnique)}
}

func TestGS2(t *testing.T) {
	t.Parallel()
	peer13, client13, leaf13 := tlsPeer(t, tls.VersionTLS13)
	peer12, client12, leaf12 := tlsPeer(t, tls.VersionTLS12)
	data13, data12 := bindings(t, client13, leaf13), bindings(t, client12, leaf12)
	const plain, plus = "GS2-KRB5", "GS2-KRB5-PLUS"
	for name, c := range map[string]struct {
		mech, header, bound string
		peer                auth.Peer
		flags               uint32
		id, authzid         string
	}{
		"n":                      {plain, "n,,", "n,,", auth.Peer{}, flagsMutual, "", ""},
		"n with name":            {plain, "n,a=bob,", "n,a=bob,", auth.Peer{}, flagsMutual, "", "bob"},
		"escapes":                {plain, "n,a=a=2Cb=3D,", "n,a=a=2Cb=3D,", auth.Peer{}, flagsMutual, "", "a,b="},
		"bad escape":             {plain, "n,a=a=2cb,", "n,a=a=2cb,", auth.Peer{}, flagsMutual, "KP-160", ""},
		"empty name":             {plain, "n,a=,", "n,a=,", auth.Peer{}, flagsMutual, "KP-160", ""},
		"no name key":            {plain, "n,bob,", "n,bob,", auth.Peer{}, flagsMutual, "KP-160", ""},
		"no header":              {plain, "", "", auth.Peer{}, flagsMutual, "KP-160", ""},
		"F flag":                 {plain, "F,n,,", "n,,", auth.Peer{}, flagsMutual, "KP-160", ""},
		"y without TLS":          {plain, "y,,", "y,,", auth.Peer{}, flagsMutual, "", ""},
		"y in TLS":               {plain, "y,,", "y,,", peer13, flagsMutual, "KP-153", ""},
		"n in TLS":               {plain, "n,,", "n,,", peer13, flagsMutual, "", ""},
		"n for PLUS":             {plus, "n,,", "n,,", peer13, flagsMutual, "KP-154", ""},
		"header not bound":       {plain, "n,a=bob,", "n,,", auth.Peer{}, flagsMutual, "KP-153", ""},
		"no mutual":              {plain, "n,,", "n,,", auth.Peer{}, flagsPlain, "KP-161", ""},
		"exporter 1.3":           {plus, "p=tls-exporter,,", "p=tls-exporter,," + data13["tls-exporter"], peer13, flagsMutual, "", ""},
		"exporter 1.2":           {plus, "p=tls-exporter,,", "p=tls-exporter,," + data12["tls-exporter"], peer12, flagsMutual, "", ""},
		"end point":              {plus, "p=tls-server-end-point,a=al,", "p=tls-server-end-point,a=al," + data13["tls-server-end-point"], peer13, flagsMutual, "", "al"},
		"unique 1.2, plain name": {plain, "p=tls-unique,,", "p=tls-unique,," + data12["tls-unique"], peer12, flagsMutual, "", ""},
		"unique 1.3":             {plus, "p=tls-unique,,", "p=tls-unique,,x", peer13, flagsMutual, "KP-153", ""},
		"other connection":       {plus, "p=tls-exporter,,", "p=tls-exporter,," + data12["tls-exporter"], peer13, flagsMutual, "KP-153", ""},
		"unknown type":           {plus, "p=tls-future,,", "p=tls-future,,", peer13, flagsMutual, "KP-153", ""},
		"p without TLS":          {plain, "p=tls-exporter,,", "p=tls-exporter,,", auth.Peer{}, flagsMutual, "KP-153", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kt := keytabOf(t, all, service)
			i, req := newInitiator(t, newForge(t, kt, 18), c.flags, bnd(c.bound))
			cfg := krb5.SASLConfig{Certificate: func(p auth.Peer) *x509.Certificate {
				if p.TLS == peer13.TLS {
					return leaf13
				}
				return leaf12
			}}
			x := mechanismNamed(t, newAcceptor(kt).Mechanisms(cfg), c.mech).Begin(c.peer)
			if b, id, err := x.Next(t.Context(), nil); b == nil || len(b) != 0 || id != nil || err != nil {
				t.Fatalf("%x %v %v", b, id, err)
			}
			reply, id, err := x.Next(t.Context(), []byte(c.header+"\x01\x00"+string(req)))
			if c.id != "" {
				if refusal(err).ID != c.id || id != nil {
					t.Errorf("%v %v", id, err)
				}
				if _, id, err := x.Next(t.Context(), nil); id != nil || err == nil {
					t.Errorf("after the refusal: %v %v", id, err)
				}
				return
			}
			if err != nil || id != nil {
				t.Fatalf("%v %v", id, err)
			}
			i.established(reply)
			if _, id, err = x.Next(t.Context(), []byte{}); err != nil || id.Authzid != c.authzid || id.Mechanism != c.mech || id.Authcid != "alice@"+realm {
				t.Errorf("%+v %v", id, err)
			}
		})
	}
}

// TestGS2WithoutPlus: a listener that does not offer PLUS is told so by y, and
// nobody has taken anything out of its list (RFC 5801 section 5). Where bindings
// are required y is not enough there either.
func TestGS2WithoutPlus(t *testing.T) {
	t.Parallel()
	peer, _, _ := tlsPeer(t, tls.VersionTLS13)
	for policy, id := range map[krb5.BindingPolicy]string{krb5.BindingIgnore: "none", krb5.BindingWhenPresent: "none", krb5.BindingRequire: "KP-154"} {
		kt := keytabOf(t, all, service)
		_, req := newInitiator(t, newForge(t, kt, 18), flagsMutual, bnd("y,,"))
		cfg := krb5.SASLConfig{NoPlus: true, Binding: policy}
		x := mechanismNamed(t, newAcceptor(kt).Mechanisms(cfg), "GS2-KRB5").Begin(peer)
		if _, _, err := x.Next(t.Context(), []byte("y,,\x01\x00"+string(req))); refusal(err).ID != id {
			t.Errorf("policy %d: %v, want %s", policy, err, id)
		}
	}
}

func TestMechanismsOffered(t *testing.T) {
	t.Parallel()
	peer, _, leaf := tlsPeer(t, tls.VersionTLS13)
	for name, c := range map[string]struct {
		cfg  krb5.SASLConfig
		peer auth.Peer
		want string
	}{
		"clear":         {krb5.SASLConfig{}, auth.Peer{}, "GSSAPI GS2-KRB5 GSS-SPNEGO "},
		"TLS":           {krb5.SASLConfig{Certificate: func(auth.Peer) *x509.Certificate { return leaf }}, peer, "GSSAPI GS2-KRB5-PLUS GS2-KRB5 GSS-SPNEGO "},
		"required":      {krb5.SASLConfig{Binding: krb5.BindingRequire}, auth.Peer{}, ""},
		"required, TLS": {krb5.SASLConfig{Binding: krb5.BindingRequire}, peer, "GSSAPI GS2-KRB5-PLUS GS2-KRB5 GSS-SPNEGO "},
	} {
		got := ""
		for _, m := range newAcceptor(keytabOf(t, all, service)).Mechanisms(c.cfg) {
			if m.Plaintext {
				t.Errorf("%s shows passwords", m.Name)
			}
			if m.Usable == nil || m.Usable(c.peer) {
				got += m.Name + " "
			}
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// TestGSSAPIBinding: the three policies of plain GSSAPI.
func TestGSSAPIBinding(t *testing.T) {
	t.Parallel()
	peer, client, leaf := tlsPeer(t, tls.VersionTLS12)
	data := bindings(t, client, leaf)
	sums := map[string][16]byte{
		"zero": {}, "end point": bnd("tls-server-end-point:" + data["tls-server-end-point"]), "exporter": bnd("tls-exporter:" + data["tls-exporter"]),
		"unique": bnd("tls-unique:" + data["tls-unique"]), "unique as Cyrus has it": bnd(data["tls-unique"]), "other": bnd("tls-exporter:other"),
	}
	const ok = "none"
	for name, want := range map[string][3]string{
		"zero":                   {ok, ok, "KP-154"},
		"end point":              {ok, ok, ok},
		"exporter":               {ok, ok, ok},
		"unique":                 {ok, ok, ok},
		"unique as Cyrus has it": {ok, ok, ok},
		"other":                  {ok, "KP-153", "KP-153"},
	} {
		for n, policy := range []krb5.BindingPolicy{krb5.BindingIgnore, krb5.BindingWhenPresent, krb5.BindingRequire} {
			kt := keytabOf(t, all, service)
			_, req := newInitiator(t, newForge(t, kt, 18), flagsMutual, sums[name])
			cfg := krb5.SASLConfig{Binding: policy, Certificate: func(auth.Peer) *x509.Certificate { return leaf }}
			_, _, err := mechanismNamed(t, newAcceptor(kt).Mechanisms(cfg), "GSSAPI").Begin(peer).Next(t.Context(), frameToken(req))
			if got := refusal(err).ID; got != want[n] {
				t.Errorf("%s, policy %d: %s (%v), want %s", name, policy, got, err, want[n])
			}
		}
	}
	// Bound to a TLS session that ends somewhere else.
	kt := keytabOf(t, all, service)
	_, req := newInitiator(t, newForge(t, kt, 18), flagsMutual, sums["exporter"])
	_, _, err := mechanismNamed(t, newAcceptor(kt).Mechanisms(krb5.SASLConfig{Binding: krb5.BindingWhenPresent}), "GSSAPI").Begin(auth.Peer{}).Next(t.Context(), frameToken(req))
	if refusal(err).ID != "KP-153" {
		t.Errorf("bound, without TLS: %v", err)
	}
}
