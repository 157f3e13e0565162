package integration

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// dovecotPackages are Debian's. They conflict with Cyrus's, and so are unpacked
// into a directory of their own instead of installed.
var dovecotPackages = []string{"dovecot-core", "dovecot-pop3d", "dovecot-imapd", "dovecot-gssapi"}

// dovecotPrograms are those whose shared libraries are brought along.
var dovecotPrograms = []string{
	"sbin/dovecot", "bin/doveconf", "bin/doveadm",
	"lib/dovecot/*", "lib/dovecot/modules/auth/libmech_gssapi.so", "lib/dovecot/modules/libssl_iostream_openssl.so",
}

// A Dovecot is Debian's Dovecot in a directory that is its root: it needs no
// package installed and nothing of the machine's but the kernel.
type Dovecot struct {
	Root string

	pid   int
	ended chan struct{}
}

// UnpackDovecot makes a root for Dovecot in the empty directory root. The
// packages are those in debs, and are downloaded to it when they are not there;
// make deps has done so in bin/debs.
func UnpackDovecot(ctx context.Context, root, debs string) (*Dovecot, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	files, err := dovecotDebs(ctx, debs)
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		if _, err := (Tool{}).Run(ctx, "dpkg", "-x", file, root); err != nil {
			return nil, err
		}
	}
	d := &Dovecot{Root: root}
	for _, step := range []func() error{func() error { return d.bringLibraries(ctx) }, d.makeTree} {
		if err := step(); err != nil {
			return nil, fmt.Errorf("integration: Dovecot's root: %w", err)
		}
	}
	return d, nil
}

// dovecotDebs gives the packages' files.
func dovecotDebs(ctx context.Context, dir string) ([]string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // G301: nothing secret, and apt's own user writes here
		return nil, err
	}
	files := make([]string, 0, len(dovecotPackages))
	for _, name := range dovecotPackages {
		pattern := filepath.Join(dir, name+"_*.deb")
		found, err := filepath.Glob(pattern)
		if err == nil && len(found) == 0 {
			_, err = Tool{Dir: dir}.Run(ctx, "apt-get", "download", "-q", name)
			if err == nil {
				found, err = filepath.Glob(pattern)
			}
		}
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("integration: no %s", pattern)
		}
		files = append(files, found[len(found)-1])
	}
	return files, nil
}

// bringLibraries copies the machine's shared libraries to the same places below
// the root.
func (d *Dovecot) bringLibraries(ctx context.Context) error {
	var programs []string
	for _, pattern := range dovecotPrograms {
		found, err := filepath.Glob(filepath.Join(d.Root, "usr", pattern))
		if err != nil {
			return err
		}
		programs = append(programs, found...)
	}
	programs = slices.DeleteFunc(programs, func(path string) bool {
		info, err := os.Stat(path)
		return err != nil || !info.Mode().IsRegular()
	})
	own := filepath.Join(d.Root, "usr/lib/dovecot")
	// ldd fails for scripts among them, and says so for each.
	out, _ := Tool{Env: []string{"LD_LIBRARY_PATH=" + own}}.Run(ctx, "ldd", programs...)
	for path := range librariesOf(out) {
		if strings.HasPrefix(path, d.Root) {
			continue
		}
		to := filepath.Join(d.Root, path)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil { //nolint:gosec // G301: a root directory's
			return err
		}
		b, err := os.ReadFile(path) //nolint:gosec // G304: the machine's libraries
		if err != nil {
			return err
		}
		if err := os.WriteFile(to, b, 0o755); err != nil { //nolint:gosec // G306: the dynamic linker is executed
			return err
		}
	}
	return nil
}

// librariesOf reads what ldd prints: "name => path (address)", or a path alone.
func librariesOf(ldd string) map[string]bool {
	found := map[string]bool{}
	for line := range strings.Lines(ldd) {
		if _, after, arrow := strings.Cut(line, "=>"); arrow {
			line = after
		}
		line = strings.TrimSpace(line)
		if path, _, address := strings.Cut(line, " (0x"); address && strings.HasPrefix(path, "/") {
			found[path] = true
		}
	}
	return found
}

