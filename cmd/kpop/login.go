package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/kpopd/kpopd/cmd/kpop/client"
)

const loginHelp = `Logs in to a POP3 server with a Kerberos ticket and shows the dialogue: C: is
what we send, S: what the server answers. Tickets, tokens and messages are
replaced by a note in parentheses.

The ticket comes from the credential cache (KRB5CCNAME, made by kinit), or from
a keytab with --keytab and --principal.

  kpop login mail.example.org                  by KPOP, port 1109
  kpop login --stls mail.example.org           the same, TLS before USER
  kpop login --gssapi --stls mail.example.org  by AUTH GSSAPI, port 110
  kpop login --gssapi --tls mail.example.org   by AUTH GSSAPI, port 995`

// A login is one run of `kpop login`.
type login struct {
	gssapi, tls, stls, insecure bool
	stat, list                  bool
	retr                        int
	user, service, ca           string
	source                      client.Source
	timeout                     time.Duration

	out io.Writer
}

func loginCommand() *cobra.Command {
	l := new(login)
	c := &cobra.Command{
		Use: "login HOST[:PORT]", Short: "Log in with a ticket and show the dialogue", Long: loginHelp,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			l.out = c.OutOrStdout()
			return l.run(c.Context(), args[0])
		},
	}
	f := c.Flags()
	f.BoolVar(&l.gssapi, "gssapi", false, "log in by AUTH GSSAPI instead of KPOP")
	f.BoolVar(&l.tls, "tls", false, "begin with TLS (POP3S)")
	f.BoolVar(&l.stls, "stls", false, "switch to TLS by STLS before logging in")
	f.StringVar(&l.ca, "ca", "", "file with the CA `certificates` to trust instead of the system's")
	f.BoolVar(&l.insecure, "insecure", false, "do not verify the server's certificate")
	f.StringVar(&l.user, "user", "", "whose `maildrop` (default: the principal's own)")
	f.StringVar(&l.service, "service", "pop", "first component of the service principal")
	f.StringVar(&l.source.Cache, "cache", "", "credential `cache` instead of KRB5CCNAME")
	f.StringVar(&l.source.Keytab, "keytab", "", "`file` to take the principal's key from instead of a cache")
	f.StringVar(&l.source.Principal, "principal", "", "`name` whose key the keytab has")
	f.BoolVar(&l.stat, "stat", false, "ask for the number of messages")
	f.BoolVar(&l.list, "list", false, "list the messages")
	f.IntVar(&l.retr, "retr", 0, "retrieve message `N` and write it to standard output")
	f.DurationVar(&l.timeout, "timeout", 30*time.Second, "how long to wait for each answer")
	c.MarkFlagsMutuallyExclusive("tls", "stls")
	c.MarkFlagsMutuallyExclusive("ca", "insecure")
	c.MarkFlagsRequiredTogether("keytab", "principal")
	return c
}

func (l *login) run(ctx context.Context, address string) error {
	if l.tls && !l.gssapi {
		return errors.New("KPOP begins in clear: use --stls, or --gssapi with --tls")
	}
	if l.retr < 0 {
		return errors.New("--retr wants a message-number, from 1")
	}
	host, port := l.address(address)
	config, err := l.tlsConfig()
	if err != nil {
		return err
	}
	asking, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	ticket, err := l.source.Get(asking, l.service+"/"+host)
	if err != nil {
		return err
	}
	d, err := client.Dial(ctx, host, port, l.tls, client.Options{TLS: config, Timeout: l.timeout, Trace: l.trace})
	if err != nil {
		return err
	}
	// A signal ends a read that waits.
	stop := context.AfterFunc(ctx, func() { _ = d.Close() })
	defer stop()
	err = l.dialogue(ctx, d, ticket, config)
	if cerr := d.Close(); err == nil && cerr != nil && !errors.Is(cerr, net.ErrClosed) {
		err = cerr
	}
	return err
}

// trace goes to standard error when standard output is for a message.
func (l *login) trace(direction, line string) {
	out := l.out
	if l.retr > 0 {
		out = os.Stderr
	}
	_, _ = fmt.Fprintf(out, "%s: %s\n", direction, line)
}

func (l *login) address(address string) (host, port string) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		host, port = address, ""
	}
	usual := "1109"
	switch {
	case l.tls:
		usual = "995"
	case l.gssapi:
		usual = "110"
	}
	return host, cmp.Or(port, usual)
}

func (l *login) tlsConfig() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: l.insecure} //nolint:gosec // G402: --insecure says so
	if l.ca == "" {
		return c, nil
	}
	b, err := os.ReadFile(l.ca)
	if err != nil {
		return nil, err
	}
	c.RootCAs = x509.NewCertPool()
	if !c.RootCAs.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("%s holds no certificate in PEM form", l.ca)
	}
	return c, nil
}

// dialogue logs in, does what was asked for, and leaves.
func (l *login) dialogue(ctx context.Context, d *client.Dialog, t *client.Ticket, config *tls.Config) error {
	if !l.gssapi {
		if err := d.KPOP(t); err != nil {
			return err
		}
	}
	if _, err := d.Greeting(); err != nil {
		return err
	}
	if l.stls {
		if err := d.STLS(ctx, config); err != nil {
			return err
		}
	}
	if _, err := d.List("CAPA"); err != nil && !errors.Is(err, client.ErrRefused) {
		return err
	}
	if err := l.prove(d, t); err != nil {
		return err
	}
	if err := l.work(d); err != nil {
		return err
	}
	_, err := d.Command("QUIT")
	return err
}

// prove names the maildrop. After a KPOP ticket PASS is a rite whose argument
// nobody looks at.
func (l *login) prove(d *client.Dialog, t *client.Ticket) error {
	if l.gssapi {
		return d.GSSAPI(t, l.user)
	}
	if _, err := d.Command("USER " + cmp.Or(l.user, t.Client.Components[0])); err != nil {
		return err
	}
	_, err := d.Command("PASS krb_ticket")
	return err
}

func (l *login) work(d *client.Dialog) error {
	if l.stat {
		if _, err := d.Command("STAT"); err != nil {
			return err
		}
	}
	if l.list {
		if _, err := d.List("LIST"); err != nil {
			return err
		}
	}
	if l.retr == 0 {
		return nil
	}
	message, err := d.Retrieve(l.retr)
	if err != nil {
		return err
	}
	_, err = l.out.Write(message)
	return err
}
