package integration

import (
	"errors"
	"fmt"
	"os"
)

const kpopdToml = `# Made for this realm only; every key is explained in etc/kpopd.toml.
hostname = %[1]q
state_dir = %[2]q
%[3]s
[listen.kpop]
address = %[4]q
protocol = "kpop"

[listen.pop3]
address = %[5]q
protocol = "pop3"

[listen.pop3s]
address = %[6]q
protocol = "pop3s"

[tls]
certificate = %[7]q
key = %[8]q

[kerberos]
keytab = %[9]q
krb5_conf = %[10]q

[spool]
mode = %[11]q
imapd_conf = %[12]q
`

const imapdConf = `# Made for this realm only: Cyrus's tools, a Cyrus master and kpopd read it.
configdirectory: %[1]s/cyrus
partition-default: %[1]s/spool
defaultpartition: default
mboxname_lockpath: %[1]s/cyrus/lock
proc_path: %[1]s/cyrus/proc
lmtpsocket: %[1]s/cyrus/socket/lmtp
idlesocket: %[1]s/cyrus/socket/idle
servername: %[2]s
admins: cyrus
unixhierarchysep: yes
altnamespace: yes
hashimapspool: yes
virtdomains: off
expunge_mode: delayed
conversations: no
statuscache: no
allowplaintext: yes
sasl_pwcheck_method: alwaystrue
sasl_mech_list: PLAIN LOGIN
duplicatesuppression: no
`

// writeConfig makes kpopd's file, Cyrus's, and the directories they name.
func (r *Realm) writeConfig() error {
	for _, dir := range []string{"state", "spool", "cyrus"} {
		if err := errors.Join(os.Mkdir(r.Path(dir), 0o700), r.owner.own(r.Path(dir))); err != nil {
			return err
		}
	}
	mode, user := "embedded", ""
	if r.cyrus {
		mode = "shared"
	}
	if r.owner != nil {
		user = fmt.Sprintf("user = %q\n", r.owner.name)
	}
	config := fmt.Sprintf(kpopdToml, r.Host, r.Path("state"), user,
		Loopback(r.Ports.KPOP), Loopback(r.Ports.POP3), Loopback(r.Ports.POP3S),
		r.Path("server.pem"), r.Path("server.key"), r.Path("server.keytab"), r.Path("krb5.conf"),
		mode, r.Path("imapd.conf"))
	return errors.Join(
		os.WriteFile(r.Path("kpopd.toml"), []byte(config), 0o644),                             //nolint:gosec // G306: no secret in it
		os.WriteFile(r.Path("imapd.conf"), fmt.Appendf(nil, imapdConf, r.Dir, r.Host), 0o644), //nolint:gosec // G306: no secret in it
		r.owner.own(r.Path("server.key")),
	)
}
