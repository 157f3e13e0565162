package metrics

import (
	"cmp"
	"errors"
	"net"
	"time"

	"github.com/kpopd/kpopd/auth/krb5"
	"github.com/kpopd/kpopd/kpop"
)

// Observer is what a kpop.Server tells its events to.
func (m *Metrics) Observer() kpop.Observer {
	return kpop.Observer{
		Connected:  m.connected,
		TurnedAway: m.turnedAway,
		LoggedIn:   m.login,
		Refused:    m.refused,
		Command:    func(verb string, took time.Duration) { m.ofVerb.get(verb).Observe(took.Seconds()) },
		Ended:      m.ended,
		Panic:      m.Panicked,
	}
}

func (m *Metrics) connected(port string, _ net.Addr) {
	p := m.ofPort.get(port)
	p.connections.Inc()
	p.sessions.Inc()
}

func (m *Metrics) turnedAway(port string, _ net.Addr, why string) {
	m.away.WithLabelValues(port, why).Inc()
	m.ofPort.get(port).sessions.Dec()
}

func (m *Metrics) login(s kpop.SessionInfo) {
	m.logins.WithLabelValues(s.Port, s.Mechanism, "ok", "").Inc()
	m.ofPort.get(s.Port).loggedIn.Inc()
	kvno, enctype := "", ""
	for _, a := range s.Detail {
		switch a.Key {
		case "skew_ms":
			m.skew.Observe(float64(a.Value.Int64()) / 1000)
		case "kvno":
			kvno = a.Value.String()
		case "enctype":
			enctype = a.Value.String()
		}
	}
	if kvno != "" {
		m.keys.WithLabelValues(kvno, enctype).Inc()
	}
}

func (m *Metrics) refused(s kpop.SessionInfo, code string, cause error) {
	refusal := ""
	if r := (*krb5.Refusal)(nil); errors.As(cause, &r) {
		refusal = r.ID
	}
	m.logins.WithLabelValues(s.Port, s.Mechanism, cmp.Or(code, "none"), refusal).Inc()
}

func (m *Metrics) ended(s kpop.SessionInfo, _ string) {
	p := m.ofPort.get(s.Port)
	p.sessions.Dec()
	m.duration.Observe(time.Since(s.Since).Seconds())
	m.sent.Add(float64(s.Octets))
	if !s.LoggedIn {
		return
	}
	p.loggedIn.Dec()
	m.retrieved.Add(float64(s.Retrieved))
	m.topped.Add(float64(s.Topped))
	m.deleted.Add(float64(s.Deleted))
	m.retrievedOctets.Add(float64(s.RetrievedOctets))
	m.deletedOctets.Add(float64(s.DeletedOctets))
}
