// Package fuzzing gives each fuzz target of the module its share of CPU time, for
// `make fuzz`, and counts what was tried.
package fuzzing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// A Target is a fuzz function of a package.
type Target struct {
	Package string // its path below the module's, "auth/krb5"
	Name    string // "FuzzAPReq"
	binary  string // the package's instrumented test
	dir     string // where its testdata is
}

// Result is what became of a target.
type Result struct {
	Target
	CPU    time.Duration // spent, of all processes
	Inputs int64         // tried
	Corpus int           // inputs that each reach something of their own
	Fault  string        // the end of what a failing target said; "" when it held
}

// A Campaign runs targets one after another.
type Campaign struct {
	Module  string        // the path of go.mod's module
	Dir     string        // for instrumented programs and the inputs found; kept
	Each    time.Duration // CPU time for each target
	Workers int           // processes at a time
	Only    *regexp.Regexp
}

// Targets builds the instrumented programs of all packages that have fuzz functions
// and lists these.
func (c *Campaign) Targets(ctx context.Context) ([]Target, error) {
	out, err := command(ctx, "go", "list", "-f", `{{.ImportPath}} {{.Dir}}{{range .TestGoFiles}} {{.}}{{end}}{{range .XTestGoFiles}} {{.}}{{end}}`, "./...").Output()
	if err != nil {
		return nil, err
	}
	var all []Target
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		for _, name := range functions(fields[1], fields[2:]) {
			t := Target{Package: strings.TrimPrefix(fields[0], c.Module+"/"), Name: name, dir: fields[1]}
			t.binary = filepath.Join(c.Dir, strings.ReplaceAll(t.Package, "/", "-")+".test")
			if c.Only == nil || c.Only.MatchString(t.Package+" "+t.Name) {
				all = append(all, t)
			}
		}
	}
	return all, c.build(ctx, all)
}

func (c *Campaign) build(ctx context.Context, all []Target) error {
	built := map[string]bool{}
	for _, t := range all {
		if built[t.binary] {
			continue
		}
		built[t.binary] = true
		// Any pattern makes go build with the instruments of coverage.
		if out, err := command(ctx, "go", "test", "-c", "-fuzz", ".", "-o", t.binary, "./"+t.Package).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", t.Package, err, out)
		}
	}
	return nil
}

var declaration = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(`)

func functions(dir string, files []string) (names []string) {
	for _, file := range files {
		b, err := os.ReadFile(filepath.Join(dir, file)) //nolint:gosec // G304: a source file of the module
		if err != nil {
			continue // Targets' build will say so
		}
		for _, m := range declaration.FindAllSubmatch(b, -1) {
			names = append(names, string(m[1]))
		}
	}
	return names
}

// slice is how long a target runs between two looks at its CPU time: Go's own
// bound is of wall time, which says nothing on a busy machine. Each begins with
// reading the corpus, which takes a minute there; one shorter than shortest may end
// before that.
const (
	slice    = 4 * time.Minute
	shortest = 10 * time.Second
)

// Run gives a target its time. The inputs found stay in Dir for the next campaign;
// a failing one is in the package's testdata/fuzz, where go test replays it. When ctx
// ends the result tells how far it came.
func (c *Campaign) Run(ctx context.Context, t Target) (Result, error) {
	r := Result{Target: t}
	for r.CPU < c.Each && r.Fault == "" {
		out, used, err := c.once(ctx, t, c.next(c.Each-r.CPU))
		inputs, corpus := progress(out)
		r.CPU, r.Inputs, r.Corpus = r.CPU+used, r.Inputs+inputs, max(r.Corpus, corpus)
		if ctx.Err() != nil {
			return r, ctx.Err()
		}
		var failed *exec.ExitError
		switch {
		case errors.As(err, &failed) && bytes.Contains(out, []byte("\n    context deadline exceeded\nFAIL")):
			// Go's own, when a slice ends in an unlucky moment: no input failed.
		case errors.As(err, &failed):
			r.Fault = tail(out, 4000)
		case err != nil:
			return r, err
		case r.Inputs == 0:
			return r, fmt.Errorf("%s %s tried nothing:\n%s", t.Package, t.Name, tail(out, 2000))
		}
	}
	return r, nil
}

// next is the length of a slice when so much CPU time is left.
func (c *Campaign) next(left time.Duration) time.Duration {
	return min(slice, max(left/time.Duration(c.Workers), min(shortest, c.Each)))
}

func (c *Campaign) once(ctx context.Context, t Target, long time.Duration) (out []byte, used time.Duration, err error) {
	cmd := command(ctx, t.binary, "-test.run", "^$", "-test.fuzz", "^"+t.Name+"$", "-test.fuzztime", long.String(),
		// Go would try for a minute to shorten each input that is new: of a database
		// of some KiB that takes all the time there is.
		"-test.fuzzminimizetime", "1s",
		"-test.fuzzcachedir", filepath.Join(c.Dir, "corpus", t.Package), "-test.parallel", strconv.Itoa(c.Workers))
	cmd.Dir = t.dir
	out, err = cmd.CombinedOutput()
	if cmd.ProcessState != nil {
		used = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}
	return out, used, err
}

// command is ended with an interrupt, so that a fuzzing parent ends its workers.
func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // G204: go, and what it has built
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

var line = regexp.MustCompile(`execs: (\d+) \(.*?\)(?:, new interesting: \d+ \(total: (\d+)\))?`)

// progress reads the last of the lines in which a fuzzing test says how far it is.
func progress(out []byte) (inputs int64, corpus int) {
	all := line.FindAllSubmatch(out, -1)
	if len(all) == 0 {
		return 0, 0
	}
	last := all[len(all)-1]
	inputs, _ = strconv.ParseInt(string(last[1]), 10, 64) // digits, or 0
	corpus, _ = strconv.Atoi(string(last[2]))
	return inputs, corpus
}

func tail(out []byte, n int) string {
	out = bytes.TrimSpace(out)
	return string(out[max(0, len(out)-n):])
}

// Table says what was tried, how often, and with what result.
func Table(results []Result) string {
	var b strings.Builder
	b.WriteString("| package | target | CPU time | inputs | corpus | result |\n|---|---|---:|---:|---:|---|\n")
	for _, r := range results {
		verdict := "held"
		if r.Fault != "" {
			verdict = "**failed**"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %d | %d | %s |\n", r.Package, r.Name, r.CPU.Round(time.Second), r.Inputs, r.Corpus, verdict)
	}
	return b.String()
}
