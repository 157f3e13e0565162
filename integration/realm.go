package integration

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// RealmName is the Kerberos realm that every directory has.
const RealmName = "REALM.TEST"

// People are the users with a maildrop; alice/admin is an instance without one.
var People = []string{"alice", "bob", "carol"}

// A Realm is one directory with everything in it.
type Realm struct {
	Dir   string // absolute, without symbolic links
	Host  string // the name clients connect to
	Kpopd string // the daemon's program
	Ports Ports

	cyrus bool      // a Cyrus master serves the same spool
	out   io.Writer // where Up says what it does
	owner *account  // of the spool
}

// Options are for Up.
type Options struct {
	Kpopd     string    // path of the kpopd program
	Tool      string    // path of cmd/realm's program, for the scripts
	WellKnown bool      // try 1109, 110 and 995 first
	Cyrus     bool      // SPOOL=cyrus: run a Cyrus master over the same spool
	Out       io.Writer // what is being done; nil: nowhere
}

// Up makes a realm in dir, which must not hold one, and starts it.
func Up(ctx context.Context, dir string, o Options) (*Realm, error) {
	r := &Realm{Kpopd: o.Kpopd, cyrus: o.Cyrus, out: o.Out}
	if r.out == nil {
		r.out = io.Discard
	}
	if err := r.prepare(dir); err != nil {
		return nil, err
	}
	steps := []func() error{
		func() error { return r.choosePorts(o.WellKnown) },
		func() error { return r.canonicalHost(ctx) },
		r.writeKerberos,
		func() error { return r.startKDC(ctx) },
		r.writeCertificates,
		r.writeConfig,
		func() error { return r.installTool(o.Tool) },
		func() error { return r.makeSpool(ctx) },
		func() error { return r.startCyrus(ctx) },
		r.startKpopd,
		r.writeScripts,
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, errors.Join(err, r.Down())
		}
	}
	return r, nil
}

func (r *Realm) say(format string, args ...any) {
	_, _ = fmt.Fprintf(r.out, format+"\n", args...)
}

// mark is the file that says that a directory holds, or held, a realm.
const mark = ".kpopd-realm"

// leftovers are what a realm that has ended leaves behind; others' files in the
// directory are not ours to touch.
var leftovers = []string{
	"bin", "kdc", "state", "spool", "cyrus", "*.pw", "*.keytab", "*.pem", "*.key", "*.log", "*.pid", "krb5.conf", "kdc.conf",
	"imapd.conf", "cyrus.conf", "kpopd.toml", "services", "krb5cc", "run", "fill", "append", "expunge", "restart",
}

// prepare makes the directory. Everybody may pass through it, for the daemons
// are not all the same user's; each secret in it has a mode of its own.
func (r *Realm) prepare(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // G301: see above
		return err
	}
	if r.Dir, err = filepath.EvalSymlinks(dir); err != nil {
		return err
	}
	if _, err := os.Stat(r.Path(mark)); err == nil {
		if err := r.clear(); err != nil {
			return err
		}
	}
	r.owner = spoolAccount(r.Dir)
	if r.owner == nil && os.Geteuid() == 0 {
		r.say("%s cannot be reached by user cyrus: kpopd and the spool are root's here", r.Dir)
	}
	return os.WriteFile(r.Path(mark), nil, 0o600)
}

// clear makes room for a new realm where an old one was.
func (r *Realm) clear() error {
	for _, name := range []string{"kpopd", "cyrus", "krb5kdc"} {
		if pid, alive := r.pid(name); alive {
			return fmt.Errorf("integration: a realm runs in %s (%s is process %d); end it with make realm-down DIR=%s", r.Dir, name, pid, r.Dir)
		}
	}
	for _, pattern := range leftovers {
		paths, err := filepath.Glob(r.Path(pattern))
		if err != nil {
			return err
		}
		for _, path := range paths {
			if err := os.RemoveAll(path); err != nil {
				return err
			}
		}
	}
	return nil
}

