// Package ldapdir finds accounts in an LDAP directory (RFC 4511): it is a
// rules.Source, and a source of APOP secrets.
//
// A directory that cannot be asked is never mistaken for one that says no:
// such errors wrap auth.ErrTemporary, and for a while the last known good answer
// is given instead. Servers are raced with a head start for the first, one that
// fails rests behind a circuit breaker, and an idle connection that a server
// dropped is replaced without anybody noticing.
//
// What a server sends is not trusted: each message is bounded and its BER
// (X.690) is checked for shape before go-ldap sees it, searches ask for two
// entries at most and want exactly one, referrals and aliases are not followed,
// and every value is judged by package rules like a name from outside.
//
// What a user sends reaches a filter only as an escaped value (RFC 4515
// section 3); no setting turns that off.
package ldapdir
