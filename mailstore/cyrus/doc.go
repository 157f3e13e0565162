// Package cyrus serves maildrops from a Cyrus IMAP spool, beside a running
// Cyrus or without one.
//
// It follows Cyrus 3.6's own files (index versions 12 to 17 are read and
// written) and its lock order: user namespace, mailbox, cyrus.index. Those locks
// are held while the spool is read or changed and never while a client thinks,
// so that neither cyr_expire nor a delivery waits for a POP session. A session's
// exclusivity (RFC 1939 section 8) is a lock of our own outside Cyrus's tree.
//
// A maildrop is a snapshot by UID. Record numbers are never kept across an
// unlock: Cyrus's repack moves records.
package cyrus
