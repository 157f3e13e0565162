// Package lmtp takes mail for maildrops by LMTP (RFC 2033), over a unix socket
// or TCP, and hands mail over to another LMTP server.
//
// The protocol is emersion/go-smtp's. What is ours is when a message counts:
// it is taken in whole before any recipient gets it, each recipient has an
// answer of its own, and a 250 goes out after that recipient's message is
// durable (mailstore.Deliverer).
//
//	LHLO      PIPELINING, 8BITMIME, ENHANCEDSTATUSCODES (RFC 2034),
//	          SMTPUTF8 (RFC 6531), SIZE (RFC 1870), LIMITS (RFC 9422)
//	RCPT      with a domain or, for old mailers, without one:
//	          250, 550 5.1.1 no such user, 452 4.2.2 or 552 5.2.2 over quota
//	DATA      the same again for each recipient, for things change meanwhile
//
// What the operator can mend is answered with a 4xx code: the queue of the
// mail transfer agent keeps the message meanwhile.
package lmtp
