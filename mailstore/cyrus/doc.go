// Package cyrus serves maildrops from a Cyrus IMAP mail spool, beside a
// running Cyrus or alone.
//
// The files of a mailbox, and who of this package reads and writes them:
//
//	cyrus.header       MailboxHeader   quota root, keywords, ACL; written by CreateMailbox and SetQuota
//	cyrus.index        IndexHeader     counters; written last by every change
//	                   Record          one a message; changed in place, added by Append
//	cyrus.cache                        parsed headers for IMAP; added to by Append, copied by Expire
//	cyrus.annotations                  read for its part in a checksum; cleaned by Expire
//	<uid>.                             a message
//
// Index versions (IndexHeader.Minor):
//
//	minor     header record          here
//	6, 7      76     60, 72          read
//	8, 9, 10  92, 96 80, 80, 88      read
//	12, 13    128    96, 104         read and written
//	14, 15    160    104             read and written
//	16, 17    160    112             read and written
//	19        160    112             read
//	20        192    144             read
//
// # Locks
//
// Cyrus's locks are taken in Cyrus's order (the user's namespace, the mailbox,
// cyrus.index, then the small databases), each with Cyrus's mode, and only for
// as long as files are read or written: none is held while a client thinks.
// Records are found by UID each time, for another program may have dropped
// some meanwhile; Cyrus's own pop3d remembers record numbers instead and can
// expunge the wrong message.
//
// That one session has the maildrop (RFC 1939 section 4) is a lock of our own
// in Options.StateDir.
//
// # What a maildrop's octets are
//
// Maildrop.Size is what RETR sends (RFC 1939 section 11). Cyrus stores mail
// with CRLF line ends, and then it is the file's size; but a file put there
// by other means need not be so. Each message is therefore read once, and what
// was found is kept in Options.StateDir (octets.go).
package cyrus
