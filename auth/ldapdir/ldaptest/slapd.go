// Package ldaptest runs a private OpenLDAP slapd on loopback with a schema and
// users made for kpopd: for tests, the realm and the demo.
package ldaptest

import (
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/kpopd/kpopd/integration/loopback"
)

//go:embed kpop.schema
var schema string

// Base is where everything lies.
const Base = "dc=realm,dc=test"

// Options are what a Server is made of; the zero value is a server without TLS
// that anybody may read, except for APOP secrets.
type Options struct {
	Port, TLSPort int // zero: a free one

	// Certificate, Key and CA are PEM files; with them ldaps:// and StartTLS
	// work. MakeCertificate makes some.
	Certificate, Key, CA string

	// Host, Realm, Keytab and Krb5Conf make SASL GSSAPI work: the keytab has
	// ldap/Host@Realm.
	Host, Realm, Keytab, Krb5Conf string

	// OnlyUsers refuses anonymous searches.
	OnlyUsers bool

	// IdleTimeout makes slapd drop idle connections; zero: never.
	IdleTimeout time.Duration

	// NoSocket leaves out ldapi://, for a directory of any length.
	NoSocket bool
}

// A Server is a running slapd.
type Server struct {
	URI          string // ldap://127.0.0.1:port
	TLSURI       string // ldaps://127.0.0.1:port; empty without a certificate
	LocalURI     string // ldapi://; empty with NoSocket
	Port         int
	AdminDN      string
	PasswordFile string // the administrator's password and no line end, as ldapmodify -y wants it; mode 0600
	PID          int

	dir    string
	listen string
	env    []string
	cmd    *exec.Cmd
	ended  chan struct{}
}

// startTime bounds how long slapd may take until it answers.
const startTime = time.Minute

// Start writes a configuration into dir, which must be empty and have a short
// name (a socket lies in it), and starts slapd. It returns when slapd answers.
func Start(ctx context.Context, dir string, o Options) (*Server, error) {
	s, err := Prepare(dir, o)
	if err != nil {
		return nil, err
	}
	if err := s.Restart(ctx); err != nil {
		return nil, err
	}
	if err := s.AddBase(); err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

// Prepare writes a configuration as Start does and starts nothing: whoever runs
// Command then calls Await and, the first time, AddBase.
func Prepare(dir string, o Options) (*Server, error) {
	s := &Server{dir: dir, AdminDN: adminDN, PasswordFile: filepath.Join(dir, "admin.pw")}
	s.env = append(os.Environ(), "KRB5_KTNAME="+o.Keytab, "KRB5_CONFIG="+o.Krb5Conf)
	if o.Keytab == "" {
		s.env = os.Environ()
	}
	if err := s.addresses(o); err != nil {
		return nil, err
	}
	if err := s.write(o); err != nil {
		return nil, fmt.Errorf("ldaptest: %w", err)
	}
	return s, nil
}

// Open finds a server that another process has started in dir on a port. Its
// Command starts it again on that port alone.
func Open(dir string, port int) *Server {
	return &Server{
		URI: uri("ldap", port), Port: port, AdminDN: adminDN, PasswordFile: filepath.Join(dir, "admin.pw"), dir: dir, listen: uri("ldap", port),
	}
}

const adminDN = "cn=admin," + Base

func uri(scheme string, port int) string { return scheme + "://127.0.0.1:" + strconv.Itoa(port) }

// addresses chooses ports and writes the URIs.
func (s *Server) addresses(o Options) error {
	ports, err := loopback.Free(2)
	if err != nil {
		return err
	}
	if s.Port = o.Port; s.Port == 0 {
		s.Port = ports[0]
	}
	s.URI = uri("ldap", s.Port)
	s.listen = s.URI
	if !o.NoSocket {
		s.LocalURI = "ldapi://" + url.QueryEscape(filepath.Join(s.dir, "ldapi"))
		s.listen += " " + s.LocalURI
	}
	if o.Certificate != "" {
		port := o.TLSPort
		if port == 0 {
			port = ports[1]
		}
		s.TLSURI = uri("ldaps", port)
		s.listen += " " + s.TLSURI
	}
	return nil
}

// write makes the files that slapd reads.
func (s *Server) write(o Options) error {
	password := rand.Text()
	var c strings.Builder
	for _, name := range []string{"core", "cosine", "inetorgperson", "nis", "misc"} {
		fmt.Fprintf(&c, "include /etc/ldap/schema/%s.schema\n", name)
	}
	fmt.Fprintf(&c, "include %s\n", filepath.Join(s.dir, "kpop.schema"))
	fmt.Fprintf(&c, "pidfile %s\nmodulepath /usr/lib/ldap\nmoduleload back_mdb.la\nmoduleload memberof.la\n", filepath.Join(s.dir, "pid"))
	if o.IdleTimeout > 0 {
		fmt.Fprintf(&c, "idletimeout %d\n", int(o.IdleTimeout.Seconds()))
	}
	if o.Certificate != "" {
		fmt.Fprintf(&c, "TLSCertificateFile %s\nTLSCertificateKeyFile %s\nTLSCACertificateFile %s\n", o.Certificate, o.Key, o.CA)
	}
	if o.Keytab != "" {
		fmt.Fprintf(&c, "sasl-host %s\nsasl-realm %s\n", o.Host, o.Realm)
	}
	if o.OnlyUsers {
		c.WriteString("access to dn.base=\"\" by * read\naccess to * by users read by * auth\n")
	} else {
		c.WriteString("access to attrs=userPassword,kpopSecret by users read by * auth\naccess to * by * read\n")
	}
	fmt.Fprintf(&c, "database mdb\nsuffix %q\nrootdn %q\nrootpw %s\ndirectory %s\nmaxsize 268435456\ndbnosync\n",
		Base, s.AdminDN, password, filepath.Join(s.dir, "db"))
	c.WriteString("index objectClass,uid,krbPrincipalName,member eq\noverlay memberof\n")
	if err := os.MkdirAll(filepath.Join(s.dir, "db"), 0o700); err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(s.dir, "slapd.conf"), []byte(c.String()), 0o600),
		os.WriteFile(filepath.Join(s.dir, "kpop.schema"), []byte(schema), 0o600),
		os.WriteFile(s.PasswordFile, []byte(password), 0o600),
	)
}

