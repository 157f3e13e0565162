package krb5

import (
	"crypto/md5" //nolint:gosec // RFC 4121 section 4.1.1.2 fixes MD5 for the Bnd field
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
)

// A BindingPolicy says what becomes of the channel bindings that a client puts
// into plain GSSAPI.
type BindingPolicy int

// The policies. BindingIgnore is the default because Cyrus SASL's clients send
// a tls-unique without prefix that cannot be computed again under TLS 1.3.
const (
	BindingIgnore      BindingPolicy = iota
	BindingWhenPresent               // verify what is sent
	BindingRequire                   // and refuse to go without under TLS
)

// bindingHash is the Bnd field for application data: all other parts of the
// channel bindings structure are empty (RFC 4121 section 4.1.1.2).
func bindingHash(data []byte) [bindingsLen]byte {
	b := make([]byte, 16, 20+len(data))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(data))) //nolint:gosec // G115: a few dozen octets
	return md5.Sum(append(b, data...))                         //nolint:gosec // as above
}

// binding computes one channel binding type's data for a connection, with its
// RFC 5056 prefix, or nil when this connection has none.
func binding(kind string, state *tls.ConnectionState, certificate *x509.Certificate) []byte {
	if state == nil {
		return nil
	}
	var data []byte
	switch kind {
	case "tls-exporter": // RFC 9266
		data, _ = state.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32)
	case "tls-unique": // RFC 5929 section 3; Go gives it up to TLS 1.2 only
		data = state.TLSUnique
	case "tls-server-end-point": // RFC 5929 section 4
		data = endPoint(certificate)
	}
	if len(data) == 0 {
		return nil
	}
	return append([]byte(kind+":"), data...)
}

// endPoint hashes the server's certificate by its signature's hash, SHA-256 in
// place of weaker ones (RFC 5929 section 4.1).
func endPoint(c *x509.Certificate) []byte {
	if c == nil {
		return nil
	}
	switch c.SignatureAlgorithm {
	case x509.SHA384WithRSA, x509.ECDSAWithSHA384, x509.SHA384WithRSAPSS:
		h := sha512.Sum384(c.Raw)
		return h[:]
	case x509.SHA512WithRSA, x509.ECDSAWithSHA512, x509.SHA512WithRSAPSS:
		h := sha512.Sum512(c.Raw)
		return h[:]
	default:
		h := sha256.Sum256(c.Raw)
		return h[:]
	}
}

// bound says whether the client's Bnd is one of the bindings of its connection.
func bound(got [bindingsLen]byte, state *tls.ConnectionState, certificate *x509.Certificate) bool {
	for _, kind := range []string{"tls-exporter", "tls-server-end-point", "tls-unique"} {
		if data := binding(kind, state, certificate); data != nil && bindingHash(data) == got {
			return true
		}
	}
	return false
}

// check applies the policy to what the client sent.
func (p BindingPolicy) check(got [bindingsLen]byte, state *tls.ConnectionState, certificate *x509.Certificate) *Refusal {
	none := got == [bindingsLen]byte{}
	switch {
	case p == BindingIgnore, none && p == BindingWhenPresent:
		return nil
	case none && state == nil:
		return nil // there is no channel to bind to
	case bound(got, state, certificate):
		return nil
	default:
		return refuse("KP-118")
	}
}
