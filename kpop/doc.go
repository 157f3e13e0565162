// Package kpop is a POP3 engine. It knows the protocol and nothing of tickets,
// directories or disks: a login ends in an auth.Identity, an auth.Directory
// says whose maildrop that is, a mailstore.Store opens it.
//
// # States
//
// A session is in one state and each state is a Go type with a table of its
// own commands (RFC 1939 section 3), so that a command of another state cannot
// be run:
//
//	authorization  USER PASS APOP AUTH STLS UTF8 LANG CAPA QUIT
//	ticketed       USER PASS STLS UTF8 LANG CAPA QUIT      a ticket came before the greeting (KPOP)
//	transaction    STAT LIST UIDL RETR TOP DELE NOOP RSET LANG CAPA QUIT
//	pop4           those, and LFLD SFLD CFLD DFLD MOVF RENF MOVE COPY STOR XFLG XPRT
//
// One function, conn.enter, leads to transaction. UPDATE takes no commands and
// is therefore no state but what QUIT does.
//
// # Ports
//
// A Port says what one listener offers. Port 110: nothing before the greeting,
// STLS when there is a certificate. Port 995: TLS at once (RFC 8314). Port
// 1109: a Preamble that proves a Kerberos ticket (KPOP).
//
// # Documents
//
//	RFC 1939  POP3                       authorization.go transaction.go retrieve.go update.go dot.go
//	RFC 2449  CAPA, response codes       capa.go reply.go line.go
//	RFC 2595  STLS                       tls.go
//	RFC 3206  SYS and AUTH codes         reply.go
//	RFC 4422  SASL                       sasl.go
//	RFC 5034  AUTH                       sasl.go
//	RFC 6856  UTF8, LANG                 utf8.go legacy.go lang/
//	RFC 6858  surrogate messages         surrogate/
//	POP4      docs/pop4.md               pop4.go stor.go parts.go mimepart/
//	RFC 8314  implicit TLS               tls.go
//
// # Memory
//
// A session that waits for its client holds no buffer: what it reads into and
// what it gathers replies in come from pools and go back before it waits.
// Replies to pipelined commands leave in one piece when no whole command is
// waiting any more (RFC 2449 section 6.6).
package kpop
