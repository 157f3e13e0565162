package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/jcmturner/gokrb5/v8/client"
	"github.com/jcmturner/gokrb5/v8/credentials"

	"github.com/kpopd/kpopd/krb5conf"
)

// A Target is a server, seen from a machine whose people fetch mail from it.
type Target struct {
	Host  string
	Ports map[string]string // protocol (kpop, pop3, pop3s) to port
	Cache string            // ticket cache, a file
	CA    string            // PEM; empty: the system's

	CacheError error // why there is no Cache, and what to do

	Profile      *krb5conf.Profile // nil when it could not be read
	ProfileError error
	Resolver     *net.Resolver // nil: the system's
}

// WellKnown are the ports of the protocols (RFC 1939, RFC 8314; KPOP has no
// RFC).
func WellKnown() map[string]string {
	return map[string]string{"kpop": "1109", "pop3": "110", "pop3s": "995"}
}

// Client examines a client's machine against one server.
func Client(ctx context.Context, t *Target) *Report {
	r := &Report{}
	if t.Resolver == nil {
		t.Resolver = net.DefaultResolver
	}
	examineProfile(r.section("krb5.conf"), t.Profile, t.ProfileError)
	styles := examineNames(ctx, r.section("dns"), t.Resolver, t.Profile, t.Host)
	if t.Profile != nil && t.Profile.DefaultRealm() != "" && examineKDCs(ctx, r, t.Resolver, t.Profile, "pop/"+t.Host, 5*time.Minute) {
		t.tickets(r, styles)
	}
	t.reach(ctx, r)
	return r
}

// tickets asks for a ticket as each style of client would.
func (t *Target) tickets(r *Report, styles []style) {
	out := r.section("ticket")
	if t.CacheError != nil {
		what, remedy, _ := strings.Cut(t.CacheError.Error(), "; ")
		out.wrong(remedy, "%s", what)
		return
	}
	c, principal, ends, err := openCache(t.Cache, t.Profile)
	if err != nil {
		out.wrong("kinit", "%v", err)
		return
	}
	defer c.Destroy()
	left := time.Until(ends)
	if left <= 0 {
		out.wrong("kinit", "the ticket of %s ended %s ago", principal, (-left).Round(time.Second))
		return
	}
	out.ok("the ticket of %s is good for %s", principal, left.Round(time.Minute))
	for _, st := range styles {
		kvno, err := serviceTicket(c, "pop/"+st.host)
		if err != nil && st.unlikely {
			out.warn("leave rdns off, or make DNS give the other name", "%s: there would be no ticket for pop/%s; rdns is off here", st.who, st.host)
			continue
		}
		if err != nil {
			out.wrong(fmt.Sprintf("tell the server's operator (addprinc -randkey pop/%s), or make DNS give the other name; [domain_realm] says whose host it is", st.host),
				"%s: there is no ticket for pop/%s", st.who, st.host)
			continue
		}
		out.ok("%s: a ticket for pop/%s was given, kvno %d", st.who, st.host, kvno)
	}
}

// openCache reads a ticket cache. gokrb5's reader panics on a damaged one.
func openCache(path string, p *krb5conf.Profile) (c *client.Client, principal string, ends time.Time, err error) {
	defer func() {
		if recover() != nil {
			err = fmt.Errorf("the ticket cache %s is damaged", path)
		}
	}()
	cache, err := credentials.LoadCCache(path)
	if err != nil {
		return nil, "", ends, fmt.Errorf("there is no ticket cache in %s", path)
	}
	principal = cache.DefaultPrincipal.PrincipalName.PrincipalNameString() + "@" + cache.DefaultPrincipal.Realm
	for _, e := range cache.GetEntries() {
		if len(e.Server.PrincipalName.NameString) > 0 && e.Server.PrincipalName.NameString[0] == "krbtgt" {
			ends = e.EndTime
		}
	}
	c, err = client.NewFromCCache(cache, p.Client(), client.DisablePAFXFAST(true))
	if err != nil {
		return nil, principal, ends, errors.New("the ticket cache holds no ticket-granting ticket")
	}
	return c, principal, ends, nil
}

func serviceTicket(c *client.Client, service string) (kvno int, err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("malformed answer")
		}
	}()
	ticket, _, err := c.GetServiceTicket(service)
	return ticket.EncPart.KVNO, err
}

// reach connects to the server's ports, and verifies the certificate.
func (t *Target) reach(ctx context.Context, r *Report) {
	out, open := r.section("ports"), 0
	for _, protocol := range []string{"kpop", "pop3", "pop3s"} {
		port, asked := t.Ports[protocol]
		if !asked {
			continue
		}
		address := net.JoinHostPort(t.Host, port)
		greeting, err := knock(ctx, protocol, address)
		if err != nil {
			out.warn("let the port through the firewalls, or use another protocol", "%s: %s: %v", protocol, address, err)
			continue
		}
		open++
		out.ok("%s: %s answers %q", protocol, address, greeting)
		if protocol == "pop3s" {
			t.verify(ctx, r.section("tls"), address)
		}
	}
	if open == 0 {
		out.wrong("is it the right host, and is kpopd running there?", "no port of %s answers", t.Host)
	}
}

func (t *Target) verify(ctx context.Context, out section, address string) {
	config := &tls.Config{ServerName: t.Host, MinVersion: tls.VersionTLS12}
	if t.CA != "" {
		pem, err := os.ReadFile(t.CA)
		config.RootCAs = x509.NewCertPool()
		if err != nil || !config.RootCAs.AppendCertsFromPEM(pem) {
			out.wrong("name a PEM file", "%s holds no CA: %v", t.CA, err)
			return
		}
	}
	ctx, cancel := context.WithTimeout(ctx, questionTime)
	defer cancel()
	conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", address)
	if err != nil {
		out.wrong("install the CA that signed it, and use the name that stands in it", "the certificate is not trusted here: %v", strings.TrimPrefix(err.Error(), "tls: "))
		return
	}
	_ = conn.Close()
	out.ok("the certificate is trusted here and is for %s", t.Host)
}
