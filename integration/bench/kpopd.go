package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/kpopd/kpopd/integration"
	"github.com/kpopd/kpopd/integration/loopback"
	"github.com/kpopd/kpopd/integration/spool"
)

// kpopdConf serves a spool of its own. The account is the ticket's local name,
// as the peers' is, and nobody is slowed down.
const kpopdConf = `hostname = "localhost"
state_dir = "%[1]s/state"
user = "root"

[log]
level = "info"
format = "text"

[listen.kpop]
address = "%[2]s"
protocol = "kpop"

[listen.pop3]
address = "%[3]s"
protocol = "pop3"

[listen.pop3s]
address = "%[4]s"
protocol = "pop3s"

[tls]
certificate = "%[5]s/server.pem"
key = "%[5]s/server.key"

[kerberos]
keytab = "%[5]s/server.keytab"
krb5_conf = "%[5]s/krb5.conf"

[password]
service = "pop/localhost"

[identity]
directory = "realm"

[spool]
imapd_conf = "%[1]s/imapd.conf"
mode = "embedded"

[lmtp]
listen = "%[1]s/lmtp"

[limits]
connections = 20000
unauthenticated = 20000
per_address = 20000
per_user = 20000
`

// spoolConf is a spool's imapd.conf, for kpopd and for Cyrus.
const spoolConf = `configdirectory: %[1]s/conf
partition-default: %[1]s/spool
defaultpartition: default
mboxname_lockpath: %[2]s/lock
proc_path: %[2]s/proc
altnamespace: no
unixhierarchysep: no
virtdomains: off
hashimapspool: yes
admins: cyrus
popminpoll: 0
`

// newKpopd prepares kpopd in dir; program is its binary.
func newKpopd(dir string, realm *integration.Realm, program string, env []string, measure measuring) (*server, error) {
	ports, err := loopback.Free(3)
	if err != nil {
		return nil, err
	}
	s := &server{name: "kpopd", kpop: local(ports[0]), pop3: local(ports[1]), pop3s: local(ports[2]), most: 10_000, quiet: 12 * time.Second}
	s.lmtp = filepath.Join(dir, "lmtp")
	if err := os.MkdirAll(filepath.Join(dir, "state"), 0o700); err != nil {
		return nil, err
	}
	conf := filepath.Join(dir, "kpopd.toml")
	if err := os.WriteFile(conf, fmt.Appendf(nil, kpopdConf, dir, s.kpop, s.pop3, s.pop3s, realm.Dir), 0o600); err != nil {
		return nil, err
	}
	imapd := filepath.Join(dir, "imapd.conf")
	if err := os.WriteFile(imapd, fmt.Appendf(nil, spoolConf, dir, dir), 0o600); err != nil {
		return nil, err
	}
	d := &daemon{log: filepath.Join(dir, "kpopd.log"), env: env, dir: dir}
	s.meter = measure(filepath.Base(filepath.Dir(dir))+"-"+filepath.Base(dir), d.pid)
	d.command = s.meter.wrap([]string{program, "serve", "--config", conf})
	s.begin, s.end = d.start, d.stop
	s.fill = func(ctx context.Context, g group) error { return fillSpool(ctx, imapd, g) }
	return s, nil
}

// fillSpool makes a group's maildrops in a spool that nobody serves.
func fillSpool(ctx context.Context, imapdConf string, g group) error {
	s, err := spool.Open(imapdConf)
	if err != nil {
		return err
	}
	defer s.Close() //nolint:errcheck // nothing is held
	if err := s.Create(ctx, g.names()...); err != nil {
		return err
	}
	for _, user := range g.names() {
		if err := s.Fill(ctx, user, g.reader()); err != nil {
			return err
		}
	}
	return nil
}
