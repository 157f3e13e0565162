package fuzzing_test

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/kpopd/kpopd/integration/fuzzing"
)

// Every package's targets are found, and one is run for a moment.
func TestCampaign(t *testing.T) {
	if testing.Short() {
		t.Skip("builds an instrumented program")
	}
	t.Chdir(filepath.Join("..", ".."))
	c := &fuzzing.Campaign{Module: "github.com/kpopd/kpopd", Dir: t.TempDir(), Each: time.Second, Workers: 1, Only: regexp.MustCompile("utf7 FuzzUTF7$")}
	targets, err := c.Targets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(targets) != 1 || targets[0].Package != "mailstore/utf7" {
		t.Fatalf("targets: %+v", targets)
	}
	r, err := c.Run(t.Context(), targets[0])
	if err != nil {
		t.Fatal(err)
	}
	if r.Inputs == 0 || r.CPU < c.Each || r.Fault != "" {
		t.Errorf("%+v", r)
	}
	if got := fuzzing.Table([]fuzzing.Result{r}); !strings.Contains(got, "| mailstore/utf7 | FuzzUTF7 |") || !strings.Contains(got, "| held |") {
		t.Error(got)
	}
}