// makeTree adds what a root must have: users, devices, a place for sockets.
func (d *Dovecot) makeTree() error {
	for _, dir := range []string{"etc", "dev", "tmp", "run/dovecot", "var/lib/dovecot", "mail"} {
		if err := os.MkdirAll(filepath.Join(d.Root, dir), 0o755); err != nil { //nolint:gosec // G301: a root directory's
			return err
		}
	}
	users := "root:x:0:0::/:/bin/false\ndovecot:x:900:900::/:/bin/false\ndovenull:x:901:901::/:/bin/false\nvmail:x:902:902::/mail:/bin/false\n"
	groups := "root:x:0:\ndovecot:x:900:\ndovenull:x:901:\nvmail:x:902:\n"
	err := errors.Join(os.WriteFile(filepath.Join(d.Root, "etc/passwd"), []byte(users), 0o644), //nolint:gosec // G306: Dovecot's users read it
		os.WriteFile(filepath.Join(d.Root, "etc/group"), []byte(groups), 0o644)) //nolint:gosec // G306: Dovecot's users read it
	for name, minor := range map[string]int{"null": 3, "zero": 5, "random": 8, "urandom": 9} {
		path := filepath.Join(d.Root, "dev", name)
		if os.Getuid() == 0 && syscall.Mknod(path, syscall.S_IFCHR|0o666, 1<<8|minor) == nil {
			err = errors.Join(err, os.Chmod(path, 0o666))
			continue
		}
		// Where no device may be made a file serves: what is written to it is
		// not read.
		err = errors.Join(err, os.WriteFile(path, nil, 0o666)) //nolint:gosec // G306: as the device
	}
	return err
}

// Write puts a file below the root, for Dovecot's users to read.
func (d *Dovecot) Write(name, text string) error {
	path := filepath.Join(d.Root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // G301: a root directory's
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644) //nolint:gosec // G306: Dovecot's users read it
}

// DovecotConf is a configuration for tests: POP3 at a port of loopback without
// TLS, every user with the given password, Maildirs in ROOT/mail/USER. Further
// settings follow it.
func DovecotConf(pop3Port int, password string) string {
	return fmt.Sprintf(`protocols = pop3
listen = 127.0.0.1
base_dir = /run/dovecot
state_dir = /var/lib/dovecot
log_path = /dovecot.log
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain
first_valid_uid = 0
mail_location = maildir:/mail/%%u
passdb {
  driver = static
  args = password=%s
}
userdb {
  driver = static
  args = uid=902 gid=902 home=/mail/%%u
}
service pop3-login {
  inet_listener pop3 {
    port = %d
  }
  inet_listener pop3s {
    port = 0
  }
}
`, password, pop3Port)
}

// mailUser owns the mail: Dovecot serves none of root's.
const mailUser = 902

// Start starts Dovecot with ROOT/etc/dovecot.conf and waits until it greets at
// every address. It needs root, to enter the root directory.
func (d *Dovecot) Start(addresses ...string) error {
	err := filepath.WalkDir(filepath.Join(d.Root, "mail"), func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, mailUser, mailUser))
	})
	if err != nil {
		return fmt.Errorf("integration: Dovecot: %w", err)
	}
	log, err := os.OpenFile(filepath.Join(d.Root, "start.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() //nolint:errcheck // the daemon has its own descriptor
	cmd := exec.Command("/usr/sbin/dovecot", "-F", "-c", "/etc/dovecot.conf")
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Chroot: d.Root}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("integration: starting Dovecot in %s: %w", d.Root, err)
	}
	d.pid, d.ended = cmd.Process.Pid, make(chan struct{})
	failed := make(chan error, 1)
	go func() {
		failed <- cmd.Wait()
		close(d.ended)
	}()
	for _, address := range addresses {
		if err := greets(address, failed); err != nil {
			return errors.Join(fmt.Errorf("integration: Dovecot: %w; see %s", err, log.Name()), d.Stop())
		}
	}
	return nil
}

// Pid is the master's process.
func (d *Dovecot) Pid() string { return strconv.Itoa(d.pid) }

// Stop ends Dovecot and waits until it is gone. The root stays.
func (d *Dovecot) Stop() error {
	if d.ended == nil {
		return nil
	}
	_ = syscall.Kill(d.pid, syscall.SIGTERM)
	select {
	case <-d.ended:
	case <-time.After(20 * time.Second):
		_ = syscall.Kill(-d.pid, syscall.SIGKILL)
		<-d.ended
	}
	if !within(20*time.Second, func() bool { return errors.Is(syscall.Kill(-d.pid, 0), syscall.ESRCH) }) {
		_ = syscall.Kill(-d.pid, syscall.SIGKILL)
	}
	d.ended = nil
	return nil
}

// Remove takes the root away.
func (d *Dovecot) Remove() error {
	if err := os.RemoveAll(d.Root); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
