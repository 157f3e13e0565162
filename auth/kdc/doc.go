// Package kdc asks a KDC for tickets, as the client that a password or a keytab makes
// one (RFC 4120 section 3.1), and for services with them (section 3.3).
//
// The exchanges are our own over gokrb5's messages and crypto: gokrb5's client picks
// KDCs at random, takes no context, trusts the length a KDC announces, lets whoever
// answers choose RC4 or billions of hash rounds, and loses UDP answers.
//
// An answer proves nothing but that somebody knows the client's key. Who must know that
// it was the KDC has a ticket made for a key of his own, and opens it.
package kdc
