package ldapdir

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/url"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// A server is one of the URLs.
type server struct {
	url      string
	network  string // tcp or unix
	address  string
	host     string      // for certificates and service principals; empty on ldapi
	tls      *tls.Config // nil: no TLS
	startTLS bool
	breaker  breaker
	panicked func(value any, stack []byte)
}

// parseServer reads a URL and refuses what would show passwords and decisions
// to the network.
func parseServer(raw string, c Connect) (*server, error) {
	if rest, ok := strings.CutPrefix(raw, "ldapi://"); ok {
		path, err := url.PathUnescape(strings.TrimSuffix(rest, "/"))
		if err != nil || !strings.HasPrefix(path, "/") {
			return nil, fmt.Errorf("ldapdir: %q: want ldapi:// and a path with %%2F for /", raw)
		}
		return &server{url: raw, network: "unix", address: path}, nil
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("ldapdir: %w", err)
	}
	port := map[string]string{"ldap": "389", "ldaps": "636"}[u.Scheme]
	if port == "" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
		return nil, fmt.Errorf("ldapdir: %q: want ldap://host[:port], ldaps://host[:port] or ldapi://", u.Redacted())
	}
	if u.Port() != "" {
		port = u.Port()
	}
	s := &server{url: raw, network: "tcp", address: net.JoinHostPort(u.Hostname(), port), host: u.Hostname()}
	s.startTLS = u.Scheme == "ldap" && c.StartTLS
	if u.Scheme == "ldaps" || s.startTLS {
		s.tls = &tls.Config{ServerName: s.host, RootCAs: c.RootCAs, MinVersion: tls.VersionTLS12}
	}
	if s.tls == nil && !c.AllowClear && !isLoopback(s.host) {
		return nil, fmt.Errorf("ldapdir: %q would go in clear over the network; use ldaps:// or StartTLS, or allow it", raw)
	}
	return s, nil
}

// LoadCAs reads the certificates of a PEM file, for Connect.RootCAs.
func LoadCAs(path string) (*x509.CertPool, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("ldapdir: %w", err)
	}
	cas := x509.NewCertPool()
	if !cas.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("ldapdir: %s has no certificate", path)
	}
	return cas, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

// connect gives a bound session. Everything it does ends with ctx.
func (s *server) connect(ctx context.Context, bind Bind) (*session, error) {
	var dialer net.Dialer
	raw, err := dialer.DialContext(ctx, s.network, s.address)
	if err != nil {
		return nil, fmt.Errorf("ldapdir: %s: %w", s.url, err)
	}
	// Handshakes have deadlines of their own; the session's begin after.
	stop := context.AfterFunc(ctx, func() { raw.SetDeadline(time.Unix(1, 0)) }) //nolint:errcheck // it is being given up
	conn, err := s.secure(ctx, raw)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		raw.Close() //nolint:errcheck // given up
		return nil, fmt.Errorf("ldapdir: %s: %w", s.url, err)
	}
	guarded := newGuard(conn)
	c := ldap.NewConn(guarded, s.tls != nil)
	c.Start()
	now := time.Now()
	session := &session{conn: c, guard: guarded, raw: raw, server: s, born: now, used: now}
	if bind == nil {
		err = session.rootDSE(ctx) // a connection alone says nothing of the server behind it
	} else {
		err = session.do(ctx, func(c *ldap.Conn) error { return bind(ctx, c, s.host) })
	}
	if err != nil {
		session.close()
		return nil, fmt.Errorf("%w: %s: bind: %w", errConnection, s.url, err)
	}
	return session, nil
}

// secure puts TLS on, at once or after the StartTLS operation. go-ldap's own
// StartTLS would put TLS above the guard, where it can check nothing.
func (s *server) secure(ctx context.Context, raw net.Conn) (secured net.Conn, err error) {
	defer func() {
		if p := recover(); p != nil {
			s.panicked(p, debug.Stack())
			secured, err = nil, fmt.Errorf("panic: %v", p)
		}
	}()
	if s.tls == nil {
		return raw, nil
	}
	if s.startTLS {
		if err := startTLS(raw); err != nil {
			return nil, err
		}
	}
	conn := tls.Client(raw, s.tls)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return conn, nil
}

// startTLS asks for TLS (RFC 4511 section 4.14.1) and reads the answer, not an
// octet more: what follows it in clear is nobody's.
func startTLS(c net.Conn) error {
	const request = "\x30\x1d\x02\x01\x01\x77\x18\x80\x16" + "1.3.6.1.4.1.1466.20037"
	if _, err := c.Write([]byte(request)); err != nil {
		return err
	}
	answer, err := readMessage(c)
	if err != nil {
		return err
	}
	code, err := extendedResult(answer)
	if err != nil {
		return err
	}
	if code != ldap.LDAPResultSuccess {
		return fmt.Errorf("StartTLS refused: %s", ldap.LDAPResultCodeMap[uint16(code)])
	}
	return nil
}

// extendedResult takes the result code out of message 1's ExtendedResponse
// (application 24), which readMessage has found sound.
func extendedResult(message []byte) (code byte, err error) {
	_, size, err := berLength(message[1:])
	if err != nil {
		return 0, err
	}
	body := message[1+size:]
	if len(body) < 5 || string(body[:4]) != "\x02\x01\x01\x78" {
		return 0, fmt.Errorf("%w: no answer to StartTLS", errMessage)
	}
	_, size, err = berLength(body[4:])
	if err != nil {
		return 0, err
	}
	result := body[4+size:]
	if len(result) < 3 || string(result[:2]) != "\x0a\x01" {
		return 0, fmt.Errorf("%w: no result code", errMessage)
	}
	return result[2], nil
}
