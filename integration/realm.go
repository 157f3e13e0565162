package integration

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/kpopd/kpopd/cmd/control"
)

// Names that every realm has. Host needs neither DNS nor a line in /etc/hosts:
// every machine knows it, forward, backward and as its own canonical name.
const (
	RealmName = "REALM.TEST"
	Host      = "localhost"
)

// Users are the realm's people; alice/admin is an instance that has no maildrop.
var Users = []string{"alice", "bob", "carol"}

// A Realm is one directory with everything in it.
type Realm struct {
	Dir   string // absolute
	Kpopd string // the daemon's program
	Ports Ports

	Cyrus  *Cyrus // nil but with SPOOL=cyrus
	shared bool   // it has been asked for
}

// Ports are where the realm's servers listen, all on 127.0.0.1.
type Ports struct{ KDC, LDAP, KPOP, POP3, POP3S int }

// Options are for Up.
type Options struct {
	Kpopd      string // path of the kpopd program
	Tool       string // path of this harness's own program, for the scripts
	WellKnown  bool   // try 1109, 110, 995 first
	ExtraTOML  string // appended to the configuration, whose last section is [limits]
	Properties string // appended to the krb5.conf's [libdefaults]
	Spool      string // SpoolCyrus: beside a Cyrus master; empty: without
	ImapdConf  string // appended to imapd.conf
}

// Up makes a realm in dir, which must not hold one, and starts it.
func Up(ctx context.Context, dir string, o Options) (*Realm, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if dir, err = prepare(dir); err != nil {
		return nil, err
	}
	r := &Realm{Dir: dir, Kpopd: o.Kpopd}
	if err := r.prepareCyrus(o); err != nil {
		return nil, err
	}
	if err := r.choosePorts(o.WellKnown); err != nil {
		return nil, err
	}
	steps := []func() error{
		func() error { return r.writeKerberos(o.Properties) },
		func() error { return r.startKDC(ctx) },
		r.writeCertificates,
		func() error { return r.startLDAP(ctx) },
		func() error { return r.makeSpool(o.ImapdConf) },
		func() error { return r.writeConfig(o.ExtraTOML) },
		func() error { return r.writeScripts(o.Tool) },
		r.startCyrus,
		r.StartKpopd,
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, errors.Join(err, r.Down())
		}
	}
	return r, nil
}

func prepare(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	if _, err := os.Stat(filepath.Join(dir, "env")); err == nil {
		return "", fmt.Errorf("integration: %s holds a realm already; end it with make realm-down DIR=%s", dir, dir)
	}
	return filepath.EvalSymlinks(dir) // /proc names directories so
}

// Open finds a realm that Up made.
func Open(dir string) (*Realm, error) {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	r := &Realm{Dir: dir}
	values, err := r.readEnv()
	if err != nil {
		return nil, fmt.Errorf("integration: no realm in %s: %w", dir, err)
	}
	r.Kpopd = values["KPOPD"]
	r.openCyrus(values)
	for name, p := range map[string]*int{"KPOP_PORT": &r.Ports.KPOP, "POP3_PORT": &r.Ports.POP3, "POP3S_PORT": &r.Ports.POP3S, "KDC_PORT": &r.Ports.KDC, "LDAP_PORT": &r.Ports.LDAP} {
		if *p, err = strconv.Atoi(values[name]); err != nil {
			return nil, fmt.Errorf("integration: %s/env: %s: %w", dir, name, err)
		}
	}
	return r, nil
}

func (r *Realm) choosePorts(wellKnown bool) error {
	choose := func(p *int, wanted ...int) (err error) {
		switch {
		case !wellKnown:
			wanted = nil
		case r.credential() != nil && len(wanted) > 0:
			wanted = wanted[1:] // that user may not bind the known one
		}
		*p, err = choosePort(wanted...)
		return err
	}
	return errors.Join(choose(&r.Ports.KDC), choose(&r.Ports.LDAP), choose(&r.Ports.KPOP, 1109, 11109), choose(&r.Ports.POP3, 110, 10110), choose(&r.Ports.POP3S, 995, 10995))
}

// Down ends what Up started. The files stay, but for the mark that the realm is
// there.
func (r *Realm) Down() error {
	err := errors.Join(r.stop("kpopd"), r.stopCyrus(), r.stop("slapd"), r.stop("krb5kdc"))
	if rerr := os.Remove(r.path("env")); rerr != nil && !errors.Is(rerr, os.ErrNotExist) {
		err = errors.Join(err, rerr)
	}
	return err
}

