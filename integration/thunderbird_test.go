//go:build integration

package integration_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/kpopd/kpopd/integration"
)

var thunderbirdRounds = flag.Int("thunderbird", 0, "let Thunderbird log in so often on each port; 0: once, by POP3S")

// thunderbirdRows are Thunderbird's part of the matrix: the port that
// docs/clients.md advises, or by make thunderbird all that it can speak.
func thunderbirdRows() (rows []matrixRow) {
	tls := matrixRow{"Thunderbird GSSAPI, POP3S", thunderbird("POP3S", socketTLS)}
	if *thunderbirdRounds == 0 {
		return []matrixRow{tls}
	}
	for range *thunderbirdRounds {
		rows = append(rows, tls, matrixRow{"Thunderbird GSSAPI, STLS", thunderbird("POP3", socketSTLS)},
			matrixRow{"Thunderbird GSSAPI", thunderbird("POP3", socketClear)})
	}
	return rows
}

// thunderbirdTime is what one start may take until the mail is there: some
// seconds where nothing else runs, most of a minute among twenty other programs.
const thunderbirdTime = 3 * time.Minute

// thunderbirdTries is how often it is started when it does nothing: it is a
// hundred threads and a dozen services, none of which is looked at here.
const thunderbirdTries = 3

// Values of mail.server.serverN.socketType.
const (
	socketClear = 0
	socketSTLS  = 2
	socketTLS   = 3
)

// thunderbirdPrefs is an account of docs/clients.md that is fetched from when the
// program starts, and an end to all that it would ask of people and of the
// network.
const thunderbirdPrefs = `user_pref("mail.accountmanager.accounts", "account1,account2");
user_pref("mail.accountmanager.defaultaccount", "account1");
user_pref("mail.accountmanager.localfoldersserver", "server2");
user_pref("mail.account.account1.server", "server1");
user_pref("mail.account.account1.identities", "id1");
user_pref("mail.account.account2.server", "server2");
user_pref("mail.identity.id1.useremail", "alice@realm.test");
user_pref("mail.identity.id1.valid", true);
user_pref("mail.server.server1.type", "pop3");
user_pref("mail.server.server1.hostname", "%s");
user_pref("mail.server.server1.port", %d);
user_pref("mail.server.server1.socketType", %d);
user_pref("mail.server.server1.authMethod", 5);
user_pref("mail.server.server1.userName", "alice");
user_pref("mail.server.server1.leave_on_server", true);
user_pref("mail.server.server1.login_at_startup", true);
user_pref("mail.server.server1.download_on_biff", true);
user_pref("mail.server.server1.check_new_mail", true);
user_pref("mail.server.server2.type", "none");
user_pref("mail.server.server2.hostname", "Local Folders");
user_pref("mail.server.server2.userName", "nobody");
user_pref("mail.shell.checkDefaultClient", false);
user_pref("mail.provider.suppress_dialog_on_startup", true);
user_pref("mail.rights.version", 1);
user_pref("mailnews.start_page.enabled", false);
user_pref("mailnews.database.global.indexer.enabled", false);
user_pref("app.update.enabled", false);
user_pref("app.normandy.enabled", false);
user_pref("extensions.update.enabled", false);
user_pref("extensions.getAddons.cache.enabled", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("toolkit.telemetry.enabled", false);
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("network.dns.disableIPv6", true);
user_pref("services.settings.server", "data:,");
`

// thunderbird fetches without a screen and leaves the mail on the server.
func thunderbird(port string, socketType int) fetch {
	return func(t *testing.T, c *clientRun) [][]byte {
		for try := 1; ; try++ {
			box, err := runThunderbird(t, c.tool, port, socketType)
			switch {
			case err == nil:
				return mboxMessages(t, box)
			case try == thunderbirdTries:
				t.Fatal(err)
			}
			t.Log(err)
			unlocked(t, "alice")
		}
	}
}

// runThunderbird runs it once and gives the mbox it has filled. Its directory is
// the realm's, which is removed last: what it has started may live for a moment
// longer than it.
func runThunderbird(t *testing.T, tool integration.Tool, port string, socketType int) (string, error) {
	dir, err := os.MkdirTemp(realm.Dir, "thunderbird")
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "user.js"), fmt.Sprintf(thunderbirdPrefs, integration.Host, portOf(port), socketType))
	for _, args := range [][]string{
		{"-N", "--empty-password"}, {"-A", "-n", "realm", "-t", "C,,", "-i", realm.Path("ca.pem")},
	} {
		if _, err := tool.Run(t.Context(), "certutil", append(args, "-d", "sql:"+dir)...); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), thunderbirdTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "thunderbird", "--headless", "--no-remote", "--profile", dir)
	cmd.Env = slices.Concat(os.Environ(), tool.Env, []string{"HOME=" + dir, "XDG_RUNTIME_DIR=" + dir, "TMPDIR=" + dir, "MOZ_CRASHREPORTER_DISABLE=1"})
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close() //nolint:errcheck // only written to
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	box := filepath.Join(dir, "Mail", integration.Host)
	done := thunderbirdDone(ended, box)
	cancel()
	<-ended
	if done {
		return filepath.Join(box, "Inbox"), nil
	}
	said, err := os.ReadFile(log.Name())
	return "", errors.Join(fmt.Errorf("thunderbird has not fetched all; it says %.4000s", said), err)
}

// thunderbirdDone waits until every message is noted as fetched, which happens
// when the session is over, or the program has ended.
func thunderbirdDone(ended <-chan struct{}, box string) bool {
	want := len(integration.SampleMail())
	for {
		state, err := os.ReadFile(filepath.Join(box, "popstate.dat"))
		if err == nil && bytes.Count(state, []byte("\nk ")) == want {
			return true
		}
		select {
		case <-ended:
			return false
		case <-time.After(50 * time.Millisecond):
		}
	}
}
