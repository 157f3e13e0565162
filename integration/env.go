package integration

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// variables are the contract of DIR/env.
func (r *Realm) variables() [][2]string {
	pid, _ := r.pid("kpopd")
	v := [][2]string{
		{"KRB5_CONFIG", r.Path("krb5.conf")}, {"KRB5_KTNAME", r.Path("server.keytab")},
		{"KRB5CCNAME", "FILE:" + r.Path("krb5cc")},
		{"REALM", RealmName}, {"HOST", r.Host},
		{"KPOP_PORT", strconv.Itoa(r.Ports.KPOP)}, {"POP3_PORT", strconv.Itoa(r.Ports.POP3)},
		{"POP3S_PORT", strconv.Itoa(r.Ports.POP3S)}, {"KDC_PORT", strconv.Itoa(r.Ports.KDC)},
		{"CA_FILE", r.Path("ca.pem")}, {"SPOOL", r.Path("spool")}, {"IMAPD_CONF", r.Path("imapd.conf")},
		{"CONFIG", r.Path("kpopd.toml")}, {"KPOPD_PID", strconv.Itoa(pid)}, {"KPOPD", r.Kpopd},
		{"KPOPD_LOG", r.Path("kpopd.log")},
	}
	if r.cyrus {
		v = append(v, [2]string{"CYRUS_IMAP", Loopback(r.imapPort())}, [2]string{"CYRUS_LMTP", r.Path("cyrus/socket/lmtp")})
	}
	return v
}

func (r *Realm) writeEnv() error {
	var b strings.Builder
	b.WriteString("# Source this in a shell: . " + r.Path("env") + "\n")
	for _, v := range r.variables() {
		b.WriteString("export " + v[0] + "=" + shellQuote(v[1]) + "\n")
	}
	temp := r.Path("env.new")
	if err := os.WriteFile(temp, []byte(b.String()), 0o600); err != nil {
		return err
	}
	return os.Rename(temp, r.Path("env"))
}

func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func (r *Realm) readEnv() (map[string]string, error) {
	b, err := os.ReadFile(r.Path("env"))
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for line := range strings.Lines(string(b)) {
		name, value, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
		if !ok {
			continue
		}
		value = strings.TrimSuffix(strings.TrimPrefix(value, "'"), "'")
		out[name] = strings.ReplaceAll(value, `'\''`, "'")
	}
	return out, nil
}

// installTool copies the harness's program into the realm, so that the scripts
// work from everywhere and as long as the realm is there.
func (r *Realm) installTool(from string) error {
	if err := os.MkdirAll(r.Path("bin"), 0o755); err != nil { //nolint:gosec // G301: the spool's owner runs it
		return err
	}
	in, err := os.Open(from) //nolint:gosec // G304: our own program
	if err != nil {
		return fmt.Errorf("integration: the harness's own program: %w", err)
	}
	defer in.Close()                                                                       //nolint:errcheck // only read
	out, err := os.OpenFile(r.Path("bin/realm"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755) //nolint:gosec // G302: a program
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		_ = out.Close()
		return err
	}
	return out.Close()
}

// withServices runs a program with the realm's own /etc/services, in which kpop
// is the realm's port: fetchmail speaks KPOP only to a service of that name, and
// Debian does not list it. The file is laid over the machine's in a mount
// namespace that ends with the program.
const withServices = `#!/bin/sh
# Usage: run PROGRAM [ARGUMENT...]: in the realm's environment, where the service kpop is port %[3]d.
. %[1]s
userns=
[ "$(id -u)" = 0 ] || userns=--map-root-user
exec unshare --mount $userns sh -c 'mount --bind "$0" /etc/services && exec "$@"' %[2]s "$@"
`

// writeScripts makes the programs DIR/fill and its fellows.
func (r *Realm) writeScripts() error {
	tool, dir := shellQuote(r.Path("bin/realm")), shellQuote(r.Dir)
	scripts := map[string]string{
		"run": fmt.Sprintf(withServices, shellQuote(r.Path("env")), shellQuote(r.Path("services")), r.Ports.KPOP),
	}
	for _, name := range []string{"fill", "append", "expunge", "restart"} {
		scripts[name] = "#!/bin/sh\nexec " + tool + " " + name + " --dir " + dir + ` "$@"` + "\n"
	}
	for name, text := range scripts {
		if err := os.WriteFile(r.Path(name), []byte(text), 0o755); err != nil { //nolint:gosec // G306: a program
			return err
		}
	}
	services, err := os.ReadFile("/etc/services")
	if err != nil {
		return err
	}
	services = fmt.Appendf(services, "\nkpop\t%d/tcp\t# KPOP of %s\n", r.Ports.KPOP, r.Dir)
	return os.WriteFile(r.Path("services"), services, 0o644) //nolint:gosec // G306: as /etc/services
}
