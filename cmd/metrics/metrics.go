package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// A Metrics is a registry of its own with all that kpopd counts.
type Metrics struct {
	Registry *prometheus.Registry

	sessions, loggedIn *prometheus.GaugeVec
	connections, away  *prometheus.CounterVec
	logins, keys       *prometheus.CounterVec
	skew, duration     prometheus.Observer
	commands           *prometheus.HistogramVec
	ofVerb             *memo[prometheus.Observer]
	ofPort             *memo[portCounters]
	retrieved, topped  prometheus.Counter
	deleted            prometheus.Counter
	sent               prometheus.Counter
	retrievedOctets    prometheus.Counter
	deletedOctets      prometheus.Counter
	panics             prometheus.Counter
	kdc, ldap          *prometheus.HistogramVec
	lockWait           prometheus.Observer
	deliveries         *prometheus.HistogramVec
	reloads            *prometheus.CounterVec
	reloadGood         prometheus.Gauge
}

// Buckets, in seconds: a login or a command takes from a tenth of a millisecond
// to the seconds of a slow disk or KDC.
var (
	quick  = []float64{.0001, .0003, .001, .003, .01, .03, .1, .3, 1, 3, 10}
	remote = []float64{.001, .003, .01, .03, .1, .3, 1, 3, 10}
	long   = []float64{.1, 1, 10, 60, 600, 3600, 14400}
	skews  = []float64{-300, -60, -10, -1, 0, 1, 10, 60, 300}
)

// New makes the counters; version stands in kpopd_build_info.
func New(version string) *Metrics {
	m := &Metrics{Registry: prometheus.NewRegistry()}
	m.sessionCounters()
	m.loginCounters()
	m.dataCounters()
	m.serviceCounters()
	info := m.gauge("build_info", "The running version.", "version")
	info.WithLabelValues(version).Set(1)
	m.Registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *Metrics) sessionCounters() {
	m.connections = m.counter("connections_total", "Connections accepted.", "listener")
	m.away = m.counter("turned_away_total", "Connections that got no session.", "listener", "reason")
	m.sessions = m.gauge("sessions", "Open connections.", "listener")
	m.loggedIn = m.gauge("sessions_logged_in", "Open connections that have a maildrop.", "listener")
	m.duration = m.histogram("session_seconds", "From connecting to the end.", long).WithLabelValues()
	m.ofPort = newMemo(func(port string) portCounters {
		return portCounters{m.connections.WithLabelValues(port), m.sessions.WithLabelValues(port), m.loggedIn.WithLabelValues(port)}
	})
	m.panics = m.counter("panics_total", "Faults of kpopd that were caught: each ended one session, delivery, login, or question to a directory or an operator's to us.").WithLabelValues()
}

func (m *Metrics) loginCounters() {
	m.logins = m.counter("logins_total", "Logins by result: ok, or the response code, and the refusal's code where a ticket was refused (kpop explain).",
		"listener", "mechanism", "result", "refusal")
	m.keys = m.counter("logins_by_key_total", "Logins by the key that opened the ticket: an old one that stands still can go.", "kvno", "enctype")
	m.skew = m.histogram("client_skew_seconds", "Client's clock minus ours, from tickets.", skews).WithLabelValues()
}

func (m *Metrics) dataCounters() {
	m.commands = m.histogram("command_seconds", "Time to run one command.", quick, "verb")
	m.ofVerb = newMemo(func(verb string) prometheus.Observer { return m.commands.WithLabelValues(verb) })
	m.retrieved = m.counter("messages_retrieved_total", "Messages sent by RETR.").WithLabelValues()
	m.topped = m.counter("messages_topped_total", "Messages sent by TOP.").WithLabelValues()
	m.deleted = m.counter("messages_deleted_total", "Messages removed by UPDATE.").WithLabelValues()
	octets := m.counter("octets_total", "Octets: sent in all, of messages retrieved, of messages deleted.", "kind")
	m.sent, m.retrievedOctets, m.deletedOctets = octets.WithLabelValues("sent"), octets.WithLabelValues("retrieved"), octets.WithLabelValues("deleted")
	m.deliveries = m.histogram("delivery_seconds", "Deliveries by LMTP, each mailbox for itself.", quick, "result")
	m.lockWait = m.histogram("lock_wait_seconds", "Waits for a lock of the spool that somebody else held.", quick).WithLabelValues()
}

func (m *Metrics) serviceCounters() {
	m.kdc = m.histogram("kdc_seconds", "Password checks by the KDC.", remote, "result")
	m.ldap = m.histogram("ldap_seconds", "Connects and searches.", remote, "server", "operation", "result")
	m.reloads = m.counter("reloads_total", "Reloads of the configuration.", "result")
	m.reloadGood = m.gauge("last_reload_successful", "0 while a bad configuration was refused and the old one goes on.").WithLabelValues()
	m.reloadGood.Set(1)
}

func (m *Metrics) counter(name, help string, labels ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "kpopd", Name: name, Help: help}, labels)
	m.Registry.MustRegister(v)
	return v
}

func (m *Metrics) gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "kpopd", Name: name, Help: help}, labels)
	m.Registry.MustRegister(v)
	return v
}

func (m *Metrics) histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "kpopd", Name: name, Help: help, Buckets: buckets}, labels)
	m.Registry.MustRegister(v)
	return v
}

// Reloaded counts a reload.
func (m *Metrics) Reloaded(err error) {
	m.reloads.WithLabelValues(result(err)).Inc()
	good := 1.0
	if err != nil {
		good = 0
	}
	m.reloadGood.Set(good)
}

// KDC counts a password check.
func (m *Metrics) KDC(took time.Duration, err error) {
	m.kdc.WithLabelValues(result(err)).Observe(took.Seconds())
}

// LDAP counts a connect or a search.
func (m *Metrics) LDAP(server, operation string, took time.Duration, err error) {
	m.ldap.WithLabelValues(server, operation, result(err)).Observe(took.Seconds())
}

// Panicked counts a fault that was caught.
func (m *Metrics) Panicked(any, []byte) { m.panics.Inc() }

// LockWait counts a wait for a lock of the spool.
func (m *Metrics) LockWait(took time.Duration) { m.lockWait.Observe(took.Seconds()) }

func result(err error) string {
	if err != nil {
		return "error"
	}
	return "ok"
}
