// Package password checks passwords: against the KDC, with the answer proved by
// our own keytab, for USER/PASS, PLAIN (RFC 4616) and LOGIN; and APOP digests
// (RFC 1939 section 7).
//
// The exchange with the KDC is our own over gokrb5's messages and crypto:
// gokrb5's client picks KDCs at random, takes no context, trusts the length a
// KDC announces, lets whoever answers choose RC4 or billions of hash rounds,
// and loses UDP answers.
package password
