package bench

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/kpopd/kpopd/integration"
)

// Size is how much work a run does.
type Size string

// The sizes. Tiny proves the harness itself, against kpopd alone.
const (
	Full  Size = "full"
	Quick Size = "quick"
	Tiny  Size = "tiny"
)

// Options are for a run.
type Options struct {
	Dir    string // for everything that the servers have; made, and left with their logs
	Kpopd  string // the program
	Size   Size
	Rounds int
	Only   string    // a regular expression that scenarios' names must match; empty: all
	Peers  bool      // Cyrus and Dovecot too
	Before string    // another build of kpopd, to be measured as a peer is; may be empty
	Log    io.Writer // what happens
}

// A World is all servers with all mail.
type World struct {
	options Options
	realm   *integration.Realm
	kdc     *kdc
	corpus  corpus
	servers []*server
	quick   string // a directory on a tmpfs
	secure  *tls.Config

	tickets map[string][]*ticket // by the group's name
	lengths map[string]lengths   // as above
}

// build makes servers, and the mail that the scenarios want. What it has made is
// ended by close, also when it
// fails.
func build(ctx context.Context, o Options, chosen []scenario) (*World, error) {
	raiseLimits()
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	o.Dir = dir
	w := &World{options: o, corpus: newCorpus(o), tickets: map[string][]*ticket{}, lengths: map[string]lengths{}}
	w.corpus.keep(chosen)
	steps := []func(context.Context) error{w.makeRealm, w.makeServers, w.fill, w.fetchTickets, w.start, w.verify}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return nil, errors.Join(err, w.close())
		}
	}
	return w, nil
}

// raiseLimits asks for as many descriptors as ten thousand sessions need.
func raiseLimits() {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil && limit.Cur < limit.Max {
		limit.Cur = limit.Max
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit) // too few are told by dial
	}
}

func (w *World) say(format string, args ...any) {
	_, _ = fmt.Fprintf(w.options.Log, format+"\n", args...)
}

func (w *World) makeRealm(ctx context.Context) (err error) {
	// Servers with users of their own go through it.
	if err := os.MkdirAll(w.options.Dir, 0o755); err != nil { //nolint:gosec // G301: see above
		return err
	}
	if err := os.Chmod(w.options.Dir, 0o755); err != nil { //nolint:gosec // G302: see above
		return err
	}
	if w.realm, err = integration.Up(ctx, filepath.Join(w.options.Dir, "realm"), integration.Options{Kpopd: w.options.Kpopd}); err != nil {
		return err
	}
	if w.kdc, err = newKDC(w.realm); err != nil {
		return err
	}
	pem, err := os.ReadFile(w.realm.Path("ca.pem"))
	if err != nil {
		return err
	}
	// The key exchange that every server here has: Cyrus takes no other curve, and
	// OpenSSL 3.0 knows none with ML-KEM.
	w.secure = &tls.Config{
		ServerName: integration.Host, RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12,
		CurvePreferences: []tls.CurveID{tls.CurveP256},
	}
	w.secure.RootCAs.AppendCertsFromPEM(pem)
	return nil
}

func (w *World) makeServers(ctx context.Context) (err error) {
	if w.quick, err = os.MkdirTemp("/dev/shm", "kpopd-bench"); err != nil {
		// No tmpfs: everything takes a little longer.
		if w.quick, err = os.MkdirTemp(w.options.Dir, "quick"); err != nil {
			return err
		}
	}
	if err := os.Chmod(w.quick, 0o755); err != nil { //nolint:gosec // G302: Cyrus's user passes through
		return err
	}
	replay := filepath.Join(w.quick, "replay")
	if err := makeReplayDirectory(replay); err != nil {
		return err
	}
	env := []string{"KRB5_CONFIG=" + w.realm.Path("krb5.conf"), "KRB5RCACHEDIR=" + replay}
	if err := w.addKpopd(env); err != nil {
		return err
	}
	if w.options.Before != "" {
		if err := w.addBefore(env); err != nil {
			return err
		}
	}
	if !w.options.Peers {
		return nil
	}
	// The peers' users must be able to read it.
	conf, err := os.ReadFile(w.realm.Path("krb5.conf"))
	if err != nil {
		return err
	}
	open := filepath.Join(w.quick, "krb5.conf")
	if err := os.WriteFile(open, conf, 0o644); err != nil { //nolint:gosec // G306: see above
		return err
	}
	env[0] = "KRB5_CONFIG=" + open
	if err := os.MkdirAll(filepath.Join(w.quick, "cyrus"), 0o755); err != nil { //nolint:gosec // G301: Cyrus takes it
		return err
	}
	if err := w.add(newCyrus(w.dir("cyrus"), filepath.Join(w.quick, "cyrus"), w.realm, env)); err != nil {
		return err
	}
	debs := filepath.Join(filepath.Dir(w.options.Kpopd), "debs")
	unpacked, err := integration.UnpackDovecot(ctx, w.dir("unpacked"), debs)
	if err != nil {
		return err
	}
	for _, format := range []string{"maildir", "mdbox"} {
		if err := w.add(newDovecot(w.dir(format), filepath.Join(unpacked.Root, "usr"), format, w.realm, env)); err != nil {
			return err
		}
	}
	return nil
}

