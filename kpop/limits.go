package kpop

import "time"

// Limits bound what a client may take. In each field zero means the default
// named there; where a count or a delay may be switched off, a negative value
// does it.
type Limits struct {
	IdleTimeout  time.Duration // between two commands after login: 10 minutes (RFC 1939 section 3)
	LoginTimeout time.Duration // from accept to login, not renewed by octets: 60 s
	WriteTimeout time.Duration // for the client to take one buffer of output: 3 minutes
	RestAfter    time.Duration // silence after which the maildrop gives memory back: 5 s

	LineLength int // command line with its end: 512 octets (RFC 2449 section 4 asks for 255)
	SASLLine   int // AUTH command and response lines (RFC 5034 section 4): 128 KiB

	MessageSize int64 // a message that POP4's STOR takes: 64 MiB

	// LoginMemory bounds the octets of command and response lines that are longer
	// than a page, over all connections that have not logged in: 64 MiB; negative:
	// unbounded.
	LoginMemory int

	BadCommands      int // lines that are no command of POP3 in a row after login: 10
	BadCommandsLogin int // the same, in all, before login: 3

	AuthFailures int           // refused logins before the connection is closed: 3
	FailureDelay time.Duration // least time from a login command to its refusal: 1 s; negative: none

	MaxConnections     int // 16384; negative: unbounded, as in the next three
	MaxUnauthenticated int // connections that have not logged in: 1024
	MaxPerPrefix       int // connections from one address prefix: 1024
	MaxPerUser         int // sessions of one account: 16

	PrefixV4 int // length of an IPv4 address prefix: 32
	PrefixV6 int // length of an IPv6 address prefix: 64
}

// withDefaults returns l with its zero fields filled.
func (l Limits) withDefaults() Limits {
	return Limits{
		IdleTimeout:        or(l.IdleTimeout, 10*time.Minute),
		LoginTimeout:       or(l.LoginTimeout, time.Minute),
		WriteTimeout:       or(l.WriteTimeout, 3*time.Minute),
		RestAfter:          or(l.RestAfter, 5*time.Second),
		LineLength:         or(l.LineLength, 512),
		SASLLine:           or(l.SASLLine, 128<<10),
		MessageSize:        or(l.MessageSize, 64<<20),
		LoginMemory:        or(l.LoginMemory, 64<<20),
		BadCommands:        or(l.BadCommands, 10),
		BadCommandsLogin:   or(l.BadCommandsLogin, 3),
		AuthFailures:       or(l.AuthFailures, 3),
		FailureDelay:       or(l.FailureDelay, time.Second),
		MaxConnections:     or(l.MaxConnections, 16384),
		MaxUnauthenticated: or(l.MaxUnauthenticated, 1024),
		MaxPerPrefix:       or(l.MaxPerPrefix, 1024),
		MaxPerUser:         or(l.MaxPerUser, 16),
		PrefixV4:           or(l.PrefixV4, 32),
		PrefixV6:           or(l.PrefixV6, 64),
	}
}

func or[T int | int64 | time.Duration](v, standard T) T {
	if v == 0 {
		return standard
	}
	return v
}
