package kpop

import (
	"log/slog"
	"net"
	"time"
)

// An Observer is told what happens, for metrics and audit. A nil function is
// not called. The functions are called from many goroutines and must not block.
type Observer struct {
	Connected func(port string, remote net.Addr)
	// TurnedAway: a connection that got no greeting; why is a constant text.
	TurnedAway func(port string, remote net.Addr, why string)
	LoggedIn   func(SessionInfo)
	// Refused: a login that was refused; code is the response code sent, cause
	// the inner error, which no client sees.
	Refused func(s SessionInfo, code string, cause error)
	Command func(verb string, took time.Duration)
	Ended   func(s SessionInfo, how string)
	Panic   func(value any, stack []byte)
}

// A SessionInfo is a session as an operator sees it.
type SessionInfo struct {
	ID       string
	Port     string
	Remote   net.Addr
	Since    time.Time
	LoggedIn bool

	TLS       string // version and cipher suite; empty: none
	Mechanism string
	Authcid   string
	Authzid   string
	User      string // the account's
	Mailbox   string
	Acting    bool

	Waiting   time.Time // when it last began to wait for a command
	Retrieved int64     // messages sent by RETR
	Topped    int64     // messages sent by TOP
	Deleted   int64     // messages removed by UPDATE
	Octets    int64     // octets sent

	RetrievedOctets int64 // of the messages sent by RETR
	DeletedOctets   int64 // of the messages removed by UPDATE

	Detail []slog.Attr // of the mechanism: kvno, enctype, skew; never a secret
}
