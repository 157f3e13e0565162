package metrics_test

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

var metricName = regexp.MustCompile(`kpopd_[a-z_]+`)

// known are the names of all that can be asked for, histograms' parts too.
func known(t *testing.T) map[string]bool {
	t.Helper()
	families, err := busy().Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, f := range families {
		names[f.GetName()] = true
		for _, part := range []string{"_bucket", "_sum", "_count"} {
			names[f.GetName()+part] = f.GetType().String() == "HISTOGRAM"
		}
	}
	return names
}

func allKnown(t *testing.T, where, text string) {
	t.Helper()
	names := known(t)
	for _, name := range metricName.FindAllString(text, -1) {
		if !names[name] {
			t.Errorf("%s asks for %s, which there is not", where, name)
		}
	}
}

// TestDashboard: every metric in it exists, and every one there is is shown.
func TestDashboard(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../deploy/grafana/kpopd.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(b, &board); err != nil {
		t.Fatal(err)
	}
	for _, p := range board.Panels {
		if p.Title == "" || len(p.Targets) == 0 {
			t.Errorf("panel %+v shows nothing", p)
		}
	}
	allKnown(t, "the dashboard", string(b))
	for name := range known(t) {
		base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_sum"), "_count")
		if strings.HasPrefix(name, "kpopd_") && !strings.Contains(string(b), base) && base != "kpopd_last_reload_successful" {
			t.Errorf("%s is not shown", name)
		}
	}
}

// TestAlerts: every rule asks for what there is, and says what to do.
func TestAlerts(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../deploy/grafana/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr string
				Annotations map[string]string
			}
		}
	}
	if err := yaml.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	rules := 0
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			rules++
			allKnown(t, r.Alert, r.Expr)
			if r.Annotations["summary"] == "" || len(r.Annotations["runbook"]) < 20 {
				t.Errorf("%s does not say what to do", r.Alert)
			}
		}
	}
	if rules < 10 {
		t.Error("only", rules, "rules")
	}
}
