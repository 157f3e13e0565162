package integration

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// A FetchmailSetup is one way for fetchmail to reach the realm.
type FetchmailSetup struct {
	Poll string // of the poll line, with %d for the port
	User string // after the user clause
	Port func(Ports) int
	Name string // login name; empty: alice
}

// The ways fetchmail logs in.
var (
	FetchKPOP     = FetchmailSetup{Poll: `protocol kpop auth kerberos_v5`, User: `sslproto ""`, Port: func(p Ports) int { return p.KPOP }}
	FetchKPOPSTLS = FetchmailSetup{Poll: `protocol kpop auth kerberos_v5`, User: `sslproto "tls1.2+" sslcertck`, Port: func(p Ports) int { return p.KPOP }}
	FetchSDPSKPOP = FetchmailSetup{Poll: `protocol sdps service "kpop" auth kerberos_v5`, User: `sslproto ""`, Port: func(p Ports) int { return p.KPOP }}
	FetchPOP3     = FetchmailSetup{Poll: `protocol pop3 service "%d" auth gssapi`, User: `sslproto ""`, Port: func(p Ports) int { return p.POP3 }}
	FetchSTLS     = FetchmailSetup{Poll: `protocol pop3 service "%d" auth gssapi`, User: `sslproto "tls1.2+" sslcertck`, Port: func(p Ports) int { return p.POP3 }}
	FetchSDPS     = FetchmailSetup{Poll: `protocol sdps service "%d" auth gssapi localdomains realm.test`, User: `sslproto ""`, Port: func(p Ports) int { return p.POP3 }}
	FetchPOP3S    = FetchmailSetup{Poll: `protocol pop3 service "%d" auth gssapi`, User: `ssl sslcertck`, Port: func(p Ports) int { return p.POP3S }}
)

// As is the same way with another login name, such as alice@shop.test.
func (s FetchmailSetup) As(name string) FetchmailSetup {
	s.Name = name
	return s
}

// Fetchmail polls a maildrop once, leaving the mail there, and gives the
// messages it handed over. What it says goes to out.
func (r *Realm) Fetchmail(ctx context.Context, out io.Writer, cache string, s FetchmailSetup, flags ...string) ([][]byte, error) {
	dir, err := os.MkdirTemp(r.Dir, "fetchmail")
	if err != nil {
		return nil, err
	}
	// An MDA that writes each message to a file of its own.
	mda := filepath.Join(dir, "mda")
	script := "#!/bin/sh\nexec cat > \"$(mktemp " + shellQuote(dir) + "/m.XXXXXXXX)\"\n"
	if err := os.WriteFile(mda, []byte(script), 0o700); err != nil { //nolint:gosec // G306: a script must be executable
		return nil, err
	}
	poll := s.Poll
	if strings.Contains(poll, "%d") {
		poll = fmt.Sprintf(poll, s.Port(r.Ports))
	}
	keep := "keep"
	if len(flags) > 0 {
		keep = strings.Join(flags, " ")
	}
	rc := fmt.Sprintf("poll %s %s\n user %q is root here %s fetchall nodropstatus norewrite sslcertfile %q %s mda %q\n",
		Host, poll, cmp.Or(s.Name, "alice"), keep, r.path("ca.pem"), s.User, mda)
	rcFile := filepath.Join(dir, "fetchmailrc")
	if err := os.WriteFile(rcFile, []byte(rc), 0o600); err != nil {
		return nil, err
	}
	tool := r.Tool(cache)
	tool.Env = append(tool.Env, "FETCHMAILHOME="+dir)
	command := []string{"fetchmail", "-f", rcFile, "--pidfile", filepath.Join(dir, "pid"), "--invisible", "-v", "--nosyslog"}
	_, _ = fmt.Fprintf(out, "$ cat fetchmailrc\n%s$ %s\n", rc, strings.Join(command, " "))
	text, err := tool.Run(ctx, r.path("with-services"), command...)
	_, _ = io.WriteString(out, lastLines(text, 12))
	if err != nil {
		return nil, err
	}
	return readFiles(filepath.Join(dir, "m.*"))
}

// MpopSTLS are mpop's settings for Mpop.
const MpopSTLS = "tls on\ntls_starttls on"

// Mpop fetches alice's mail over GSSAPI into a maildir, with tls as the settings
// of the connection.
func (r *Realm) Mpop(ctx context.Context, out io.Writer, cache string, port int, tls string) ([][]byte, error) {
	dir, err := os.MkdirTemp(r.Dir, "mpop")
	if err != nil {
		return nil, err
	}
	for _, sub := range []string{"cur", "new", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, "mail", sub), 0o700); err != nil {
			return nil, err
		}
	}
	rc := fmt.Sprintf("account a\nhost %s\nport %d\nuser alice\nauth gssapi\n%s\ntls_trust_file %s\nkeep on\nuidls_file %s/uidls\nreceived_header off\ndelivery maildir %s/mail\n",
		Host, port, tls, r.path("ca.pem"), dir, dir)
	rcFile := filepath.Join(dir, "mpoprc")
	if err := os.WriteFile(rcFile, []byte(rc), 0o600); err != nil {
		return nil, err
	}
	_, _ = fmt.Fprintf(out, "$ cat mpoprc\n%s$ mpop -C %s a\n", rc, rcFile)
	text, err := r.Tool(cache).Run(ctx, "mpop", "-C", rcFile, "a")
	_, _ = io.WriteString(out, lastLines(strings.ReplaceAll(text, "\r", "\n"), 8))
	if err != nil {
		return nil, err
	}
	return readFiles(filepath.Join(dir, "mail", "new", "*"))
}

func readFiles(pattern string) ([][]byte, error) {
	names, err := filepath.Glob(pattern)
	if err != nil {
		return nil, err
	}
	var out [][]byte
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for i, line := range lines {
		lines[i] = line[:min(len(line), 200)] // fetchmail draws a mark for each KiB
	}
	if len(lines) > n {
		lines = append([]string{"..."}, lines[len(lines)-n:]...)
	}
	return strings.Join(lines, "\n") + "\n"
}
