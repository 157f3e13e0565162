package bench

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"time"
)

// Run measures and reports. It ends what it has started. Any error of any
// scenario ends it: a server that refuses work is not fast.
func Run(ctx context.Context, o Options) (r *Report, err error) {
	wanted, err := regexp.Compile(o.Only)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	var chosen []scenario
	for _, s := range scenarios(o.Size) {
		if wanted.MatchString(s.name) {
			chosen = append(chosen, s)
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("bench: no scenario's name matches %q", o.Only)
	}
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // the client shall not stand in the way
	began := time.Now()
	w, err := build(ctx, o, chosen)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	w.say("ready after %s", time.Since(began).Round(time.Second))
	r = newReport(o, w.names())
	for round := range o.Rounds {
		if err := w.playAll(ctx, r, chosen, round); err != nil {
			w.say("%v", err) // at once: ending takes a while
			return nil, err
		}
	}
	r.finish(chosen, time.Since(began))
	return r, nil
}

func (w *World) names() []string {
	var names []string
	for _, s := range w.servers {
		names = append(names, s.name)
	}
	return names
}

// playAll is one round.
func (w *World) playAll(ctx context.Context, r *Report, chosen []scenario, round int) error {
	for _, s := range chosen {
		if s.rounds > 0 && round >= s.rounds {
			continue
		}
		for _, server := range w.servers {
			if err := ctx.Err(); err != nil {
				return err
			}
			if s.only != "" && s.only != server.name {
				continue
			}
			if err := w.play(r, s, server, round); err != nil {
				return fmt.Errorf("bench: %s on %s: %w", s.name, server.name, err)
			}
		}
	}
	return nil
}

func (w *World) play(r *Report, s scenario, server *server, round int) error {
	runtime.GC() // not while the clock runs
	t := &trial{w: w, server: server, round: round}
	err := s.run(t)
	if errors.Is(err, errLeftOut) {
		return nil
	}
	if err != nil {
		return err
	}
	values := t.values(s.figures)
	w.say("round %d  %-36s %-8s %s", round+1, s.name, server.name, format(values))
	r.add(s, server.name, values)
	return nil
}

// values are what a trial has measured.
func (t *trial) values(wanted []figure) map[figure]float64 {
	slices.Sort(t.latencies)
	seconds := t.ended.Sub(t.began).Seconds()
	got := map[figure]float64{
		cpuTime: float64((t.after - t.before).Microseconds()) / t.units,
		rate:    t.units / seconds,
		p50:     percentile(t.latencies, 50),
		p99:     percentile(t.latencies, 99),
		memory:  t.perSession / 1024,
	}
	out := map[figure]float64{}
	for _, f := range wanted {
		out[f] = got[f]
	}
	return out
}

// percentile is in milliseconds.
func percentile(sorted []time.Duration, percent int) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return float64(sorted[(len(sorted)-1)*percent/100].Microseconds()) / 1000
}