// Restart starts slapd on the same data and addresses, after Stop or Kill.
func (s *Server) Restart(ctx context.Context) error {
	log, err := os.OpenFile(filepath.Join(s.dir, "slapd.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("ldaptest: %w", err)
	}
	defer log.Close() //nolint:errcheck // slapd has its own
	command := s.Command()
	s.cmd = exec.Command(command[0], command[1:]...) //nolint:gosec,noctx // our own file; it outlives ctx: Stop ends it
	s.cmd.Stdout, s.cmd.Stderr, s.cmd.Env = log, log, s.env
	if err := s.cmd.Start(); err != nil {
		return fmt.Errorf("ldaptest: %w", err)
	}
	s.PID, s.ended = s.cmd.Process.Pid, make(chan struct{})
	go func(cmd *exec.Cmd, ended chan struct{}) {
		cmd.Wait() //nolint:errcheck // how it ended is in its log
		close(ended)
	}(s.cmd, s.ended)
	if err := s.Await(ctx); err != nil {
		s.Stop()
		return err
	}
	return nil
}

// Command is slapd's command line. Debug level 0 keeps it in the foreground.
func (s *Server) Command() []string {
	return []string{slapd(), "-f", filepath.Join(s.dir, "slapd.conf"), "-h", s.listen, "-d", "0"}
}

// slapd is where Debian has it, which is not in every PATH.
func slapd() string {
	if path, err := exec.LookPath("slapd"); err == nil {
		return path
	}
	return "/usr/sbin/slapd"
}

// Await polls until slapd answers.
func (s *Server) Await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for {
		c, err := s.Admin()
		if err == nil {
			c.Close() //nolint:errcheck // it was a try
			return nil
		}
		select {
		case <-s.ended: // nil, and so never, when another runs it
			text, _ := os.ReadFile(filepath.Join(s.dir, "slapd.log"))
			return fmt.Errorf("ldaptest: slapd ended: %s", text)
		case <-ctx.Done():
			return fmt.Errorf("ldaptest: slapd does not answer: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Stop ends slapd in order and waits for it.
func (s *Server) Stop() { s.end(syscall.SIGTERM) }

// Kill ends slapd at once.
func (s *Server) Kill() { s.end(syscall.SIGKILL) }

func (s *Server) end(signal syscall.Signal) {
	s.cmd.Process.Signal(signal) //nolint:errcheck // it may have ended by itself
	select {
	case <-s.ended:
	case <-time.After(startTime):
		s.cmd.Process.Kill() //nolint:errcheck // as above
		<-s.ended
	}
}
