package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/kpopd/kpopd/integration"
	"github.com/kpopd/kpopd/integration/loopback"
)

// dovecotConf has the settings of a busy site: processes are kept for the next
// session, and nothing but their number bounds them.
const dovecotConf = `# Made for a benchmark.
import_environment = $import_environment KRB5_CONFIG KRB5RCACHEDIR
protocols = pop3
listen = 127.0.0.1
base_dir = %[1]s/run
state_dir = %[1]s/state
log_path = %[1]s/dovecot.log
ssl = yes
ssl_cert = <%[1]s/server.pem
ssl_key = <%[1]s/server.key
ssl_min_protocol = TLSv1.2
default_internal_user = %[2]s
default_internal_group = %[2]s
default_login_user = nobody
default_process_limit = 20000
default_client_limit = 40000
default_vsz_limit = 4G
mail_max_userip_connections = 100000
first_valid_uid = 1
auth_mechanisms = gssapi plain
auth_gssapi_hostname = "$ALL"
auth_krb5_keytab = %[1]s/server.keytab
auth_username_format = %%Ln
passdb {
  driver = static
  args = nopassword=y
}
userdb {
  driver = static
  args = uid=%[3]d gid=%[4]d home=%[1]s/home/%%n
}
mail_uid = %[3]d
mail_gid = %[4]d
mail_location = %[5]s
service pop3-login {
  service_count = 0
  process_min_avail = 2
  client_limit = 20000
  inet_listener pop3 {
    port = %[6]d
  }
  inet_listener pop3s {
    port = %[7]d
    ssl = yes
  }
}
service pop3 {
  service_count = 0
  process_min_avail = 4
  client_limit = 200
}
`

// dovecotUser is whom Dovecot's own processes run as, and the user and the group
// of the keytab; the package's own exists only where it is installed.
const dovecotUser = "daemon"

// dovecotIdle is how many idle sessions Dovecot is asked to hold; its cost for
// each does not change above.
const dovecotIdle = 5000

// newDovecot prepares one Dovecot in dir for a mail format; usr is that of the
// packages, unpacked.
func newDovecot(dir, usr, format string, realm *integration.Realm, env []string) (*server, error) {
	ports, err := loopback.Free(2)
	if err != nil {
		return nil, err
	}
	d := &dovecot{dir: dir, usr: usr, conf: filepath.Join(dir, "dovecot.conf"), format: format}
	if d.mail, err = ownerOf("mail"); err != nil {
		return nil, err
	}
	if err := d.prepare(realm, ports[0], ports[1]); err != nil {
		return nil, err
	}
	s := &server{name: format, pop3: local(ports[0]), pop3s: local(ports[1]), quiet: 2 * time.Second}
	if format == "maildir" {
		s.most = dovecotIdle // the other format changes nothing in it
	}
	process := &daemon{log: filepath.Join(dir, "start.log"), dir: dir, env: env}
	s.meter = newMeter(format, process.pid)
	process.command = s.meter.wrap(d.over("/usr/sbin/dovecot", "-F", "-c", d.conf))
	s.begin, s.end = process.start, process.stop
	s.fill = func(ctx context.Context, g group) error {
		if s.most > 0 {
			g.users = min(g.users, s.most)
		}
		if format == "maildir" {
			return d.fillMaildirs(g)
		}
		return d.fillMdbox(ctx, g)
	}
	return s, nil
}

// A dovecot is one configuration.
type dovecot struct {
	dir, usr, conf string
	format         string
	mail           owner // of the mail
}

// over is a command line that runs where the packages lie over /usr: their paths
// are compiled in. Nobody else sees the mount.
func (d *dovecot) over(program string, args ...string) []string {
	const enter = `mount -t overlay overlay -o "lowerdir=$0:/usr" /usr && exec "$@"`
	return append([]string{"unshare", "-m", "sh", "-c", enter, d.usr, program}, args...)
}

func (d *dovecot) prepare(realm *integration.Realm, pop3, pop3s int) error {
	for _, sub := range []string{"run", "state", "home"} {
		if err := os.MkdirAll(filepath.Join(d.dir, sub), 0o755); err != nil { //nolint:gosec // G301: its own users pass through
			return err
		}
	}
	internal, err := ownerOf(dovecotUser)
	if err != nil {
		return err
	}
	location := "maildir:~/Maildir"
	if d.format == "mdbox" {
		location = "mdbox:~/mdbox"
	}
	text := fmt.Sprintf(dovecotConf, d.dir, dovecotUser, d.mail.uid, d.mail.gid, location, pop3, pop3s)
	return errors.Join(
		shareKeys(realm, d.dir),
		internal.take(filepath.Join(d.dir, "server.keytab")),
		d.mail.take(filepath.Join(d.dir, "home")),
		os.WriteFile(d.conf, []byte(text), 0o644)) //nolint:gosec // G306: no secret in it
}

// maildirName is a file name as Dovecot gives one, with the sizes that it keeps
// there: on disk, and with CRLF line ends. Names that are too regular collide
// in its hash.
func maildirName(number, size int) string {
	var b strings.Builder
	b.WriteString(strconv.Itoa(1_793_000_000 + number*37))
	fmt.Fprintf(&b, ".M%06dP%d.mail,S=%d,W=%d:2,", number*7919%1_000_000, 2000+number%977, size, size)
	return b.String()
}

func (d *dovecot) home(user string) string { return filepath.Join(d.dir, "home", user) }

func (d *dovecot) fillMaildirs(g group) error {
	for _, user := range g.names() {
		if err := g.maildir(filepath.Join(d.home(user), "Maildir"), d.mail); err != nil {
			return err
		}
		if err := os.Chown(d.home(user), d.mail.uid, d.mail.gid); err != nil {
			return err
		}
	}
	return nil
}

// fillMdbox imports the messages for the first user and copies that maildrop
// for the others: nothing in it names a user.
func (d *dovecot) fillMdbox(ctx context.Context, g group) error {
	first, source := d.home(g.user(0)), d.home("import")
	defer os.RemoveAll(source) //nolint:errcheck // only a copy
	if err := g.maildir(source, d.mail); err != nil {
		return err
	}
	if err := os.MkdirAll(first, 0o700); err != nil {
		return err
	}
	if err := d.mail.take(first); err != nil {
		return err
	}
	command := d.over("/usr/bin/doveadm", "-c", d.conf, "import", "maildir:"+source, "", "ALL")
	cmd := exec.CommandContext(ctx, command[0], command[1:]...) //nolint:gosec // G204: our own
	cmd.Env = append(os.Environ(), "HOME="+first, "USER="+g.user(0))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("doveadm import: %w: %s", err, out)
	}
	for _, user := range g.names()[1:] {
		if err := copyTree(ctx, first, d.home(user)); err != nil {
			return err
		}
	}
	return nil
}
