// Package krb5 is the Kerberos acceptor: it proves who presents a ticket, over
// KPOP (Kerberos 5 sendauth) and over SASL (GSSAPI, GS2-KRB5, GS2-KRB5-PLUS,
// GSS-SPNEGO).
//
// An Acceptor verifies one AP-REQ (RFC 4120 section 3.2.3) in the order of
// checks that MIT's library has; KPOP and Mechanisms are the two dialogs that
// carry AP-REQs to it. Both share one replay cache. What is proved comes out
// as an auth.Identity whose names are those inside the decrypted ticket;
// whether that principal may read a maildrop is decided elsewhere.
//
// Every refusal is a *Refusal with a short code (KP-104) that does not change
// between releases; Refusals explains all of them.
//
// The package decodes DER and does the cryptography of enctypes 17 to 20 by
// itself, with lengths checked before anything is sliced and with derived keys
// kept for the keytab's entries. From gokrb5 it takes the keytab, and the
// KRB-ERROR message.
package krb5
