package assemble_test

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jcmturner/gokrb5/v8/keytab"

	"github.com/kpopd/kpopd/cmd/assemble"
	"github.com/kpopd/kpopd/cmd/config"
)

// TestFiles: a confined daemon may write wherever it does, also where its replay
// journal lies apart: that is replaced by a new one beside it.
func TestFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	kt := keytab.New()
	if err := kt.AddEntry("pop/localhost", "REALM.TEST", "secret", time.Now(), 1, 18); err != nil {
		t.Fatal(err)
	}
	keys, err := kt.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"keytab": string(keys), "krb5.conf": "[libdefaults]\ndefault_realm = REALM.TEST\n",
		"kpopd.toml": fmt.Sprintf(`hostname = "localhost"
state_dir = "%[1]s/state"
[listen.pop3]
address = ":110"
protocol = "pop3"
[kerberos]
keytab = "%[1]s/keytab"
krb5_conf = "%[1]s/krb5.conf"
replay_journal = "%[1]s/journal/replay"
[spool]
imapd_conf = ""
mode = "embedded"
[spool.options]
configdirectory = "%[1]s/conf"
partition-default = "%[1]s/mail"
`, dir),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := config.Load(filepath.Join(dir, "kpopd.toml"))
	if err != nil {
		t.Fatal(err)
	}
	d, err := assemble.Build(c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	read, write := d.Files()
	for _, name := range []string{"state", "journal", "conf", "mail"} {
		if path := filepath.Join(dir, name); !slices.Contains(write, path) {
			t.Errorf("%s is not among %q", path, write)
		}
	}
	for _, name := range []string{"keytab", "krb5.conf"} {
		if path := filepath.Join(dir, name); !slices.Contains(read, path) {
			t.Errorf("%s is not among %q", path, read)
		}
	}
	c.TLS.Certificate, c.TLS.Key = filepath.Join(dir, "absent.pem"), filepath.Join(dir, "absent.key")
	if _, err := assemble.Build(c, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "absent.pem: no such file or directory; kpopd's user must") {
		t.Errorf("a certificate that is not there: %v", err)
	}
}
