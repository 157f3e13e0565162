package bench

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Report is what a run has found.
type Report struct {
	When      time.Time
	Took      string
	Size      Size
	Rounds    int
	Machine   string
	Processor string // the model, which Machine names too
	Versions  []string
	Servers   []string
	Scenarios []*Result
}

// A Result is a scenario's.
type Result struct {
	Name    string
	Unit    string
	Figures []string
	Values  map[string]map[string]Value // by server and figure
	Ratios  []Ratio
}

// A Value is a figure over the rounds.
type Value struct {
	Median, Min, Max float64
	Rounds           []float64
}

// A Ratio is kpopd's median divided by another's, and what it should be at most.
type Ratio struct {
	Figure  string
	Of      string
	Own     float64
	Other   float64
	Ratio   float64 // for a goal of one figure alone, that figure itself
	AtMost  float64
	Reached bool
}

func newReport(o Options, servers []string) *Report {
	return &Report{
		When: time.Now().UTC().Truncate(time.Second), Size: o.Size, Rounds: o.Rounds, Servers: servers,
		Machine: machine(), Processor: processor(), Versions: versions(),
	}
}

// processor is the model's name.
func processor() string {
	b, _ := os.ReadFile("/proc/cpuinfo") // then it is not known
	for line := range strings.Lines(string(b)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown processor"
}

// machine describes it without naming it.
func machine() string {
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return fmt.Sprintf("%d cores, %s, Linux %s, %s", runtime.NumCPU(), processor(), strings.TrimSpace(string(kernel)), congestionControl())
}

func versions() []string {
	all := []string{runtime.Version()}
	for _, name := range []string{"cyrus-common", "krb5-kdc"} {
		if out, err := exec.Command("dpkg-query", "-W", "-f", "${Package} ${Version}", name).Output(); err == nil {
			all = append(all, string(out))
		}
	}
	return append(all, "dovecot 2.3 of the same Debian")
}

func (r *Report) result(s scenario) *Result {
	for _, have := range r.Scenarios {
		if have.Name == s.name {
			return have
		}
	}
	fresh := &Result{Name: s.name, Unit: s.unit, Values: map[string]map[string]Value{}}
	for _, f := range s.figures {
		fresh.Figures = append(fresh.Figures, string(f))
	}
	r.Scenarios = append(r.Scenarios, fresh)
	return fresh
}

// add takes a trial's values in.
func (r *Report) add(s scenario, server string, values map[figure]float64) {
	res := r.result(s)
	if res.Values[server] == nil {
		res.Values[server] = map[string]Value{}
	}
	for f, v := range values {
		value := res.Values[server][string(f)]
		value.Rounds = append(value.Rounds, v)
		res.Values[server][string(f)] = value
	}
}

// finish makes medians and ratios.
func (r *Report) finish(chosen []scenario, took time.Duration) {
	r.Took = took.Round(time.Second).String()
	for _, res := range r.Scenarios {
		for _, figures := range res.Values {
			for f, v := range figures {
				sorted := slices.Sorted(slices.Values(v.Rounds))
				v.Median, v.Min, v.Max = median(sorted), sorted[0], sorted[len(sorted)-1]
				figures[f] = v
			}
		}
	}
	for _, s := range chosen {
		res := r.result(s)
		for _, g := range s.goals {
			if ratio, ok := r.ratio(res, g); ok {
				res.Ratios = append(res.Ratios, ratio)
			}
		}
	}
}

func median(sorted []float64) float64 {
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// ratio holds kpopd against a goal; it is false when the other was not
// measured.
func (r *Report) ratio(res *Result, g goal) (Ratio, bool) {
	own, ok := res.Values["kpopd"][string(g.figure)]
	if !ok {
		return Ratio{}, false
	}
	out := Ratio{Figure: string(g.figure), Of: g.of, Own: own.Median, Ratio: own.Median, AtMost: g.most}
	if g.of != "" {
		other, of, ok := r.other(res, g)
		if !ok {
			return out, false
		}
		out.Of, out.Other = of, other
		out.Ratio = own.Median / other
	}
	if g.more > 0 {
		out.AtMost = (out.Other + float64(g.more.Microseconds())) / out.Other
	}
	out.Reached = out.Ratio <= out.AtMost
	return out, true
}

// before is the name of a kpopd of another build.
const before = "before"

// other finds the figure that kpopd's is divided by, and whose it is.
func (r *Report) other(res *Result, g goal) (value float64, of string, ok bool) {
	if g.of == best {
		for _, peer := range r.Servers {
			v, has := res.Values[peer][string(g.figure)]
			if has && peer != "kpopd" && peer != before && (!ok || v.Median < value) {
				value, of, ok = v.Median, peer, true
			}
		}
		return value, of, ok
	}
	if v, has := res.Values[g.of][string(g.figure)]; has {
		return v.Median, g.of, true
	}
	for _, another := range r.Scenarios {
		if v, has := another.Values["kpopd"][string(g.figure)]; has && another.Name == g.of {
			return v.Median, "kpopd: " + g.of, true
		}
	}
	return 0, "", false
}

// units are printed behind figures.
var units = map[string]string{"CPU": "µs", "rate": "/s", "p50": "ms", "p99": "ms", "memory": "KiB"}

// format is a trial in one line.
func format(values map[figure]float64) string {
	var b strings.Builder
	for _, f := range []figure{cpuTime, rate, p50, p99, memory} {
		if v, ok := values[f]; ok {
			fmt.Fprintf(&b, "%s %s %s  ", f, short(v), units[string(f)])
		}
	}
	return b.String()
}

// short has three digits that matter.
func short(v float64) string {
	switch {
	case v >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

// Markdown is the report as two tables.
func (r *Report) Markdown() string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "Run of %s (%s, %d rounds, %s) on %s; %s.\n\n", r.When.Format(time.RFC3339), r.Size, r.Rounds, r.Took, r.Machine, strings.Join(r.Versions, ", "))
	r.goalTable(&b)
	b.WriteString("\nAll figures, median (least to greatest). CPU is the server's for one unit, in microseconds; p50 and p99 are in milliseconds.\n\n")
	r.figureTable(&b)
	return b.String()
}

func (r *Report) goalTable(b *bytes.Buffer) {
	b.WriteString("| scenario | figure | kpopd | against | ratio | goal | |\n|---|---|---:|---:|---:|---:|---|\n")
	for _, res := range r.Scenarios {
		for _, q := range res.Ratios {
			word := "**missed**"
			if q.Reached {
				word = "reached"
			}
			unit := units[q.Figure]
			if q.Figure == "CPU" {
				unit += "/" + res.Unit
			}
			against, ratio := fmt.Sprintf("%s %s", short(q.Other), q.Of), short(q.Ratio)
			if q.Of == "" {
				against, ratio = "", ""
			}
			fmt.Fprintf(b, "| %s | %s | %s %s | %s | %s | %s | %s |\n", res.Name, q.Figure, short(q.Own), unit, against, ratio, short(q.AtMost), word)
		}
	}
}

func (r *Report) figureTable(b *bytes.Buffer) {
	b.WriteString("| scenario | figure |")
	for _, server := range r.Servers {
		fmt.Fprintf(b, " %s |", server)
	}
	b.WriteString("\n|---|---|" + strings.Repeat("---:|", len(r.Servers)) + "\n")
	for _, res := range r.Scenarios {
		for _, f := range res.Figures {
			name := f
			if f == "rate" {
				name = res.Unit + "/s"
			}
			fmt.Fprintf(b, "| %s | %s |", res.Name, name)
			for _, server := range r.Servers {
				if v, ok := res.Values[server][f]; ok {
					fmt.Fprintf(b, " %s (%s..%s) |", short(v.Median), short(v.Min), short(v.Max))
				} else {
					b.WriteString(" |")
				}
			}
			b.WriteString("\n")
		}
	}
}
