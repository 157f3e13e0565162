package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// A Program is a mail client that is set up and can be run.
type Program struct {
	Tool   Tool
	Args   []string
	Config string // its configuration file; empty: none
}

// Run runs the client to its end and gives all it printed.
func (p Program) Run(ctx context.Context) (string, error) {
	return p.Tool.Run(ctx, p.Args[0], p.Args[1:]...)
}

// How a client protects its connection.
const (
	Clear    = "clear"
	STLS     = "stls"
	Implicit = "tls"
)

// A Session is what a client is to do: whose maildrop, how, and whether the
// messages are left on the server.
type Session struct {
	User, Login string // principal and the name given to the server; empty: the same
	Protocol    string // kpop, pop3 or sdps
	Security    string
	Keep        bool
}

func (s Session) login() string {
	if s.Login != "" {
		return s.Login
	}
	return s.User
}

// setUp makes a client's home with a program that takes delivery: each message
// goes to a file of its own in home/got, named in order of arrival.
func setUp(home, config, text string) error {
	got := filepath.Join(home, "got")
	deliver := "#!/bin/sh\nset -e\ncd " + shellQuote(got) + "\nexec cat > \"$(printf %04d $(($(ls | wc -l) + 1)))\"\n"
	return errors.Join(
		os.MkdirAll(got, 0o700),
		os.WriteFile(filepath.Join(home, "deliver"), []byte(deliver), 0o700), //nolint:gosec // G306: a program
		os.WriteFile(filepath.Join(home, config), []byte(text), 0o600),
	)
}

// Received gives what a client's delivery program took, in order.
func Received(home string) ([][]byte, error) {
	entries, err := os.ReadDir(filepath.Join(home, "got"))
	if err != nil {
		return nil, err
	}
	var messages [][]byte
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(home, "got", e.Name()))
		if err != nil {
			return nil, err
		}
		messages = append(messages, b)
	}
	return messages, nil
}

// Unix is a message with bare line feeds, as clients write it to a local file.
func Unix(message []byte) []byte { return bytes.ReplaceAll(message, []byte("\r\n"), []byte("\n")) }

// Compare says how what a client received differs from the letters; both are
// compared with Unix line ends.
func Compare(received [][]byte, letters []Letter) error {
	if len(received) != len(letters) {
		return fmt.Errorf("%d messages arrived, %d were put in", len(received), len(letters))
	}
	for i, l := range letters {
		if got, want := Unix(received[i]), Unix(l.Text); !bytes.Equal(got, want) {
			return fmt.Errorf("message %d (%s) differs: %s", i+1, l.Name, difference(got, want))
		}
	}
	return nil
}

func difference(got, want []byte) string {
	i := 0
	for i < len(got) && i < len(want) && got[i] == want[i] {
		i++
	}
	excerpt := func(b []byte) []byte { return b[max(0, i-20):min(len(b), i+40)] }
	return fmt.Sprintf("%d octets arrived for %d; at octet %d there is %q for %q", len(got), len(want), i, excerpt(got), excerpt(want))
}

// Fetchmail sets fetchmail up. KPOP needs DIR/run, which gives it its service
// name.
func (r *Realm) Fetchmail(home string, s Session) (Program, error) {
	var b strings.Builder
	b.WriteString("set no showdots\nset invisible\nset no bouncemail\n")
	switch s.Protocol {
	case "kpop":
		fmt.Fprintf(&b, "poll %s protocol kpop auth kerberos_v5\n", r.Host)
	case "sdps":
		fmt.Fprintf(&b, "poll %s protocol sdps service \"kpop\" auth kerberos_v5\n", r.Host)
	default:
		fmt.Fprintf(&b, "poll %s service %d protocol pop3 auth gssapi\n", r.Host, r.port(s))
	}
	fmt.Fprintf(&b, "  user %q no rewrite pass8bits fetchall mda %q\n", s.login(), filepath.Join(home, "deliver"))
	if s.Keep {
		b.WriteString("  keep\n")
	}
	verified := fmt.Sprintf("sslproto \"tls1.2+\" sslcertck sslcertfile %q\n", r.Path("ca.pem"))
	switch s.Security {
	case STLS:
		b.WriteString("  " + verified)
	case Implicit:
		b.WriteString("  ssl " + verified)
	default:
		b.WriteString("  sslproto \"\"\n")
	}
	args := []string{"fetchmail", "--verbose", "--fetchmailrc", filepath.Join(home, "fetchmailrc")}
	if s.Protocol != "pop3" {
		args = append([]string{r.Path("run"), "env", "KRB5CCNAME=FILE:" + filepath.Join(home, "krb5cc")}, args...)
	}
	return Program{Tool: r.Client(home), Args: args, Config: b.String()}, setUp(home, "fetchmailrc", b.String())
}

// Mpop sets mpop up: AUTH GSSAPI.
func (r *Realm) Mpop(home string, s Session) (Program, error) {
	tls := map[string]string{
		Clear:    "tls off\n",
		STLS:     "tls on\ntls_starttls on\n",
		Implicit: "tls on\ntls_starttls off\n",
	}[s.Security]
	keep := map[bool]string{true: "on", false: "off"}[s.Keep]
	config := fmt.Sprintf("account default\nhost %s\nport %d\nuser %s\nauth gssapi\n%stls_trust_file %s\n"+
		"keep %s\nonly_new off\nreceived_header off\nuidls_file %s\ndelivery mda %s\n",
		r.Host, r.port(s), s.login(), tls, r.Path("ca.pem"), keep, filepath.Join(home, "uidls"), filepath.Join(home, "deliver"))
	args := []string{"mpop", "--half-quiet", "--file", filepath.Join(home, "mpoprc")}
	return Program{Tool: r.Client(home), Args: args, Config: config}, setUp(home, "mpoprc", config)
}

// port is where a session goes.
func (r *Realm) port(s Session) int {
	switch {
	case s.Protocol == "kpop" || s.Protocol == "sdps":
		return r.Ports.KPOP
	case s.Security == Implicit:
		return r.Ports.POP3S
	}
	return r.Ports.POP3
}
