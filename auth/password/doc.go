// Package password checks passwords: against the KDC, with the answer proved by
// our own keytab, for USER/PASS, PLAIN (RFC 4616) and LOGIN; and APOP digests
// (RFC 1939 section 7).
package password