// addKpopd makes kpopd, and a second one for idle sessions: ten thousand
// maildrops are soon made on a tmpfs, and it does not run until it is wanted.
func (w *World) addKpopd(env []string) error {
	measure := newMeter
	if w.options.Size == Tiny {
		measure = newTree
	}
	if err := w.add(newKpopd(w.dir("kpopd"), w.realm, w.options.Kpopd, env, measure)); err != nil {
		return err
	}
	dir := filepath.Join(w.quick, "kpopd")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	idle, err := newKpopd(dir, w.realm, w.options.Kpopd, env, measure)
	w.servers[0].idle = idle
	return err
}

// addBefore makes a kpopd of another build.
func (w *World) addBefore(env []string) error {
	s, err := newKpopd(w.dir(before), w.realm, w.options.Before, env, newMeter)
	if err == nil {
		s.name = before
	}
	return w.add(s, err)
}

// dir makes a directory of the run.
func (w *World) dir(name string) string {
	path := filepath.Join(w.options.Dir, name)
	_ = os.MkdirAll(path, 0o755) //nolint:gosec // G301: servers have users of their own; who writes to it tells
	return path
}

func (w *World) add(s *server, err error) error {
	if err == nil {
		w.servers = append(w.servers, s)
	}
	return err
}

func (w *World) fill(ctx context.Context) error {
	for _, g := range w.corpus.groups() {
		if g.users == 0 {
			continue
		}
		w.lengths[g.name] = g.measure()
		took := ""
		for _, s := range w.servers {
			if !s.takes(&w.corpus, g) {
				continue
			}
			began := time.Now()
			if s.idle != nil && g.name == w.corpus.idle.name {
				s = s.idle
			}
			if err := s.fill(ctx, g); err != nil {
				return fmt.Errorf("bench: filling %s on %s: %w", g.name, s.name, err)
			}
			took += fmt.Sprintf(" %s %s", s.name, time.Since(began).Round(10*time.Millisecond))
		}
		w.say("filled %d maildrops with %d messages of %d octets each:%s", g.users, g.count, g.size, took)
	}
	return nil
}

// fetchTickets asks the KDC for each user's, but for the idle ones.
func (w *World) fetchTickets(ctx context.Context) error {
	w.say("fetching tickets")
	for _, g := range w.corpus.groups() {
		if g.users == 0 {
			continue
		}
		get := w.kdc.mint
		if g.name != w.corpus.idle.name {
			get = w.kdc.fetch
			if err := w.kdc.register(ctx, g.names()); err != nil {
				return err
			}
		}
		for _, user := range g.names() {
			t, err := get(user)
			if err != nil {
				return err
			}
			w.tickets[g.name] = append(w.tickets[g.name], t)
		}
	}
	return nil
}

func (w *World) start(context.Context) error {
	for _, s := range w.servers {
		if err := s.start(); err != nil {
			return err
		}
	}
	return nil
}

// verify compares what each server sends with what it must, and lets it make
// the caches that it keeps for each maildrop.
func (w *World) verify(context.Context) error {
	w.say("visiting every maildrop once")
	for _, s := range w.servers {
		for _, g := range w.corpus.groups() {
			if g.name == w.corpus.idle.name || !s.takes(&w.corpus, g) {
				continue
			}
			for i, t := range w.tickets[g.name] {
				if err := w.visit(s, g, t, i == 0 && g.count > 0); err != nil {
					return fmt.Errorf("bench: %s on %s: %w", t.user, s.name, err)
				}
			}
		}
	}
	return nil
}

func (w *World) visit(s *server, g group, t *ticket, compare bool) error {
	c, err := w.login(s, t, false)
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // closed by quit
	for _, command := range []string{"LIST", "UIDL"} {
		if err := c.send(command + "\r\n"); err != nil {
			return err
		}
		if n, err := c.lines(); err != nil || n != g.count {
			return fmt.Errorf("%s has %d lines, %w; want %d", command, n, err, g.count)
		}
	}
	if compare {
		first := message(1, g.size)
		if err := c.compare("RETR 1", wire(first)); err != nil {
			return err
		}
		if err := c.compare("TOP 1 0", top(first)); err != nil {
			return err
		}
	}
	return c.quit()
}

// compare holds a multi-line reply against what it must be.
func (s *session) compare(command string, want []byte) error {
	if _, err := s.do(command); err != nil {
		return err
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(s.in, got); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%s: the octets differ", command)
	}
	return nil
}

// login opens a session that has logged in by GSSAPI.
func (w *World) login(s *server, t *ticket, secure bool) (*session, error) {
	p, err := t.prove(true)
	if err != nil {
		return nil, err
	}
	return w.enter(s, p, secure, 64<<10)
}

// enter is login with a proof that was made before.
func (w *World) enter(s *server, p *proof, secure bool, buffer int) (*session, error) {
	address, config := s.pop3, (*tls.Config)(nil)
	if secure {
		address, config = s.pop3s, w.secure
	}
	c, err := dial(address, config, buffer)
	if err != nil {
		return nil, err
	}
	if err := c.gssapi(p); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// close ends everything. The directory is the caller's to remove.
func (w *World) close() error {
	var errs []error
	for _, s := range w.servers {
		errs = append(errs, s.end(), s.meter.close())
		if s.idle != nil {
			errs = append(errs, s.idle.end(), s.idle.meter.close())
		}
	}
	if w.realm != nil {
		errs = append(errs, w.realm.Down())
	}
	if w.quick != "" {
		errs = append(errs, os.RemoveAll(w.quick))
	}
	return errors.Join(errs...)
}
