// Package imapproxy removes messages through Cyrus's own IMAP server, acting for
// the user whose mail it is: AUTHENTICATE PLAIN with an authorization identity
// (RFC 4616), UID STORE and UID EXPUNGE (RFC 4315). It is for mailboxes whose
// index another program must not change, as with conversations on.
package imapproxy
