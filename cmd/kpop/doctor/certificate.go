package doctor

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"strings"
	"time"
)

// Days before a certificate's end at which to speak.
const (
	daysWarn = 30
	day      = 24 * time.Hour
)

// certificate examines the files of [tls].
func (s *Site) certificate(r *Report, who account) {
	out, c := r.section("tls"), s.Certificate
	if c.File == "" {
		out.warn("set tls.certificate and tls.key", "there is no certificate: no STLS, no POP3S, and the mail goes in clear")
		return
	}
	for _, path := range []string{c.File, c.Key} {
		if handedOver(path) {
			out.wrong(toHandOver, "%s is not there", path)
			return
		}
		if why := who.refused(path, toRead); why != "" {
			out.wrong("chgrp it to a group of "+who.name+", or let systemd hand it over (LoadCredential)", "user %s cannot read it: %s", who.name, why)
		}
	}
	if info, err := os.Stat(c.Key); err == nil && info.Mode().Perm()&0o007 != 0 {
		out.warn("chmod o= "+c.Key, "%s can be read by everybody", c.Key)
	}
	pair, err := tls.LoadX509KeyPair(c.File, c.Key)
	if err != nil {
		out.wrong("certificate and key must be PEM and belong together", "%v", err)
		return
	}
	examineChain(out, pair, c.CA, s.Hostname)
}

// examineChain examines names, time and chain of a certificate.
func examineChain(out section, pair tls.Certificate, ca, host string) {
	leaf := pair.Leaf
	if err := leaf.VerifyHostname(host); err != nil {
		out.wrong("get one whose subjectAltName has DNS:"+host, "the certificate is not for %s: %v", host, err)
	} else {
		out.ok("the certificate is for %s", strings.Join(append(leaf.DNSNames, addresses(leaf)...), ", "))
	}
	left := time.Until(leaf.NotAfter)
	switch {
	case left <= 0:
		out.wrong("renew it, and systemctl reload kpopd", "the certificate ended on %s", leaf.NotAfter.Format(time.DateOnly))
	case time.Now().Before(leaf.NotBefore):
		out.wrong("wait, or set the clock", "the certificate begins on %s", leaf.NotBefore.Format(time.DateOnly))
	case left < daysWarn*day:
		out.warn("renew it, and systemctl reload kpopd", "the certificate ends in %d days", int(left/day))
	default:
		out.ok("the certificate is good for %d days", int(left/day))
	}
	verify(out, pair, ca)
}

// verify looks for a chain from the certificate to a CA that clients trust.
func verify(out section, pair tls.Certificate, ca string) {
	options := x509.VerifyOptions{Intermediates: x509.NewCertPool(), CurrentTime: pair.Leaf.NotBefore.Add(time.Second)}
	for _, der := range pair.Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil {
			options.Intermediates.AddCert(c)
		}
	}
	if ca != "" {
		pem, err := os.ReadFile(ca) //nolint:gosec // G304: the operator names it
		options.Roots = x509.NewCertPool()
		if err != nil || !options.Roots.AppendCertsFromPEM(pem) {
			out.wrong("name a PEM file with --ca", "%s holds no CA: %v", ca, err)
			return
		}
	}
	_, err := pair.Leaf.Verify(options)
	var unknown x509.UnknownAuthorityError
	switch {
	case err == nil:
		out.ok("its chain of %d leads to a CA that is trusted here", len(pair.Certificate))
	case errors.As(err, &unknown):
		out.warn("append the intermediate certificates to tls.certificate, or give clients the CA (--ca FILE tries one)",
			"no chain leads from it to a CA that is trusted here; it was signed by %q", pair.Leaf.Issuer)
	default:
		out.wrong("get another", "the certificate is no server's: %v", err)
	}
}

func addresses(c *x509.Certificate) []string {
	out := make([]string, 0, len(c.IPAddresses))
	for _, ip := range c.IPAddresses {
		out = append(out, ip.String())
	}
	return out
}
