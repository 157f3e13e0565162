// Package integration brings up a private Kerberos realm with kpopd in it, for
// tests, for `make realm` and for `make demo`: a real MIT krb5kdc, a Cyrus
// spool, a certificate authority and the daemon, all in one directory and on
// loopback.
//
// Nothing outside the directory is changed, and several realms can live side by
// side. The commands of cmd/realm are this package's functions; DIR/env and the
// programs DIR/fill, DIR/append, DIR/expunge, DIR/restart and DIR/run are the
// contract with everybody else.
package integration
