// Package soak holds a crowd against a running kpopd for a set time: sessions at
// rest, clients that read or write slowly, a storm of bad logins from one address,
// and good logins from others, whose times are what is judged. `make soak` runs
// it for ten minutes; `make test` a small one.
package soak

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kpopd/kpopd/integration"
)

// A Crowd says who comes, and for how long.
type Crowd struct {
	Idle    int // authenticated sessions at rest
	Readers int // sessions in RETR that take a little at a time
	Writers int // connections that send an octet at a time before login
	Bad     int // clients that present bad tickets, one behind the other, from one address
	Good    int // clients that log in, STAT and QUIT, from another address
	For     time.Duration

	P99    time.Duration // bound for good logins
	Memory int           // bound of the daemon's resident set at any time, in MiB
}

// A Report is what was seen.
type Report struct {
	Crowd       Crowd
	Good        []time.Duration // each good session's time, sorted
	BadRefused  int64
	ReadOctets  int64
	CutWriters  int64 // ended by the daemon before login, as they must be
	PeakMiB     int
	BaseFiles   int // open files of the daemon before the crowd
	AfterFiles  int
	AfterMiB    int
	Failures    []string
	IdleAnswers int // sessions at rest that answered NOOP at the end
}

const (
	robot      = "archive"   // may act for everybody: one ticket opens all maildrops
	stormFrom  = "127.9.9.9" // where the bad logins come from
	letterSize = 256 << 10
	pools      = 16 // files more than before that are no leak: connections to the directory
)

// Prepare makes the accounts and maildrops that the crowd needs and lets the
// robot act for them.
func Prepare(ctx context.Context, r *integration.Realm, c Crowd) error {
	if err := r.AddUser(ctx, robot); err != nil {
		return err
	}
	config := r.Path("kpopd.toml")
	b, err := os.ReadFile(config)
	if err != nil {
		return err
	}
	acting := "[identity]\nacting = [ { who = \"" + robot + "\", for = [\"*\"] } ]\n"
	// Those at rest say nothing for longer than the autologout of RFC 1939 section 3.
	text := strings.NewReplacer("[identity]\n", acting, "[limits]\n", "[limits]\nidle_timeout = \"1h\"\n").Replace(string(b))
	if !strings.Contains(text, acting) || !strings.Contains(text, "idle_timeout") {
		return errors.New("soak: the realm's configuration has no [identity] or no [limits]")
	}
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	users := make([]string, 0, c.Idle+c.Readers+c.Good)
	for i := range c.Idle + c.Readers + c.Good {
		users = append(users, name(i))
	}
	if err := r.AddAccounts(ctx, users...); err != nil {
		return err
	}
	if err := letters(ctx, r, users[c.Idle:c.Idle+c.Readers]); err != nil {
		return err
	}
	return r.Restart()
}

func name(i int) string { return "soak" + strconv.Itoa(i) }

// letters gives each user one message, large enough to be read for long.
func letters(ctx context.Context, r *integration.Realm, users []string) error {
	dir, err := os.MkdirTemp("", "kpopd-letter")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	text := "Subject: long\r\n\r\n" + strings.Repeat("a line of the letter that is read slowly\r\n", letterSize/42)
	if err := os.WriteFile(filepath.Join(dir, "1.eml"), []byte(text), 0o600); err != nil {
		return err
	}
	for _, user := range users {
		if err := r.Fill(ctx, user, dir); err != nil {
			return err
		}
	}
	return nil
}

// A run is the crowd at work.
type run struct {
	Crowd
	realm  *integration.Realm
	ticket *ticket
	out    io.Writer
	report Report

	bad, octets, cut atomic.Int64
	mu               sync.Mutex
}

// Run holds the crowd and reports. What went wrong is in Failures; an error
// means that it could not be tried.
func Run(ctx context.Context, r *integration.Realm, c Crowd, progress io.Writer) (*Report, error) {
	t, err := getTicket(r, robot)
	if err != nil {
		return nil, err
	}
	x := &run{Crowd: c, realm: r, ticket: t, out: progress, report: Report{Crowd: c}}
	before, err := x.files()
	if err != nil {
		return nil, err
	}
	x.report.BaseFiles = len(before)
	rest, err := x.settle(ctx)
	if err != nil {
		return nil, err
	}
	x.hold(ctx)
	x.wake(rest)
	return x.finish()
}

// settle opens the sessions that stay at rest, some at a time.
func (x *run) settle(ctx context.Context) ([]*client, error) {
	rest := make([]*client, x.Idle)
	slots := make(chan struct{}, 16)
	var all sync.WaitGroup
	for i := range rest {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			c, err := x.login(ctx, "127.0.1.1", name(i))
			if err != nil {
				x.failed("session %d at rest: %v", i, err)
				return
			}
			rest[i] = c
		})
	}
	all.Wait()
	x.say("%d sessions at rest, %d MiB", x.Idle, x.resident())
	return rest, ctx.Err()
}

// hold lets everybody else work until the time is over.
func (x *run) hold(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, x.For)
	defer cancel()
	var all sync.WaitGroup
	start := func(n int, do func(context.Context, int)) {
		for i := range n {
			all.Go(func() { do(ctx, i) })
		}
	}
	start(x.Readers, x.read)
	start(x.Writers, x.write)
	start(x.Bad, x.storm)
	start(x.Good, x.good)
	start(1, x.watch)
	all.Wait()
}

