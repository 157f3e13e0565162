// Package krb5 is the Kerberos acceptor: it reads AP-REQs (RFC 4120 section
// 3.2) that arrive by KPOP's sendauth or by SASL GSSAPI and says who sent them.
//
// gokrb5 is used as a codec only: its ASN.1 types and keytab entries. The order
// of checks is MIT libkrb5's, the ciphers, the replay cache, the AP-REP and
// the RFC 4121 tokens are this package's own, because gokrb5 v8.4.4 takes the
// client's realm from the authenticator, slices short ciphertexts out of
// bounds, loses replays and has no acceptor side.
//
// The identity comes from the decrypted ticket and from nowhere else.
package krb5
