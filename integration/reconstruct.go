package integration

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strings"
)

// Reconstruct runs Cyrus's own checker over a copy of the spool in dir and gives
// what it says; a clean mailbox is its name and nothing else.
func (r *Realm) Reconstruct(ctx context.Context, dir, mailbox string) (string, error) {
	var t Tool
	for _, part := range []string{"cyrus", "spool"} {
		if _, err := t.Run(ctx, "cp", "-a", r.path(part), dir); err != nil {
			return "", err
		}
	}
	conf, err := os.ReadFile(r.path("imapd.conf"))
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "imapd.conf")
	text := strings.ReplaceAll(string(conf), r.Dir, dir)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil { //nolint:gosec // G306: Cyrus's user reads it
		return "", err
	}
	command := []string{"/usr/lib/cyrus/bin/reconstruct", "-C", file, "-n", "-G", mailbox}
	if os.Getuid() == 0 {
		// Cyrus's programs refuse root.
		if _, err := user.Lookup("cyrus"); err != nil {
			return "", fmt.Errorf("integration: %w; install cyrus-imapd", err)
		}
		if _, err := t.Run(ctx, "chown", "-R", "cyrus:mail", dir); err != nil {
			return "", err
		}
		for d := dir; d != "/" && d != os.TempDir(); d = filepath.Dir(d) {
			if err := os.Chmod(d, 0o755); err != nil { //nolint:gosec // G302: Cyrus's user passes through
				return "", err
			}
		}
		command = append([]string{"runuser", "-u", "cyrus", "--"}, command...)
	}
	return t.Run(ctx, command[0], command[1:]...)
}
