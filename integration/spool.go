package integration

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kpopd/kpopd/auth/ldapdir/ldaptest"
	"github.com/kpopd/kpopd/integration/spool"
)

const imapdConf = `# Made for this realm; Cyrus's own tools read it too.
configdirectory: %[1]s/cyrus
partition-default: %[1]s/spool
defaultpartition: default
mboxname_lockpath: %[1]s/cyrus/lock
proc_path: %[1]s/cyrus/proc
altnamespace: no
unixhierarchysep: no
virtdomains: off
hashimapspool: yes
popminpoll: 0
`

// makeSpool makes an empty INBOX for each user.
func (r *Realm) makeSpool(extra string) error {
	text := fmt.Sprintf(imapdConf, r.Dir) + CyrusConf() + r.cyrusTLS() + extra
	if err := os.WriteFile(r.path("imapd.conf"), []byte(text), 0o600); err != nil {
		return err
	}
	if err := os.MkdirAll(r.path("state"), 0o700); err != nil {
		return err
	}
	return r.onSpool(func(s *spool.Spool) error { return s.Create(context.Background(), Users...) })
}

// onSpool works on the spool from beside the daemon.
func (r *Realm) onSpool(do func(*spool.Spool) error) error {
	s, err := spool.Open(r.path("imapd.conf"))
	if err != nil {
		return err
	}
	return errors.Join(do(s), s.Close())
}

// Append delivers a folder's *.eml files to user as another program would, in
// name order.
func (r *Realm) Append(ctx context.Context, user, folder string) error {
	return r.deliver(ctx, folder, SpoolChange{Do: "append", User: user})
}

// Fill makes user's maildrop exactly a folder's *.eml files, octets as they are.
func (r *Realm) Fill(ctx context.Context, user, folder string) error {
	return r.deliver(ctx, folder, SpoolChange{Do: "fill", User: user})
}

// deliver hands a folder over as a tar archive, one file at a time. A user whom
// nobody knows yet gets an entry and a maildrop first.
func (r *Realm) deliver(ctx context.Context, folder string, c SpoolChange) error {
	if info, err := os.Stat(folder); err != nil || !info.IsDir() {
		return fmt.Errorf("integration: %s is no folder: %w", folder, err)
	}
	if err := r.known(ctx, c.User); err != nil {
		return err
	}
	names, err := filepath.Glob(filepath.Join(folder, "*.eml"))
	if err != nil {
		return err
	}
	slices.Sort(names)
	reader, writer := io.Pipe()
	defer reader.Close() //nolint:errcheck // ends the writer when do has failed
	go func() { writer.CloseWithError(pack(writer, names)) }()
	c.Archive = reader
	return r.Change(ctx, c)
}

func pack(w io.Writer, names []string) error {
	archive := tar.NewWriter(w)
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		head := &tar.Header{Name: filepath.Base(name), Mode: 0o600, Size: int64(len(b))}
		if err := archive.WriteHeader(head); err != nil {
			return err
		}
		if _, err := archive.Write(b); err != nil {
			return err
		}
	}
	return archive.Close()
}

// Expunge removes messages by number, as an IMAP client would beside open POP
// sessions.
func (r *Realm) Expunge(ctx context.Context, user string, numbers ...int) error {
	return r.Change(ctx, SpoolChange{Do: "expunge", User: user, Numbers: numbers})
}

const kpopdTOML = `# Made for this realm.
hostname = %[2]q
state_dir = "%[1]s/state"
user = %[7]q

[log]
level = "info"
format = "text"

[listen.kpop]
address = "127.0.0.1:%[3]d"
protocol = "kpop"

[listen.pop3]
address = "127.0.0.1:%[4]d"
protocol = "pop3"

[listen.pop3s]
address = "127.0.0.1:%[5]d"
protocol = "pop3s"

[tls]
certificate = "%[1]s/server.pem"
key = "%[1]s/server.key"

[kerberos]
keytab = "%[1]s/server.keytab"
krb5_conf = "%[1]s/krb5.conf"
replay_journal = "%[1]s/state/replay"

[password]
service = "pop/%[2]s"

%[8]s
[spool]
imapd_conf = "%[1]s/imapd.conf"
mode = %[9]q

# Everybody comes from 127.0.0.1 here.
[limits]
per_address = 20000
per_user = 20000
unauthenticated = 20000
%[6]s`

func (r *Realm) writeConfig(extra string) error {
	text := fmt.Sprintf(kpopdTOML, r.Dir, Host, r.Ports.KPOP, r.Ports.POP3, r.Ports.POP3S, extra, r.currentUser(),
		fmt.Sprintf(ldapTOML, r.Dir, r.LDAP().URI, ldaptest.Base), r.spoolMode())
	if err := os.WriteFile(r.path("kpopd.toml"), []byte(text), 0o600); err != nil {
		return err
	}
	return r.writeServices()
}

// writeServices makes a copy of /etc/services that knows KPOP: fetchmail wants
// the service by name. Tests bind it over the real one in a mount namespace of
// their own.
func (r *Realm) writeServices() error {
	b, err := os.ReadFile("/etc/services")
	if err != nil {
		b = nil
	}
	var out strings.Builder
	for line := range strings.Lines(string(b)) {
		if !strings.HasPrefix(line, "kpop") {
			out.WriteString(line)
		}
	}
	fmt.Fprintf(&out, "kpop\t\t%d/tcp\n", r.Ports.KPOP)
	return os.WriteFile(r.path("services"), []byte(out.String()), 0o644)
}

// writeScripts makes the programs of the contract: DIR/fill and its kin.
func (r *Realm) writeScripts(tool string) error {
	if tool == "" {
		return r.writeWithServices()
	}
	for _, name := range []string{"adduser", "fill", "append", "expunge", "restart"} {
		text := fmt.Sprintf("#!/bin/sh\nexec %s %s %s \"$@\"\n", shellQuote(tool), name, shellQuote(r.Dir))
		if err := os.WriteFile(r.path(name), []byte(text), 0o700); err != nil { //nolint:gosec // G306: a script must be executable
			return err
		}
	}
	return r.writeWithServices()
}

// withServices lets fetchmail find KPOP by name. A mount namespace changes
// nothing for anybody else; where none may be made, as in a container, the line
// goes into the machine's own file, is said aloud, and is taken out again.
const withServices = `#!/bin/sh
# Runs a command that finds the service kpop at this realm's port.
services=%s
line=$(tail -n 1 "$services")
if unshare -m true 2>/dev/null; then
	exec unshare -m sh -c 'mount --bind "$0" /etc/services && exec "$@"' "$services" "$@"
fi
if unshare -rm true 2>/dev/null; then
	exec unshare -rm sh -c 'mount --bind "$0" /etc/services && exec "$@"' "$services" "$@"
fi
echo "No mount namespace may be made here: adding \"$line\" to /etc/services for this command." >&2
printf '%%s # kpopd-realm\n' "$line" >>/etc/services || exit 1
trap 'sed -i "/# kpopd-realm$/d" /etc/services' EXIT INT TERM
"$@"
`

// writeWithServices makes the wrapper that fetchmail needs for KPOP.
func (r *Realm) writeWithServices() error {
	text := fmt.Sprintf(withServices, shellQuote(r.path("services")))
	return os.WriteFile(r.path("with-services"), []byte(text), 0o700) //nolint:gosec // G306: a script must be executable
}

func (r *Realm) currentUser() string {
	if os.Getuid() == 0 && !r.shared {
		return "root"
	}
	return ""
}
