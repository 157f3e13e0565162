package config_test

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/kpopd/kpopd/cmd/config"
)

// The shipped example must be whole, or it documents a lie: all it needs beside
// itself is the files that it names.
func TestShippedExample(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../etc/kpopd.toml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	spool := filepath.Join(dir, "imapd.conf")
	file := filepath.Join(dir, "kpopd.toml")
	text := strings.ReplaceAll(string(b), "/etc/imapd.conf", spool)
	for _, f := range []string{"certificate", "key"} {
		pem := filepath.Join(dir, f)
		text = strings.Replace(text, f+` = ""`, f+` = "`+pem+`"`, 1)
		if err := os.WriteFile(pem, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range map[string]string{spool: "", file: text} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := config.Load(file); err != nil {
		t.Error(err)
	}
}

// Principals keep their case and their dots.
func TestActing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, spool := filepath.Join(dir, "kpopd.toml"), filepath.Join(dir, "imapd.conf")
	text := "hostname = \"x\"\n[listen.a]\naddress = \":110\"\nprotocol = \"pop3\"\n[spool]\nimapd_conf = \"" + spool +
		"\"\n[identity]\nacting = [ { who = \"pop/front.test@REALM.TEST\", for = [\"Alice.L\", \"*\"] } ]\n"
	for name, content := range map[string]string{spool: "", file: text} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	want := []config.Acting{{Who: "pop/front.test@REALM.TEST", For: []string{"Alice.L", "*"}}}
	if !reflect.DeepEqual(c.Identity.Acting, want) || !slices.Equal(c.Identity.Order, config.Origins) {
		t.Errorf("%+v", c.Identity)
	}
}

func TestFaultsAreNamed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, says string }{
		"unknown key":         {"hostnam = \"x\"", "hostnam"},
		"no listener":         {"hostname = \"x\"", "listen"},
		"host service":        {"[kerberos]\nservices = [\"host\"]", "kerberos.services"},
		"skew of hours":       {"[kerberos]\nclock_skew = \"3h\"", "kerberos.clock_skew"},
		"short idle":          {"[limits]\nidle_timeout = \"1m\"", "limits.idle_timeout"},
		"half a key":          {"[tls]\ncertificate = \"/x\"", "tls"},
		"bad address":         {"[listen.a]\naddress = \"110\"\nprotocol = \"pop3\"", "listen.a.address"},
		"no port":             {"[listen.a]\naddress = \":99999\"\nprotocol = \"pop3\"", "listen.a.address"},
		"a port twice":        {"[listen.a]\naddress = \":110\"\nprotocol = \"pop3\"\n[listen.b]\naddress = \":110\"\nprotocol = \"kpop\"", "\":110\" is listen.a's"},
		"wrong type":          {"[limits]\nconnections = \"many\"", "connections"},
		"LMTP for all":        {"[lmtp]\nlisten = \"0.0.0.0:24\"", "lmtp.listen"},
		"LMTP nowhere":        {"[lmtp]\nlisten = \"lmtp\"", "lmtp.listen"},
		"socket mode":         {"[lmtp]\nsocket_mode = \"rw\"", "lmtp.socket_mode"},
		"no spool":            {"[spool]\nimapd_conf = \"\"", "spool.imapd_conf"},
		"odd option":          {"[spool.options]\npopminpoll = 1.5", "spool.options.popminpoll"},
		"not TOML":            {"hostname = \"x\"\n\n[limits", "kpopd.toml:3:"},
		"unknown order":       {"[identity]\norder = [\"ldap\"]", "identity.order"},
		"an order twice":      {"[identity]\norder = [\"map\", \"map\"]", "identity.order"},
		"acting for nobody":   {"[identity]\nacting = [ { who = \"a\" } ]", "identity.acting"},
		"acting misspelt":     {"[identity]\nacting = [ { whom = \"a\" } ]", "whom"},
		"a host's mailbox":    {"[identity]\nhost_mailbox = \"{user}.{host}\"", "identity.host_mailbox"},
		"one for everybody":   {"[identity]\nhosts = [\"a.test\"]\nhost_mailbox = \"{host}\"", "identity.host_mailbox"},
		"long wait":           {"[guesses]\nmax_wait = \"2m\"", "guesses.max_wait"},
		"two sources of APOP": {"[password]\napop_file = \"/x\"\n[ldap.attributes]\napop_secret = \"y\"", "apop_secret"},
		"simple without name": {"[ldap]\nbind = \"simple\"", "ldap.bind"},
		"unknown legacy":      {"[utf8]\nlegacy = \"raw\"", "utf8.legacy"},
		"no language":         {"[utf8]\nlanguage = \"german?\"", "utf8.language"},
		"two groups":          {"[ldap]\ngroup = \"cn=a\"\ngroup_filter = \"(cn=a)\"", "ldap.group"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "kpopd.toml")
			if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := config.Load(file); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v does not name %s", err, c.says)
			}
		})
	}
}

// TestControlSocket: the daemon is found by whatever can still be read.
func TestControlSocket(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, want, fault string }{
		"default":         {"", "/var/lib/kpopd/control.sock", ""},
		"state directory": {"state_dir = \"/srv/state\"\nno_such_key = 1\n[limits]\nper_user = \"many\"\n", "/srv/state/control.sock", ""},
		"named":           {"[control]\nsocket = \"/run/c\"\n", "/run/c", ""},
		"none":            {"[control]\nsocket = \"none\"\n", "", ""},
		"no TOML":         {"no such line\n", "/var/lib/kpopd/control.sock", "kpopd.toml"},
	} {
		file := filepath.Join(t.TempDir(), "kpopd.toml")
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := config.ControlSocket(file)
		if got != c.want || (err == nil) != (c.fault == "") || err != nil && !strings.Contains(err.Error(), c.fault) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if got, err := config.ControlSocket(filepath.Join(t.TempDir(), "absent.toml")); got != "" || err == nil {
		t.Errorf("a file that is not there: %q, %v", got, err)
	}
}
