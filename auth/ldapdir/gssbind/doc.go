// Package gssbind binds LDAP connections by SASL GSSAPI (RFC 4752) with the
// keytab of the server itself. Tickets are got and renewed in process: no
// k5start, no credential cache.
//
// It takes Kerberos messages and cryptography from gokrb5, but frames, checks
// and wrap tokens are its own: go-ldap's client chooses no layer by an octet
// that RFC 4752 does not know, reads only the token layout of Active Directory,
// and does not look whether the server proved itself.
package gssbind