// StartKpopd starts the daemon and waits until it serves.
func (r *Realm) StartKpopd() error {
	// One that was killed may hold its ports a moment longer than its name.
	for _, port := range []int{r.Ports.KPOP, r.Ports.POP3, r.Ports.POP3S} {
		if !within(toolTime, func() bool { return !answers(port) }) {
			return fmt.Errorf("integration: somebody else listens on port %d", port)
		}
	}
	if err := r.daemon("kpopd", r.Kpopd, "serve", "--config", r.path("kpopd.toml")); err != nil {
		return err
	}
	for _, port := range []int{r.Ports.KPOP, r.Ports.POP3, r.Ports.POP3S} {
		if err := r.listening("kpopd", port); err != nil {
			return err
		}
	}
	// The ports are bound before kpopd knows that it can serve.
	if !within(30*time.Second, func() bool { return r.Ask(control.Request{Command: control.Stats}, nil) == nil }) {
		return fmt.Errorf("integration: kpopd does not serve; see %s", r.path("kpopd.log"))
	}
	return r.writeEnv()
}

// Ask speaks to the daemon over its control socket.
func (r *Realm) Ask(request control.Request, result any) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return control.Ask(ctx, r.path("state", "control.sock"), request, result)
}

// Restart ends the daemon and starts it again.
func (r *Realm) Restart() error {
	if err := r.stop("kpopd"); err != nil {
		return err
	}
	return r.StartKpopd()
}

// Kpop is the operator's program, beside the daemon's.
func (r *Realm) Kpop() string { return filepath.Join(filepath.Dir(r.Kpopd), "kpop") }

// Pid is the daemon's process.
func (r *Realm) Pid() (int, bool) { return r.pid("kpopd") }

// path is a file of the realm's.
func (r *Realm) path(name ...string) string {
	return filepath.Join(append([]string{r.Dir}, name...)...)
}

// Path is a file of the realm's, for tests.
func (r *Realm) Path(name string) string { return r.path(name) }

// environment is what a program of this realm needs.
func (r *Realm) environment() []string {
	return []string{
		"KRB5_CONFIG=" + r.path("krb5.conf"), "KRB5_KDC_PROFILE=" + r.path("kdc.conf"),
		"KRB5_KTNAME=" + r.path("server.keytab"), "KRB5CCNAME=FILE:" + r.path("krb5cc"),
	}
}

// Tool runs programs as a client of this realm with a ticket cache of its own.
func (r *Realm) Tool(cache string) Tool {
	return Tool{Env: append(r.environment(), "KRB5CCNAME=FILE:"+cache), Dir: r.Dir}
}

// newPassword makes one that no shell has to quote.
func newPassword() string { return rand.Text() }

// variables are the contract of DIR/env.
func (r *Realm) variables() [][2]string {
	pid, _ := r.Pid()
	return append([][2]string{
		{"KRB5_CONFIG", r.path("krb5.conf")}, {"KRB5_KTNAME", r.path("server.keytab")},
		{"KRB5CCNAME", "FILE:" + r.path("krb5cc")},
		{"REALM", RealmName}, {"HOST", Host},
		{"KPOP_PORT", strconv.Itoa(r.Ports.KPOP)}, {"POP3_PORT", strconv.Itoa(r.Ports.POP3)},
		{"POP3S_PORT", strconv.Itoa(r.Ports.POP3S)}, {"KDC_PORT", strconv.Itoa(r.Ports.KDC)},
		{"CA_FILE", r.path("ca.pem")}, {"SPOOL", r.path("spool")}, {"IMAPD_CONF", r.path("imapd.conf")},
		{"CONFIG", r.path("kpopd.toml")}, {"KPOPD_PID", strconv.Itoa(pid)}, {"KPOPD", r.Kpopd},
		{"KPOPD_LOG", r.path("kpopd.log")}, {"SERVICES_FILE", r.path("services")},
	}, append(r.ldapVariables(), r.cyrusVariables()...)...)
}

func (r *Realm) writeEnv() error {
	var b strings.Builder
	b.WriteString("# Source this in a shell: . " + r.path("env") + "\n")
	for _, v := range r.variables() {
		b.WriteString("export " + v[0] + "=" + shellQuote(v[1]) + "\n")
	}
	temp := r.path("env.new")
	if err := os.WriteFile(temp, []byte(b.String()), 0o600); err != nil {
		return err
	}
	return os.Rename(temp, r.path("env"))
}

func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func (r *Realm) readEnv() (map[string]string, error) {
	b, err := os.ReadFile(r.path("env"))
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for line := range strings.Lines(string(b)) {
		if name, value, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "="); ok {
			out[name] = strings.ReplaceAll(strings.Trim(value, "'"), `'\''`, "'")
		}
	}
	return out, nil
}
