package metrics

import (
	"strconv"
	"strings"

	dto "github.com/prometheus/client_model/go"
)

// Values gives kpopd's own counters and gauges, and the histograms' sums and
// counts, by name and labels as Prometheus writes them.
func (m *Metrics) Values() (map[string]float64, error) {
	families, err := m.Registry.Gather()
	out := map[string]float64{}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "kpopd_") {
			continue
		}
		for _, one := range f.GetMetric() {
			add(out, f.GetName(), one)
		}
	}
	return out, err
}

func add(out map[string]float64, name string, m *dto.Metric) {
	labels := labelText(m.GetLabel())
	switch {
	case m.GetCounter() != nil:
		out[name+labels] = m.GetCounter().GetValue()
	case m.GetGauge() != nil:
		out[name+labels] = m.GetGauge().GetValue()
	case m.GetHistogram() != nil:
		out[name+"_sum"+labels] = m.GetHistogram().GetSampleSum()
		out[name+"_count"+labels] = float64(m.GetHistogram().GetSampleCount())
	}
}

func labelText(pairs []*dto.LabelPair) string {
	if len(pairs) == 0 {
		return ""
	}
	var parts []string
	for _, p := range pairs {
		parts = append(parts, p.GetName()+"="+strconv.Quote(p.GetValue()))
	}
	return "{" + strings.Join(parts, ",") + "}"
}
