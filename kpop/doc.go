// Package kpop is a POP3 server engine: it knows the protocol and nothing of
// tickets, directories or disks, which it is given as interfaces.
//
// A connection passes through the states of RFC 1939 section 3, each of them a
// Go type with a command table of its own, so that a command which is illegal
// in a state cannot be written there:
//
//	preamble -> authorization | ticketed -> transaction -> update
//
// What a port wants before the greeting is its Preamble: nothing (110), TLS
// (995) or a Kerberos ticket (1109, KPOP).
//
//	RFC 1939  POP3                      command.go authorization.go transaction.go retrieve.go update.go dot.go
//	RFC 2449  CAPA, response codes      capa.go reply.go
//	RFC 2595  STLS                      tls.go
//	RFC 3206  SYS and AUTH codes        reply.go
//	RFC 4422  SASL                      sasl.go
//	RFC 5034  AUTH                      sasl.go
//	RFC 8314  POP3S                     server.go
//
// # Odd clients
//
//	fetchmail  takes "+" followed by blanks only as an empty SASL challenge
//	fetchmail  refuses to log in by KPOP when CAPA does not list STLS, unless told sslproto ""
//	Emacs      sends PASS with the user name as password after its ticket; Heimdal push a constant
//	s-nail     sends 956 octets and more of initial response on the AUTH line
//	Outlook    sends a blank behind AUTH
package kpop
