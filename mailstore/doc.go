// Package mailstore says what a maildrop is to a POP server: a locked,
// numbered snapshot of messages (RFC 1939 section 3) that changes only by one
// Update at the session's end.
//
// The contract is shaped by cost: counts and octets come without touching each
// record, a unique-id is appended to a byte slice, and a message is either
// read whole into the caller's buffer or handed over as something the kernel
// can send from.
package mailstore
