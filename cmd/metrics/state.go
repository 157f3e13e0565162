package metrics

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kpopd/kpopd/auth/krb5"
	"github.com/kpopd/kpopd/krb5conf"
)

// A State is what is looked up at each scrape. A nil function gives nothing.
type State struct {
	Keys        func() []krb5conf.Key // of the keytab
	Replay      func() int            // entries of the replay cache
	Certificate func() time.Time      // when it expires; zero: there is none
}

// Watch has s told with every scrape.
func (m *Metrics) Watch(s State) { m.Registry.MustRegister(&stateCollector{s}) }

var (
	keyLabels   = []string{"principal", "kvno", "enctype"}
	keyNumber   = prometheus.NewDesc("kpopd_keytab_kvno", "Key version number of each key held, retired ones too.", keyLabels, nil)
	keyAge      = prometheus.NewDesc("kpopd_keytab_key_age_seconds", "Since the key was written into the keytab.", keyLabels, nil)
	replayDesc  = prometheus.NewDesc("kpopd_replay_entries", "Authenticators remembered.", nil, nil)
	certificate = prometheus.NewDesc("kpopd_certificate_expiry_timestamp_seconds", "When the TLS certificate expires.", nil, nil)
)

type stateCollector struct{ State }

func (c *stateCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{keyNumber, keyAge, replayDesc, certificate} {
		out <- d
	}
}

func (c *stateCollector) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	if c.Keys != nil {
		c.collectKeys(gauge)
	}
	if c.Replay != nil {
		gauge(replayDesc, float64(c.Replay()))
	}
	if c.Certificate != nil {
		if at := c.Certificate(); !at.IsZero() {
			gauge(certificate, float64(at.Unix()))
		}
	}
}

// collectKeys tells each key once: a keytab may hold one twice.
func (c *stateCollector) collectKeys(gauge func(*prometheus.Desc, float64, ...string)) {
	type identity struct {
		principal     string
		kvno, enctype int64
	}
	told := map[identity]bool{}
	for _, k := range c.Keys() {
		id := identity{k.Principal, int64(k.KVNO), int64(k.Enctype)}
		if told[id] {
			continue
		}
		told[id] = true
		labels := []string{k.Principal, strconv.FormatInt(id.kvno, 10), krb5.EnctypeName(k.Enctype)}
		gauge(keyNumber, float64(k.KVNO), labels...)
		gauge(keyAge, time.Since(k.Written).Seconds(), labels...)
	}
}
