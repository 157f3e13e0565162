package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/kpopd/kpopd/cmd/assemble"
	"github.com/kpopd/kpopd/cmd/config"
	"github.com/kpopd/kpopd/mailstore"
)

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"kpop": main}) }

// TestScripts plays testdata/script. Each has a spool without Cyrus: $WORK/kpopd.toml
// names it.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{Dir: "testdata/script", Setup: ownSite, Cmds: map[string]func(*testscript.TestScript, bool, []string){
		"status": exits, "message": showMessage, "pop-delete": popDelete, "rm-message": removeMessage,
	}})
}

// exits runs a program that must end with a certain status: status N program args.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N program [args]")
	}
	err := ts.Exec(args[1], args[2:]...)
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		ts.Fatalf("%v", err)
	}
	code := 0
	if ended != nil {
		code = ended.ExitCode()
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("%s ended with %d, not %s", args[1], code, args[0])
	}
}

// messageFile is a message's file in a maildrop of the site: the only one of
// that name in the directory that kpop spool show names.
func messageFile(ts *testscript.TestScript, user, name string) string {
	ts.Check(ts.Exec("kpop", "spool", "show", "--config", "kpopd.toml", "--json", user))
	var dump struct{ Directory string }
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &dump))
	return filepath.Join(dump.Directory, name)
}

// popDelete removes a message as a POP session would: pop-delete USER NUMBER.
func popDelete(ts *testscript.TestScript, _ bool, args []string) {
	c, err := config.Load(ts.MkAbs("kpopd.toml"))
	ts.Check(err)
	store, err := assemble.OpenStore(c, slog.New(slog.DiscardHandler))
	ts.Check(err)
	defer store.Close()
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	drop, err := store.Open(context.Background(), args[0], mailstore.Holder{})
	ts.Check(err)
	ts.Check(drop.Update(context.Background(), mailstore.Changes{Deleted: []mailstore.Number{mailstore.Number(n)}}))
	ts.Check(drop.Close())
}

// showMessage prints a message's file: message USER FILE.
func showMessage(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(ts.Exec("cat", messageFile(ts, args[0], args[1])))
}

// removeMessage removes a message's file: rm-message USER FILE.
func removeMessage(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(os.Remove(messageFile(ts, args[0], args[1])))
}

// ownSite is a site's configuration of $WORK.
func ownSite(e *testscript.Env) error {
	text := strings.ReplaceAll(`hostname = "mail.test"
state_dir = "@/state"
[listen.pop3]
address = "127.0.0.1:0"
protocol = "pop3"
[spool]
imapd_conf = ""
mode = "embedded"
[spool.options]
configdirectory = "@/imap"
partition-default = "@/spool"
[lmtp]
message_size = 2000
`, "@", e.WorkDir)
	for _, dir := range []string{"imap", "spool", "state"} {
		if err := os.Mkdir(filepath.Join(e.WorkDir, dir), 0o700); err != nil {
			return err
		}
	}
	for name, octets := range map[string]int{"exact": 2000, "larger": 2001} {
		message := "Subject: large\n\n" + strings.Repeat("x", octets-len("Subject: large\n\n\n")) + "\n"
		if err := os.WriteFile(filepath.Join(e.WorkDir, name), []byte(message), 0o600); err != nil {
			return err
		}
	}
	for name, text := range map[string]string{
		"kpopd.toml": text, "shared.toml": strings.Replace(text, "embedded", "shared", 1),
		"absent.toml":    text + "[tls]\ncertificate = \"/absent/cert\"\nkey = \"/absent/key\"\n",
		"retention.toml": strings.Replace(text, "[spool.options]", "[spool.options]\npopexpiretime = 30", 1),
	} {
		if err := os.WriteFile(filepath.Join(e.WorkDir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}
