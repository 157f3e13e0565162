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
		Command:    func(verb string, took time.Duration) { m.commands.WithLabelValues(verb).Observe(took.Seconds()) },
		Ended:      m.ended,
		Panic:      m.Panicked,
	}
}

func (m *Metrics) connected(port string, _ net.Addr) {
	m.connections.WithLabelValues(port).Inc()
	m.sessions.WithLabelValues(port).Inc()
}

func (m *Metrics) turnedAway(port string, _ net.Addr, why string) {
	m.away.WithLabelValues(port, why).Inc()
	m.sessions.WithLabelValues(port).Dec()
}

func (m *Metrics) login(s kpop.SessionInfo) {
	m.logins.WithLabelValues(s.Port, s.Mechanism, "ok", "").Inc()
	m.loggedIn.WithLabelValues(s.Port).Inc()
	detail := map[string]string{}
	for _, a := range s.Detail {
		if detail[a.Key] = a.Value.String(); a.Key == "skew_ms" {
			m.skew.Observe(float64(a.Value.Int64()) / 1000)
		}
	}
	if detail["kvno"] != "" {
		m.keys.WithLabelValues(detail["kvno"], detail["enctype"]).Inc()
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
	m.sessions.WithLabelValues(s.Port).Dec()
	m.duration.Observe(time.Since(s.Since).Seconds())
	m.octets.WithLabelValues("sent").Add(float64(s.Octets))
	if !s.LoggedIn {
		return
	}
	m.loggedIn.WithLabelValues(s.Port).Dec()
	m.retrieved.Add(float64(s.Retrieved))
	m.topped.Add(float64(s.Topped))
	m.deleted.Add(float64(s.Deleted))
	m.octets.WithLabelValues("retrieved").Add(float64(s.RetrievedOctets))
	m.octets.WithLabelValues("deleted").Add(float64(s.DeletedOctets))
}
