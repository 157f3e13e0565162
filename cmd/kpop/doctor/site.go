package doctor

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/kpopd/kpopd/auth/ldapdir"
	"github.com/kpopd/kpopd/auth/rules"
	"github.com/kpopd/kpopd/krb5conf"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
)

// A Site is a server's configuration as far as it is examined.
type Site struct {
	ConfigFile string
	Hostname   string
	User       string // who kpopd runs as; empty: who runs the doctor
	StateDir   string

	Kerberos    Kerberos
	Ports       []Port
	Certificate Certificate
	LDAP        *LDAP // nil: not used
	Spool       Spool
	Machine     Machine
	Resolver    *net.Resolver // nil: the system's
}

// Kerberos is what tickets are read with.
type Kerberos struct {
	Profile      *krb5conf.Profile // nil when it could not be read
	ProfileError error
	Keytab       string   // path
	Loose        bool     // the keytab may be readable by its group
	Services     []string // first components of principals that are taken
	Skew         time.Duration
	Trusted      []string // client realms let in besides the default one
}

// A Port is one listener.
type Port struct{ Name, Address, Protocol string }

// A Certificate is the server's for TLS; the zero value is none.
type Certificate struct {
	File, Key string // PEM
	CA        string // PEM of the CA that clients trust; empty: the system's
}

// LDAP is the directory of accounts.
type LDAP struct {
	Error error // why it could not be made; the rest is nil then
	Ping  func(context.Context) []ldapdir.ServerStatus
	Find  func(context.Context, rules.Query, rules.Trace) (rules.Entry, error)
}

// A Spool is where the maildrops lie.
type Spool struct {
	Config *imapdconf.Config // nil when it could not be read
	Error  error             // why the spool cannot be served
	// Check examines one mailbox and changes nothing.
	Check   func(ctx context.Context, mailbox string) (faults []string, err error)
	Mailbox string // the sample; empty: the first user's
}

// Machine is where denials are looked for.
type Machine struct {
	Root string // of /sys and /var/log; empty: "/"
	Run  func(ctx context.Context, name string, args ...string) (string, error)
}

// questionTime bounds one question to the network.
const questionTime = 5 * time.Second

// Server examines the machine that kpopd runs on.
func Server(ctx context.Context, s *Site) *Report {
	r := &Report{}
	config := r.section("config")
	config.ok("%s is good", s.ConfigFile)
	who, err := findAccount(s.runsAs())
	if err != nil {
		config.wrong(fmt.Sprintf("create it (useradd --system %s), or set user to the spool's owner", s.User), "user %q: %v", s.User, err)
		who, _ = findAccount("")
	}
	keys := s.keytab(r, who)
	s.profile(r)
	s.names(ctx, r, keys)
	if s.kdcs(ctx, r) {
		s.selfTickets(ctx, r, keys)
	}
	s.ldap(ctx, r)
	s.spool(ctx, r, who)
	s.ports(ctx, r)
	s.certificate(r, who)
	s.denials(ctx, r)
	return r
}

// runsAs is who kpopd is: the named user or, since it does not serve as root
// unless it is told to, the spool's owner.
func (s *Site) runsAs() string {
	if s.User != "" || os.Getuid() != 0 || s.Spool.Config == nil {
		return s.User
	}
	return owner(s.Spool.Config.Dir)
}

// Unusable is the report of a configuration that cannot be read: one line for
// each fault.
func Unusable(file string, err error) *Report {
	r := &Report{}
	out := r.section("config")
	faults := strings.Split(err.Error(), "\n  ")
	if len(faults) > 1 {
		faults = faults[1:]
	}
	for _, fault := range faults {
		what, remedy, told := strings.Cut(fault, "; ")
		if !told {
			remedy = "mend it in " + file + "; the file that comes with kpopd explains every key"
		}
		out.wrong(remedy, "%s", what)
	}
	return r
}

func (s *Site) resolver() *net.Resolver {
	if s.Resolver != nil {
		return s.Resolver
	}
	return net.DefaultResolver
}