// canonicalHost finds the name by which every client knows this machine's
// loopback, without DNS and without a line in /etc/hosts. fetchmail
// canonicalises by getaddrinfo whatever krb5.conf says, so that name is asked
// for: it is localhost nearly everywhere and localhost.localdomain elsewhere.
func (r *Realm) canonicalHost(ctx context.Context) error {
	out, err := Tool{}.Run(ctx, "getent", "ahosts", "localhost")
	if err != nil {
		return fmt.Errorf("integration: localhost is unknown on this machine: %w", err)
	}
	first, _, _ := strings.Cut(out, "\n")
	fields := strings.Fields(first)
	if len(fields) != 3 {
		return fmt.Errorf("integration: getent ahosts localhost printed %q", first)
	}
	r.Host = strings.ToLower(fields[2])
	return nil
}

// Open finds a realm that Up made.
func Open(dir string) (*Realm, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return nil, err
	}
	r := &Realm{Dir: dir, out: io.Discard}
	values, err := r.readEnv()
	if err != nil {
		return nil, fmt.Errorf("integration: no realm in %s: %w", dir, err)
	}
	r.Kpopd, r.Host, r.owner, r.cyrus = values["KPOPD"], values["HOST"], spoolAccount(dir), values["CYRUS_IMAP"] != ""
	for name, p := range map[string]*int{
		"KPOP_PORT": &r.Ports.KPOP, "POP3_PORT": &r.Ports.POP3, "POP3S_PORT": &r.Ports.POP3S, "KDC_PORT": &r.Ports.KDC,
	} {
		if *p, err = strconv.Atoi(values[name]); err != nil {
			return nil, fmt.Errorf("integration: %s/env: %s: %w", dir, name, err)
		}
	}
	return r, nil
}

// End is Down for a directory in which Up may not have come to its end.
func End(dir string) error {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	r := &Realm{Dir: dir}
	if _, err := os.Stat(r.Path(mark)); err != nil {
		return fmt.Errorf("integration: no realm in %s: %w", dir, err)
	}
	return r.Down()
}

// Down ends what Up started and nothing else. The files stay, for a look at the
// logs, until another Up in the same directory; only DIR/env goes.
func (r *Realm) Down() error {
	err := errors.Join(r.stop("kpopd"), r.stop("cyrus"), r.stop("krb5kdc"))
	if rerr := os.Remove(r.Path("env")); rerr != nil && !errors.Is(rerr, os.ErrNotExist) {
		err = errors.Join(err, rerr)
	}
	return err
}

// startKpopd starts the daemon and waits until it serves.
func (r *Realm) startKpopd() error {
	if err := r.daemon("kpopd", nil, r.Kpopd, "serve", "--config", r.Path("kpopd.toml")); err != nil {
		return err
	}
	for _, port := range []int{r.Ports.KPOP, r.Ports.POP3, r.Ports.POP3S} {
		if err := r.listening("kpopd", port); err != nil {
			return err
		}
	}
	return r.writeEnv()
}

// Restart ends the daemon and starts it again.
func (r *Realm) Restart() error {
	if err := r.stop("kpopd"); err != nil {
		return err
	}
	return r.startKpopd()
}

// Path is a file of the realm's.
func (r *Realm) Path(name ...string) string {
	return filepath.Join(append([]string{r.Dir}, name...)...)
}

// environment is what the realm's own programs need.
func (r *Realm) environment() []string {
	return []string{
		"KRB5_CONFIG=" + r.Path("krb5.conf"), "KRB5_KDC_PROFILE=" + r.Path("kdc.conf"),
		"KRB5_KTNAME=" + r.Path("server.keytab"), "KRB5CCNAME=FILE:" + r.Path("krb5cc"),
	}
}

// Client runs programs as a client of this realm in a directory of its own,
// which is their home and holds their ticket cache.
func (r *Realm) Client(home string) Tool {
	return Tool{Dir: home, Env: []string{
		"KRB5_CONFIG=" + r.Path("krb5.conf"), "KRB5CCNAME=FILE:" + filepath.Join(home, "krb5cc"),
		"HOME=" + home, "FETCHMAILHOME=" + home, "LC_ALL=C.UTF-8",
	}}
}

// newPassword makes one that no shell and no kadmin has to quote.
func newPassword() string { return rand.Text() }