// wake asks every session that rested for an answer and ends it.
func (x *run) wake(rest []*client) {
	for i, c := range rest {
		if c == nil {
			continue
		}
		if err := errors.Join(c.do("NOOP"), c.do("QUIT")); err != nil {
			x.failed("session %d after its rest: %v", i, err)
		} else {
			x.report.IdleAnswers++
		}
		_ = c.Close()
	}
}

// finish waits until the daemon has given everything back, and judges.
func (x *run) finish() (*Report, error) {
	r := &x.report
	r.BadRefused, r.ReadOctets, r.CutWriters = x.bad.Load(), x.octets.Load(), x.cut.Load()
	slices.Sort(r.Good)
	after, err := x.files()
	for end := time.Now().Add(2 * time.Minute); err == nil && len(after) > r.BaseFiles+pools && time.Now().Before(end); after, err = x.files() {
		time.Sleep(100 * time.Millisecond)
	}
	if err != nil {
		return nil, err
	}
	r.AfterFiles, r.AfterMiB = len(after), x.resident()
	if r.AfterFiles > r.BaseFiles+pools {
		x.failed("the daemon has %d files open and had %d before: %q", r.AfterFiles, r.BaseFiles, after)
	}
	if p99 := r.Percentile(99); p99 > x.P99 {
		x.failed("p99 of good logins is %s, more than %s", p99, x.P99)
	}
	if r.PeakMiB > x.Memory {
		x.failed("the daemon took %d MiB, more than %d", r.PeakMiB, x.Memory)
	}
	if x.Good > 0 && len(r.Good) == 0 {
		x.failed("nobody could log in")
	}
	return r, nil
}

// Percentile of the good sessions' times.
func (r *Report) Percentile(p int) time.Duration {
	if len(r.Good) == 0 {
		return 0
	}
	return r.Good[min(len(r.Good)*p/100, len(r.Good)-1)]
}

// Table is the report as Markdown.
func (r *Report) Table() string {
	var b strings.Builder
	row := func(what, format string, args ...any) {
		fmt.Fprintf(&b, "| %s | %s |\n", what, fmt.Sprintf(format, args...))
	}
	b.WriteString("| what | seen |\n|---|---|\n")
	row("time", "%s", r.Crowd.For)
	row("sessions at rest, of which answered at the end", "%d, %d", r.Crowd.Idle, r.IdleAnswers)
	row("slow readers, octets they took", "%d, %d", r.Crowd.Readers, r.ReadOctets)
	row("slow writers before login, cut off", "%d, %d", r.Crowd.Writers, r.CutWriters)
	row("bad tickets from one address, all refused", "%d", r.BadRefused)
	row("good sessions beside them", "%d", len(r.Good))
	row("their p50, p99, longest", "%s, %s, %s (bound for p99: %s)", ms(r.Percentile(50)), ms(r.Percentile(99)), ms(r.Percentile(100)), r.Crowd.P99)
	row("daemon's resident set, at most and afterwards", "%d MiB, %d MiB (bound: %d MiB)", r.PeakMiB, r.AfterMiB, r.Crowd.Memory)
	row("daemon's open files, before and after", "%d, %d", r.BaseFiles, r.AfterFiles)
	row("failures", "%d", len(r.Failures))
	return b.String()
}

func ms(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) + " ms" }

// failed notes what must not have happened; the first hundred are kept.
func (x *run) failed(format string, args ...any) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.report.Failures) < 100 {
		x.report.Failures = append(x.report.Failures, fmt.Sprintf(format, args...))
	}
}

func (x *run) say(format string, args ...any) { _, _ = fmt.Fprintf(x.out, format+"\n", args...) }

// watch samples the daemon's memory and says how it goes.
func (x *run) watch(ctx context.Context, _ int) {
	start, said := time.Now(), time.Now()
	for {
		x.report.PeakMiB = max(x.report.PeakMiB, x.resident())
		if time.Since(said) > 10*time.Second {
			said = time.Now()
			x.say("%s of %s: %d bad tickets refused, %d MiB", time.Since(start).Round(time.Second), x.For, x.bad.Load(), x.resident())
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (x *run) proc(file string) string {
	pid, _ := x.realm.Pid()
	return filepath.Join("/proc", strconv.Itoa(pid), file)
}

// resident is the daemon's memory in MiB, 0 when it is gone.
func (x *run) resident() int {
	b, err := os.ReadFile(x.proc("statm"))
	fields := strings.Fields(string(b))
	if err != nil || len(fields) < 2 {
		x.failed("the daemon is gone: %v", err)
		return 0
	}
	pages, _ := strconv.Atoi(fields[1])
	return pages * os.Getpagesize() >> 20
}

// files are what the daemon has open. Its lock files do not count: there are 256
// for all maildrops, and each stays open once it was needed.
func (x *run) files() ([]string, error) {
	entries, err := os.ReadDir(x.proc("fd"))
	var out []string
	for _, e := range entries {
		target, _ := os.Readlink(x.proc("fd/" + e.Name())) // it may be closed by now
		if !strings.HasPrefix(target, x.realm.Path("state/locks")) {
			out = append(out, target)
		}
	}
	return out, err
}
