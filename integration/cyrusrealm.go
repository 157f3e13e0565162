package integration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/kpopd/kpopd/integration/spool"
	"github.com/kpopd/kpopd/mailstore/cyrus/cyrusdb"
)

// SpoolCyrus in Options.Spool starts a Cyrus master over the realm's spool, and
// has kpopd share it.
const SpoolCyrus = "cyrus"

// prepareCyrus writes what kpopd and the harness do otherwise beside Cyrus:
// everything that touches the spool runs as Cyrus's user, from copies of the
// programs that this user can reach.
func (r *Realm) prepareCyrus(o Options) error {
	if r.shared = o.Spool == SpoolCyrus; !r.shared {
		return nil
	}
	for _, dir := range []string{"bin", "cyrus/db", "cyrus/socket", "cyrus/proc", "cyrus/log", "cyrus/msg"} {
		if err := os.MkdirAll(r.path(dir), 0o700); err != nil {
			return err
		}
	}
	tool := o.Tool
	if tool == "" {
		tool = filepath.Join(filepath.Dir(o.Kpopd), "realm")
	}
	for _, program := range []string{o.Kpopd, tool} {
		if err := copyProgram(program, r.path("bin", filepath.Base(program))); err != nil {
			return err
		}
	}
	r.Kpopd = r.path("bin", filepath.Base(o.Kpopd))
	return nil
}

func copyProgram(from, to string) error {
	in, err := os.Open(from) //nolint:gosec // G304: our own programs
	if err != nil {
		return err
	}
	defer in.Close()                                                      //nolint:errcheck // only read
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755) //nolint:gosec // G302, G304: a program must be executable
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// cyrusTLS gives Cyrus the realm's own certificate, for STARTTLS.
func (r *Realm) cyrusTLS() string {
	if !r.shared {
		return ""
	}
	return "tls_server_cert: " + r.path("server.pem") + "\ntls_server_key: " + r.path("server.key") + "\n"
}

// startCyrus starts the master over the spool that makeSpool has made.
func (r *Realm) startCyrus() (err error) {
	if !r.shared {
		return nil
	}
	if r.Cyrus, err = NewCyrus(r.path("master"), r.path("imapd.conf")); err != nil {
		return err
	}
	if err := Own(r.Dir); err != nil {
		return err
	}
	return r.Cyrus.Start()
}

func (r *Realm) stopCyrus() error {
	if r.Cyrus == nil {
		return nil
	}
	return r.Cyrus.Stop()
}

// openCyrus finds the master of a realm that Up made.
func (r *Realm) openCyrus(values map[string]string) {
	if values["CYRUS_IMAP"] == "" {
		return
	}
	r.shared = true
	r.Cyrus = &Cyrus{Dir: r.path("master"), Conf: r.path("imapd.conf"), IMAP: values["CYRUS_IMAP"], LMTP: values["CYRUS_LMTP"], POP3: values["CYRUS_POP3"]}
}

// cyrusVariables are DIR/env's with SPOOL=cyrus.
func (r *Realm) cyrusVariables() [][2]string {
	if r.Cyrus == nil {
		return nil
	}
	return [][2]string{{"CYRUS_IMAP", r.Cyrus.IMAP}, {"CYRUS_LMTP", r.Cyrus.LMTP}, {"CYRUS_POP3", r.Cyrus.POP3}}
}

// spoolMode is kpopd's own word for how the spool is had.
func (r *Realm) spoolMode() string {
	if r.shared {
		return "shared"
	}
	return "embedded"
}

// credential is whom kpopd and the harness must be on the spool; nil: they stay
// who they are.
func (r *Realm) credential() *syscall.Credential {
	if !r.shared {
		return nil
	}
	return CyrusCredential()
}

// A SpoolChange is one change of a maildrop from beside kpopd. Archive is a tar
// archive of messages.
type SpoolChange struct {
	Do      string // create, fill, append, expunge
	User    string
	Numbers []int // for expunge
	Archive io.Reader
}

// Change makes a change, as the spool's owner.
func (r *Realm) Change(ctx context.Context, c SpoolChange) error {
	if owner := r.credential(); owner != nil {
		return r.changeAs(ctx, owner, c)
	}
	return r.onSpool(func(s *spool.Spool) error {
		switch c.Do {
		case "create":
			if err := s.Create(ctx, c.User); !errors.Is(err, cyrusdb.ErrMailboxExists) {
				return err
			}
			return nil
		case "fill":
			return s.Fill(ctx, c.User, c.Archive)
		case "append":
			return s.Append(ctx, c.User, c.Archive)
		case "expunge":
			return s.Expunge(ctx, c.User, c.Numbers...)
		}
		return fmt.Errorf("integration: no change %q", c.Do)
	})
}

// changeAs has a process of the owner's make the change.
func (r *Realm) changeAs(ctx context.Context, owner *syscall.Credential, c SpoolChange) error {
	args := []string{"change", r.path("imapd.conf"), c.Do, c.User}
	for _, n := range c.Numbers {
		args = append(args, fmt.Sprint(n))
	}
	cmd := exec.CommandContext(ctx, r.path("bin", "realm"), args...) //nolint:gosec // G204: our own program
	cmd.Dir, cmd.Stdin = r.Dir, c.Archive
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: owner}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("integration: %s %s: %w: %s", c.Do, c.User, err, out)
	}
	return nil
}

// ChangeSpool is Change in the owner's own process.
func ChangeSpool(ctx context.Context, imapdConf string, c SpoolChange) error {
	r := &Realm{Dir: filepath.Dir(imapdConf)}
	return r.Change(ctx, c)
}
