package bench

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// sample is a report of two servers and two scenarios.
func sample() *Report {
	r := &Report{Servers: []string{"kpopd", "cyrus", "mdbox"}, Size: Quick, Rounds: 3}
	login := scenario{name: "login", unit: "session", figures: []figure{cpuTime, p99}, goals: []goal{
		{figure: cpuTime, of: best, most: 0.3}, {figure: p99, of: "cyrus", most: 0.1},
	}}
	kpop := scenario{name: "kpop", unit: "session", figures: []figure{cpuTime}, goals: []goal{
		{figure: cpuTime, of: "login", most: 0.9}, {figure: cpuTime, of: "login", more: 5 * time.Millisecond},
	}}
	for _, v := range []float64{300, 100, 200} {
		r.add(login, "kpopd", map[figure]float64{cpuTime: v, p99: 5})
		r.add(login, "cyrus", map[figure]float64{cpuTime: 5 * v, p99: 40})
		r.add(login, "mdbox", map[figure]float64{cpuTime: 4 * v, p99: 10})
		r.add(kpop, "kpopd", map[figure]float64{cpuTime: v / 2})
	}
	r.finish([]scenario{login, kpop}, time.Minute)
	return r
}

func TestRatios(t *testing.T) {
	t.Parallel()
	r := sample()
	want := []Ratio{
		{Figure: "CPU", Of: "mdbox", Own: 200, Other: 800, Ratio: 0.25, AtMost: 0.3, Reached: true},
		{Figure: "p99", Of: "cyrus", Own: 5, Other: 40, Ratio: 0.125, AtMost: 0.1},
	}
	if diff := cmp.Diff(want, r.Scenarios[0].Ratios); diff != "" {
		t.Error(diff)
	}
	want = []Ratio{
		{Figure: "CPU", Of: "kpopd: login", Own: 100, Other: 200, Ratio: 0.5, AtMost: 0.9, Reached: true},
		{Figure: "CPU", Of: "kpopd: login", Own: 100, Other: 200, Ratio: 0.5, AtMost: 26, Reached: true},
	}
	if diff := cmp.Diff(want, r.Scenarios[1].Ratios); diff != "" {
		t.Error(diff)
	}
	if v := r.Scenarios[0].Values["cyrus"]["CPU"]; v.Median != 1000 || v.Min != 500 || v.Max != 1500 {
		t.Errorf("%+v", v)
	}
}

// TestRegressions: a file is made, holds, and tells what has become worse.
func TestRegressions(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ratios.json")
	r := sample()
	for range 2 {
		if worse, err := r.Regressions(path, false); err != nil || worse != nil {
			t.Fatal(worse, err)
		}
	}
	r.Scenarios[0].Ratios[0].Ratio *= 1.2 // within a quarter
	r.Scenarios[0].Ratios[1].Ratio *= 10  // a percentile, which is not held
	if worse, err := r.Regressions(path, false); err != nil || worse != nil {
		t.Fatal(worse, err)
	}
	r.Scenarios[0].Ratios[0].Ratio *= 1.2
	worse, err := r.Regressions(path, false)
	if err != nil || len(worse) != 1 || worse[0] != "login; CPU: 0.360, was 0.250" {
		t.Error(worse, err)
	}
	if worse, err := r.Regressions(path, true); err != nil || worse != nil {
		t.Error(worse, err)
	}
}

// TestProcessorsApart: each is held to its own ratios, and one that nobody has
// measured on to the greatest.
func TestProcessorsApart(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ratios.json")
	r := sample()
	grown := r.Scenarios[0].Ratios[0].Ratio * 2
	hold := func(processor string, ratio float64, renew bool) int {
		r.Processor, r.Scenarios[0].Ratios[0].Ratio = processor, ratio
		worse, err := r.Regressions(path, renew)
		if err != nil {
			t.Fatal(err)
		}
		return len(worse)
	}
	hold("one", grown/2, true)
	hold("other", grown, true)
	for processor, want := range map[string]int{"one": 1, "other": 0, "third": 0} {
		if n := hold(processor, grown, false); n != want {
			t.Errorf("%s: %d ratios are worse, want %d", processor, n, want)
		}
	}
	if hold("third", grown*1.3, false) != 1 {
		t.Error("a processor that nobody has measured on is held to nothing")
	}
}

func TestInsert(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "performance.md")
	r := sample()
	if err := os.WriteFile(path, []byte("# Before\n<!-- bench: begin -->\nold\n<!-- bench: end -->\nafter\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := r.Insert(path); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	if !strings.HasPrefix(text, "# Before\n<!-- bench: begin -->\n\nRun of ") || !strings.HasSuffix(text, "<!-- bench: end -->\nafter\n") ||
		strings.Contains(text, "old") || strings.Count(text, "| login | p99 | 5.00 ms |") != 1 {
		t.Error(text)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.Insert(path); err == nil {
		t.Error("a document without marks was taken")
	}
}

// TestMail: messages repeat, have their size, and are canonical.
func TestMail(t *testing.T) {
	t.Parallel()
	for _, size := range []int{700, 2 << 10, 4 << 10, 1 << 20} {
		m := message(7, size)
		if string(m) != string(message(7, size)) || string(m) == string(message(8, size)) {
			t.Errorf("%d octets: not the same for the same number only", size)
		}
		if len(m) != size && size >= 2<<10 {
			t.Errorf("%d octets instead of %d", len(m), size)
		}
		text := string(m)
		if strings.Count(text, "\n") != strings.Count(text, "\r\n") || !strings.HasSuffix(text, "\r\n") {
			t.Errorf("%d octets: bare line ends", size)
		}
		if got := string(wire(m)); len(got) != len(m)+2+3 || !strings.Contains(got, "\r\n..a line") || !strings.Contains(got, "\r\n...and") {
			t.Errorf("%d octets: not stuffed", size)
		}
		if got := string(top(m)); !strings.HasSuffix(got, "us-ascii\r\n\r\n.\r\n") {
			t.Errorf("TOP is %q", got)
		}
	}
}

// TestTree: the time of a child that has ended is its parent's.
func TestTree(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done'; echo done; read line`)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	m := newTree("", func() int { return cmd.Process.Pid })
	used, err := m.cpu()
	if err != nil || used == 0 {
		t.Errorf("%v, %v", used, err)
	}
	if n, err := pss(m); err != nil || n == 0 {
		t.Errorf("%d octets, %v", n, err)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // read ends with the input
	if _, err := m.cpu(); err == nil {
		t.Error("a process that is gone was measured")
	}
}
