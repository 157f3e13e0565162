package control

import (
	"encoding/json"
	"errors"
	"time"
)

// What a Request may ask for.
const (
	Who    = "who"
	Kick   = "kick"
	Stats  = "stats"
	Reload = "reload"
	Trace  = "trace"
	Ready  = "ready"
)

// ErrRefused is wrapped by what the daemon answers instead of a result.
var ErrRefused = errors.New("kpopd refuses")

// A Request is what the operator asks for. Session, User, Mailbox and Address
// choose sessions, for who and kick: those that fit all that are given; kick
// wants one at least.
type Request struct {
	Command string `json:"command"`

	Session string `json:"session,omitempty"`
	User    string `json:"user,omitempty"`
	Mailbox string `json:"mailbox,omitempty"`
	Address string `json:"address,omitempty"` // an address or a prefix

	Target string        `json:"target,omitempty"` // of trace: a user, an address, a prefix; empty: list
	For    time.Duration `json:"for,omitempty"`    // of trace, in nanoseconds; 0 ends it
}

// A reply is one of its fields.
type reply struct {
	Error  string          `json:"error,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
}

// A Session is one connection, as who tells it.
type Session struct {
	ID        string    `json:"session"`
	Listener  string    `json:"listener"`
	Remote    string    `json:"remote"`
	Since     time.Time `json:"since"`
	Idle      float64   `json:"idle_s"` // seconds since its last command; 0 while one runs
	TLS       string    `json:"tls,omitempty"`
	Mechanism string    `json:"mechanism,omitempty"`
	Authcid   string    `json:"authcid,omitempty"`
	Authzid   string    `json:"authzid,omitempty"`
	User      string    `json:"user,omitempty"`
	Mailbox   string    `json:"mailbox,omitempty"`
	Holds     string    `json:"holds,omitempty"` // the maildrop it has locked, by the store's name
	Acting    bool      `json:"acting,omitempty"`

	Retrieved int64 `json:"retrieved"`
	Octets    int64 `json:"octets"` // sent

	Detail map[string]string `json:"detail,omitempty"` // kvno, enctype, skew_ms
}

// A Kicked is what kick tells: the sessions that were closed.
type Kicked struct {
	Sessions []string `json:"sessions"`
}

// Numbers are what stats tells: the counters and gauges of the metrics by name
// and labels, as Prometheus writes them, without the histograms' buckets.
type Numbers struct {
	Version string             `json:"version"`
	Started time.Time          `json:"started"`
	Values  map[string]float64 `json:"values"`
}
