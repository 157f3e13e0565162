package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"time"

	"github.com/kpopd/kpopd/integration"
	"github.com/kpopd/kpopd/integration/loopback"
)

// cyrusImapd is what Cyrus needs beside spoolConf. SASL takes any password:
// only tickets are used.
const cyrusImapd = `servername: localhost
sasl_pwcheck_method: alwaystrue
sasl_mech_list: GSSAPI PLAIN
allowplaintext: yes
lmtpsocket: %[1]s/lmtp
tls_server_cert: %[2]s/server.pem
tls_server_key: %[2]s/server.key
tls_session_timeout: 0
`

// cyrusMaster keeps processes ready, and each for the 250 sessions that are
// Cyrus's default; their number has no bound.
const cyrusMaster = `START {
  recover cmd="ctl_cyrusdb -C %[1]s/imapd.conf -r"
}
SERVICES {
  pop3 cmd="pop3d -C %[1]s/imapd.conf" listen="%[2]s" prefork=10 maxchild=-1
  pop3s cmd="pop3d -C %[1]s/imapd.conf -s" listen="%[3]s" prefork=10 maxchild=-1
  lmtp cmd="lmtpd -C %[1]s/imapd.conf -a" listen="%[4]s/lmtp" prefork=4 maxchild=-1
}
EVENTS {
  none cmd="true" period=1440
}
`

const cyrusBin = "/usr/lib/cyrus/bin/"

// newCyrus prepares Cyrus in dir; quick is a directory on a tmpfs.
func newCyrus(dir, quick string, realm *integration.Realm, env []string) (*server, error) {
	ports, err := loopback.Free(2)
	if err != nil {
		return nil, err
	}
	s := &server{name: "cyrus", pop3: local(ports[0]), pop3s: local(ports[1]), lmtp: quick + "/lmtp", most: 1000, quiet: 2 * time.Second}
	owner, err := ownerOf("cyrus")
	if err != nil {
		return nil, fmt.Errorf("%w; run make deps", err)
	}
	imapd, master := filepath.Join(dir, "imapd.conf"), filepath.Join(dir, "cyrus.conf")
	text := fmt.Sprintf(spoolConf, dir, quick) + fmt.Sprintf(cyrusImapd, quick, dir)
	if err := os.WriteFile(imapd, []byte(text), 0o644); err != nil { //nolint:gosec // G306: Cyrus's user reads it
		return nil, err
	}
	text = fmt.Sprintf(cyrusMaster, dir, s.pop3, s.pop3s, quick)
	if err := os.WriteFile(master, []byte(text), 0o644); err != nil { //nolint:gosec // G306: Cyrus's user reads it
		return nil, err
	}
	if err := shareKeys(realm, dir); err != nil {
		return nil, err
	}
	d := &daemon{
		log: filepath.Join(dir, "master.log"), dir: dir,
		env: append([]string{"KRB5_KTNAME=FILE:" + filepath.Join(dir, "server.keytab")}, env...),
	}
	s.meter = newMeter("cyrus", d.pid)
	d.command = s.meter.wrap([]string{cyrusBin + "master", "-C", imapd, "-M", master, "-p", filepath.Join(dir, "master.pid"), "-D"})
	s.end = d.stop
	s.begin = func() error {
		if err := owner.take(dir, quick); err != nil {
			return err
		}
		return d.start()
	}
	s.fill = func(ctx context.Context, g group) error {
		g.users = min(g.users, s.most) // more could not be opened
		return fillSpool(ctx, imapd, g)
	}
	return s, nil
}

// shareKeys copies keytab and certificate for a server that does not run as
// root.
func shareKeys(realm *integration.Realm, dir string) error {
	for _, name := range []string{"server.keytab", "server.pem", "server.key"} {
		b, err := os.ReadFile(realm.Path(name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// An owner is a user of the machine.
type owner struct{ uid, gid int }

func ownerOf(name string) (o owner, err error) {
	u, err := user.Lookup(name)
	if err != nil {
		return o, err
	}
	if o.uid, err = strconv.Atoi(u.Uid); err != nil {
		return o, err
	}
	o.gid, err = strconv.Atoi(u.Gid)
	return o, err
}

// take gives directories with all that is in them to the owner.
func (o owner) take(dirs ...string) error {
	args := append([]string{"-R", fmt.Sprintf("%d:%d", o.uid, o.gid)}, dirs...)
	if out, err := exec.Command("chown", args...).CombinedOutput(); err != nil { //nolint:gosec // G204: our own
		return fmt.Errorf("chown: %w: %s", err, out)
	}
	return nil
}
