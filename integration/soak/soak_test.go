//go:build integration

package soak_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/kpopd/kpopd/integration"
	"github.com/kpopd/kpopd/integration/soak"
)

// The small crowd of make test: everybody is served, nothing is left open. The
// bounds of time and memory are judged by make soak, on a quiet machine.
func TestSoak(t *testing.T) {
	kpopd, err := filepath.Abs("../../bin/kpopd")
	if err != nil {
		t.Fatal(err)
	}
	r, err := integration.Up(t.Context(), t.TempDir(), integration.Options{Kpopd: kpopd})
	if err != nil {
		t.Fatal("the realm does not come up; run make deps build: ", err)
	}
	t.Cleanup(func() {
		if err := r.Down(); err != nil {
			t.Error(err)
		}
	})
	crowd := soak.Crowd{Idle: 100, Readers: 20, Writers: 20, Bad: 4, Good: 4, For: 5 * time.Second, P99: time.Minute, Memory: 1024}
	if err := soak.Prepare(t.Context(), r, crowd); err != nil {
		t.Fatal(err)
	}
	report, err := soak.Run(t.Context(), r, crowd, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range report.Failures {
		t.Error(f)
	}
	if report.IdleAnswers != crowd.Idle || len(report.Good) == 0 || report.BadRefused == 0 || report.ReadOctets == 0 {
		t.Errorf("somebody was not served:\n%s", report.Table())
	}
}
