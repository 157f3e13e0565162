package mailstore

import (
	"context"
	"io"
	"os"
	"time"
)

// A Number is a message-number (RFC 1939 section 5): 1..Len, fixed for the
// session. No other index to a message exists outside a store.
type Number int

// A Store opens maildrops.
type Store interface {
	// Open takes the maildrop's exclusive lock and its snapshot. It never
	// waits for another session's lock: ErrInUse at once, as an *InUseError
	// when the holder is known. Other errors: ErrUnknown, ErrDamaged,
	// ErrTemporary, ErrLoginDelay.
	Open(ctx context.Context, mailbox string, h Holder) (Maildrop, error)
}

// A Holder is the session that holds a maildrop.
type Holder struct {
	User     string // who logged in
	Remote   string // client address
	Session  string // session's name in the log
	Since    time.Time
	UIDStyle string // unique-id format for this account; empty: the store's

	// LoginDelay is the account's least time between two logins, which the
	// store counts (RFC 2449 section 6.5); zero: the store's own.
	LoginDelay time.Duration
}

// A Maildrop is one session's locked snapshot. It is used by one goroutine.
type Maildrop interface {
	// Len is the number of messages.
	Len() int

	// Octets is the sum of Size over all messages.
	Octets() (int64, error)

	// Size is message n's octets as RETR sends them before byte-stuffing
	// (RFC 1939 section 11): bare line feeds count as CRLF, and so does the
	// line end that a last line without one is given.
	Size(n Number) (int64, error)

	// AppendUniqueID appends message n's unique-id (RFC 1939 section 7,
	// UIDL) to dst: 1 to 70 octets of 0x21..0x7E.
	AppendUniqueID(dst []byte, n Number) []byte

	// Open opens message n as it is stored.
	Open(n Number) (Message, error)

	// Update ends the session's TRANSACTION: all of it is on disk when it
	// returns nil. It is called at most once, by UPDATE; never when the
	// connection was lost.
	Update(ctx context.Context, c Changes) error

	// Close gives the lock and everything else back. It may follow anything.
	Close() error
}

// Changes is what a session asks for at QUIT.
type Changes struct {
	Deleted   []Number // marked by DELE, ascending
	Retrieved []Number // sent whole by RETR, ascending; for \Seen
}

// A Message is a stored message's octets, open for reading.
//
// A Message that is also a FileMessage can be sent by the kernel.
type Message interface {
	io.Reader
	io.Closer

	// Stored is the number of octets Read gives: the size on disk.
	Stored() int64

	// Canonical is true when every line is known to end in CRLF, the last
	// one too, so that nothing but dot-stuffing changes on the wire.
	Canonical() bool
}

// A FileMessage is a Message that lies in one file from its first octet.
//
// Its dots are where in the file lines begin with one, ascending: what
// byte-stuffing doubles (RFC 1939 section 3). A store may remember them from one
// opening of the file to the next, as long as nobody has changed it.
type FileMessage interface {
	Message
	File() *os.File

	// Dots are all the dots of the file as it is now; ok is false when they are
	// not known, or the file's last line has no end.
	Dots() (at []int64, ok bool)

	// NoteDots tells the store the dots, at most MostDots, of a file that was read
	// as a whole since Dots did not know them, and whose last line has its end. The
	// store keeps the slice.
	NoteDots(at []int64)
}

// MostDots is how many dots of a message are worth remembering: one has hardly
// any, and among many there is little for the kernel to send at once.
const MostDots = 16

// An Appender is a Maildrop that can read a whole small message into a buffer
// of the caller's without a descriptor that outlives the call.
type Appender interface {
	// AppendMessage appends message n as stored to dst when it has at most
	// limit octets; ok is false, and dst as it was, when it has more.
	AppendMessage(dst []byte, n Number, limit int64) (out []byte, canonical, ok bool, err error)
}

// A Rester is a Maildrop that can give memory back while its client is silent
// and rebuild it at the next call, with the same numbers.
type Rester interface {
	Rest()
}

// A Restricted is a Maildrop that may be for reading only.
type Restricted interface {
	// ReadOnly says why messages cannot be removed, an ErrReadOnly; nil: they
	// can. Update refuses to in any case.
	ReadOnly() error
}

// A Deliverer takes new mail. Deliver is durable when it returns nil.
type Deliverer interface {
	Deliver(ctx context.Context, mailbox string, message io.Reader, from string) error
}

// A Verifier is a Deliverer that can be asked beforehand whether a mailbox would
// take a message of so many octets, 0 when that is not known. Deliver may still
// answer otherwise.
type Verifier interface {
	Accepts(ctx context.Context, mailbox string, octets int64) error
}
