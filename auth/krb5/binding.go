package krb5

import (
	"crypto/md5" //nolint:gosec // RFC 4121 section 4.1.1.2 defines the bindings' hash as MD5.
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"slices"

	"github.com/kpopd/kpopd/auth"
)

// A BindingPolicy says what is done with the channel bindings of plain GSSAPI
// (RFC 5056). GS2 has rules of its own (RFC 5801) and follows only
// BindingRequire.
type BindingPolicy int

const (
	// BindingIgnore looks at none. It is the default: Cyrus clients bind to
	// the TLS Finished message, which cannot be computed under TLS 1.3.
	BindingIgnore BindingPolicy = iota

	// BindingWhenPresent refuses bindings that are not this connection's,
	// and a client that says it knows bindings and sends none.
	BindingWhenPresent

	// BindingRequire refuses also a client without bindings, and any without TLS.
	BindingRequire
)

// Channel binding types: RFC 5929 and RFC 9266.
const (
	cbEndPoint = "tls-server-end-point"
	cbExporter = "tls-exporter"
	cbUnique   = "tls-unique"
)

// bindingData gives the data of one channel binding type for a connection, or
// nil when it has none.
func (m *mechanism) bindingData(kind string, peer auth.Peer) []byte {
	if peer.TLS == nil {
		return nil
	}
	switch kind {
	case cbEndPoint:
		if m.cfg.Certificate != nil {
			return endPoint(m.cfg.Certificate(peer))
		}
	case cbExporter:
		// RFC 9266 section 4.2: not with TLS 1.2 unless the master
		// secret is extended; Go refuses to export then.
		b, err := peer.TLS.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32)
		if err == nil {
			return b
		}
	case cbUnique:
		if peer.TLS.Version <= tls.VersionTLS12 {
			return peer.TLS.TLSUnique
		}
	}
	return nil
}

// endPoint hashes a certificate as RFC 5929 section 4.1 says: with the hash of
// its signature, SHA-256 in place of MD5 and SHA-1.
func endPoint(cert *x509.Certificate) []byte {
	if cert == nil {
		return nil
	}
	switch cert.SignatureAlgorithm {
	case x509.SHA384WithRSA, x509.ECDSAWithSHA384, x509.SHA384WithRSAPSS:
		h := sha512.Sum384(cert.Raw)
		return h[:]
	case x509.SHA512WithRSA, x509.ECDSAWithSHA512, x509.SHA512WithRSAPSS:
		h := sha512.Sum512(cert.Raw)
		return h[:]
	case x509.PureEd25519: // defines no hash: the binding is undefined
		return nil
	}
	h := sha256.Sum256(cert.Raw)
	return h[:]
}

// bindingHash is the Bnd field for application data without addresses (RFC
// 4121 section 4.1.1.2, RFC 2744 section 3.11).
func bindingHash(data ...[]byte) (sum [16]byte) {
	var head [20]byte
	n := 0
	for _, d := range data {
		n += len(d)
	}
	binary.LittleEndian.PutUint32(head[16:], uint32(n)) //nolint:gosec // short
	h := md5.New()                                      //nolint:gosec // see above
	h.Write(head[:])
	for _, d := range data {
		h.Write(d)
	}
	h.Sum(sum[:0])
	return sum
}

// checkBinding applies the policy to plain GSSAPI.
func (m *mechanism) checkBinding(g *gssContext, peer auth.Peer) error {
	if m.cfg.Binding == BindingIgnore {
		return nil
	}
	if g.bindings == [16]byte{} {
		if m.cfg.Binding == BindingRequire || g.auth.cbt {
			return refuse(idNoBinding).with(g.logAttrs()...)
		}
		return nil
	}
	ok := 0
	for _, kind := range []string{cbEndPoint, cbExporter, cbUnique} {
		data := m.bindingData(kind, peer)
		if data == nil {
			continue
		}
		want := bindingHash([]byte(kind+":"), data)
		ok |= subtle.ConstantTimeCompare(want[:], g.bindings[:])
		if kind == cbUnique {
			// Client: pop3test 3.6.1 (Cyrus SASL) leaves the prefix out.
			want = bindingHash(data)
			ok |= subtle.ConstantTimeCompare(want[:], g.bindings[:])
		}
	}
	if ok != 1 {
		return refuse(idBinding).with(g.logAttrs()...)
	}
	return nil
}

// canBind reports whether any channel binding can be computed.
func (m *mechanism) canBind(peer auth.Peer) bool {
	return slices.ContainsFunc([]string{cbExporter, cbEndPoint, cbUnique}, func(kind string) bool {
		return m.bindingData(kind, peer) != nil
	})
}
