//go:build integration

package bench_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/kpopd/kpopd/integration/bench"
)

// TestHarness plays one round of two scenarios against kpopd alone: servers
// start, tickets are good, every octet that is retrieved is the right one, and
// the report has its figures.
func TestHarness(t *testing.T) {
	kpopd, err := filepath.Abs("../../bin/kpopd")
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	report, err := bench.Run(t.Context(), bench.Options{
		Dir: filepath.Join(t.TempDir(), "world"), Kpopd: kpopd, Size: bench.Tiny, Rounds: 1, Log: &log,
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, log.String())
	}
	if len(report.Scenarios) != 2 {
		t.Fatalf("%d scenarios", len(report.Scenarios))
	}
	for _, res := range report.Scenarios {
		for _, figure := range []string{"rate", "p50", "p99"} {
			if v := res.Values["kpopd"][figure]; len(v.Rounds) != 1 || v.Median <= 0 {
				t.Errorf("%s: %s is %+v", res.Name, figure, v)
			}
		}
		if !strings.Contains(report.Markdown(), "| "+res.Name+" | p99 |") {
			t.Errorf("%s is not in the tables", res.Name)
		}
	}
}

// TestUnknownScenario: a filter that matches nothing is told before anything is
// started.
func TestUnknownScenario(t *testing.T) {
	_, err := bench.Run(t.Context(), bench.Options{Dir: t.TempDir(), Size: bench.Tiny, Rounds: 1, Only: "no such"})
	if err == nil || !strings.Contains(err.Error(), "no such") {
		t.Error(err)
	}
}
