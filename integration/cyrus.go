package integration

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/kpopd/kpopd/integration/loopback"
)

// cyrusPrograms is where Debian's packages keep them.
const cyrusPrograms = "/usr/lib/cyrus/bin"

// A Cyrus is a private Cyrus master and its services over a spool, on loopback.
// Its daemons refuse root: in a process of root's they, and all that touches the
// spool, run as Debian's user cyrus; in anybody else's as the same user.
type Cyrus struct {
	Dir  string // of its sockets, its log and its pid
	Conf string // imapd.conf

	IMAP, LMTP, POP3 string // addresses, host:port
}

// CyrusConf is what the master needs in imapd.conf besides where the spool is:
// any password is right, and the user cyrus may act for everybody.
func CyrusConf() string {
	name := "cyrus"
	if os.Getuid() != 0 {
		if u, err := user.Current(); err == nil {
			name = u.Username
		}
	}
	return "cyrus_user: " + name + `
servername: localhost
admins: cyrus
allowplaintext: yes
sasl_pwcheck_method: alwaystrue
sasl_mech_list: PLAIN LOGIN
duplicatesuppression: no
umask: 077
`
}

const cyrusConf = `START {
  recover cmd="ctl_cyrusdb -C %[1]s -r"
}
SERVICES {
  imap cmd="imapd -C %[1]s -U 30" listen="%[2]s" prefork=1
  lmtp cmd="lmtpd -C %[1]s -a" listen="%[3]s" prefork=1
  pop3 cmd="pop3d -C %[1]s -U 30" listen="%[4]s" prefork=0
}
EVENTS {
  none cmd="true" period=1440
}
`

// NewCyrus chooses addresses and writes cyrus.conf to dir.
func NewCyrus(dir, imapdConf string) (*Cyrus, error) {
	c := &Cyrus{Dir: dir, Conf: imapdConf}
	for _, address := range []*string{&c.IMAP, &c.LMTP, &c.POP3} {
		port, err := loopback.FreePort()
		if err != nil {
			return nil, err
		}
		*address = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	text := fmt.Sprintf(cyrusConf, imapdConf, c.IMAP, c.LMTP, c.POP3)
	return c, os.WriteFile(c.path("cyrus.conf"), []byte(text), 0o600)
}

func (c *Cyrus) path(name string) string { return filepath.Join(c.Dir, name) }

// Start starts the master and waits until its services answer. Everything that
// imapd.conf names must be its user's already: see Own.
func (c *Cyrus) Start() error {
	if err := Own(c.Dir); err != nil {
		return err
	}
	log, err := os.OpenFile(c.path("master.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() //nolint:errcheck // the daemon has its own descriptor
	cmd := exec.Command(filepath.Join(cyrusPrograms, "master"), "-C", c.Conf, "-M", c.path("cyrus.conf"), "-p", c.path("master.lock"), "-D")
	cmd.Dir, cmd.Stdout, cmd.Stderr = c.Dir, log, log
	// A process group of its own: the master ends its services by its group.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: CyrusCredential()}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("integration: starting Cyrus: %w; install cyrus-imapd", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // reaps it while this process lives
	if err := os.WriteFile(c.path("master.pid"), []byte(strconv.Itoa(cmd.Process.Pid)+"\n"), 0o600); err != nil {
		return errors.Join(err, c.Stop())
	}
	for _, address := range []string{c.IMAP, c.LMTP, c.POP3} {
		if err := greets(address, ended); err != nil {
			return errors.Join(fmt.Errorf("integration: Cyrus: %w; see %s", err, log.Name()), c.Stop())
		}
	}
	return nil
}

// greets waits until a service has sent its greeting.
func greets(address string, ended <-chan error) error {
	var last error
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if last = greeted(address); last == nil {
			return nil
		}
		select {
		case err := <-ended:
			return fmt.Errorf("the master has ended: %w", err)
		default:
		}
	}
	return last
}

func greeted(address string) error {
	c, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // only read
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	_, err = c.Read(make([]byte, 512))
	return err
}

// pid is the master's process, and its group's; alive only when it works in our
// directory: a pid may have come to belong to somebody else.
func (c *Cyrus) pid() (pid int, alive bool) {
	b, err := os.ReadFile(c.path("master.pid"))
	if err != nil {
		return 0, false
	}
	pid, err = strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid < 2 {
		return 0, false
	}
	arguments, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	return pid, err == nil && strings.Contains(string(arguments), c.path("cyrus.conf"))
}

// Stop ends the master and its services and waits until they are gone.
func (c *Cyrus) Stop() error {
	pid, alive := c.pid()
	if !alive {
		return nil
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("integration: stopping Cyrus: %w", err)
	}
	gone := func() bool { return errors.Is(syscall.Kill(-pid, 0), syscall.ESRCH) }
	if !within(20*time.Second, gone) {
		_ = syscall.Kill(-pid, syscall.SIGKILL) // services that a client holds
		if !within(20*time.Second, gone) {
			return errors.New("integration: Cyrus does not end")
		}
	}
	return os.Remove(c.path("master.pid"))
}

// Run runs one of Cyrus's tools, by its name, on this spool.
func (c *Cyrus) Run(ctx context.Context, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	args = append([]string{"-C", c.Conf}, args...)
	cmd := exec.CommandContext(ctx, filepath.Join(cyrusPrograms, name), args...) //nolint:gosec // G204: the harness runs what its callers name
	cmd.Dir = c.Dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: CyrusCredential()}
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out), err
}

// CyrusCredential is whom a process of root's must become to work on a spool
// that Cyrus serves; nil when it may stay who it is.
func CyrusCredential() *syscall.Credential {
	if os.Getuid() != 0 {
		return nil
	}
	u, err := user.Lookup("cyrus")
	if err != nil {
		return nil // Cyrus is not installed; its master's start says so
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err1 != nil || err2 != nil {
		return nil
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// Own gives a tree to Cyrus's user and lets that user reach it: directories
// above it are opened as far as they are temporary ones.
func Own(dir string) error {
	c := CyrusCredential()
	if c == nil {
		return nil
	}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(c.Uid), int(c.Gid))
	})
	if err != nil {
		return err
	}
	for above := filepath.Dir(dir); above != "/"; above = filepath.Dir(above) {
		info, err := os.Stat(above)
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o001 != 0 {
			continue
		}
		if rest, err := filepath.Rel(os.TempDir(), above); err != nil || rest == "." || strings.HasPrefix(rest, "..") {
			return fmt.Errorf("integration: Cyrus's user cannot pass through %s; name a directory under %s", above, os.TempDir())
		}
		if err := os.Chmod(above, info.Mode().Perm()|0o011); err != nil { //nolint:gosec // G302: Cyrus's user passes through
			return err
		}
	}
	return nil
}
