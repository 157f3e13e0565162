package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// A server is one of those that are compared.
type server struct {
	name              string
	pop3, pop3s, kpop string // addresses; kpop may be empty
	lmtp              string // a unix socket's path; may be empty
	meter             meter
	most              int           // idle sessions that are affordable; 0: none are asked for
	quiet             time.Duration // what it takes to give memory back
	idle              *server       // the one to hold them; nil: this one

	begin func() error // starts it
	end   func() error // ends it
	// fill gives it a group's maildrops; it is not running then.
	fill func(ctx context.Context, g group) error
}

// measuring makes a meter: newMeter, or newTree where nothing but the run's own
// directory may be touched.
type measuring func(name string, root func() int) meter

// takes says whether a group's maildrops are of use on the server.
func (s *server) takes(c *corpus, g group) bool {
	switch g.name {
	case c.mail.name:
		return s.lmtp != ""
	case c.idle.name:
		return s.idle != nil || s.most > 0 && g.users > 1000 // a short run asks kpopd alone
	}
	return g.users > 0
}

// start starts the server and waits until it answers.
func (s *server) start() error {
	if err := s.begin(); err != nil {
		return fmt.Errorf("bench: %s: %w", s.name, err)
	}
	for _, address := range []string{s.pop3, s.pop3s} {
		if err := listening(address); err != nil {
			return fmt.Errorf("bench: %s: %w", s.name, err)
		}
	}
	return nil
}

// restart makes it cold.
func (s *server) restart() error {
	if err := s.end(); err != nil {
		return err
	}
	return s.start()
}

func listening(address string) (err error) {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		var c net.Conn
		if c, err = net.DialTimeout("tcp", address, time.Second); err == nil {
			return c.Close()
		}
	}
	return fmt.Errorf("%s does not answer: %w", address, err)
}

// A daemon is a process that is our child; its descriptors are files, since a
// pipe that a daemon holds would hang whoever reads it.
type daemon struct {
	log     string
	env     []string
	dir     string
	command []string

	cmd *exec.Cmd
}

func (d *daemon) start() error {
	log, err := os.OpenFile(d.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() //nolint:errcheck // the daemon has its own descriptor
	d.cmd = exec.Command(d.command[0], d.command[1:]...)
	d.cmd.Env, d.cmd.Dir, d.cmd.Stdout, d.cmd.Stderr = append(os.Environ(), d.env...), d.dir, log, log
	// A process group of its own: what ends us shall not end it half.
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return d.cmd.Start()
}

func (d *daemon) pid() int { return d.cmd.Process.Pid }

// stop ends it with the processes of its group.
func (d *daemon) stop() error {
	if d.cmd == nil {
		return nil
	}
	pid := d.pid()
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	timer := time.AfterFunc(30*time.Second, func() { _ = d.cmd.Process.Kill() })
	defer timer.Stop()
	_ = d.cmd.Wait() // an end by a signal is what was asked for
	_ = syscall.Kill(-pid, syscall.SIGKILL)
	d.cmd = nil
	return nil
}

func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// copyTree copies files by cp, which is faster than we are.
func copyTree(ctx context.Context, from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil { //nolint:gosec // G301: others pass through
		return err
	}
	out, err := exec.CommandContext(ctx, "cp", "-a", from, to).CombinedOutput()
	if err != nil {
		return errors.Join(err, errors.New(string(out)))
	}
	return nil
}
