package mailstore

import (
	"errors"
	"fmt"
	"time"
)

// What opening, reading or updating a maildrop can end in. The engine maps
// them to response codes; their texts go to the log only.
var (
	ErrUnknown    = errors.New("no such mailbox")                 // outside: as a refused login
	ErrInUse      = errors.New("maildrop in use")                 // [IN-USE], RFC 2449 section 8.1.1
	ErrLoginDelay = errors.New("login too soon")                  // [LOGIN-DELAY], RFC 2449 section 8.1.1
	ErrDamaged    = errors.New("mailbox damaged")                 // [SYS/PERM], RFC 3206 section 4
	ErrReadOnly   = errors.New("mailbox is read-only here")       // [SYS/PERM]
	ErrTemporary  = errors.New("mailbox temporarily unavailable") // [SYS/TEMP]
	ErrGone       = errors.New("message removed by another program")
	ErrOverQuota  = errors.New("over quota")
	ErrMessage    = errors.New("message cannot be stored") // its form is not that of Internet mail
)

// An InUseError is an ErrInUse that knows who holds the maildrop.
type InUseError struct {
	Holder Holder
}

func (e *InUseError) Error() string {
	return fmt.Sprintf("maildrop in use since %s from %s by session %s",
		e.Holder.Since.UTC().Format(time.RFC3339), e.Holder.Remote, e.Holder.Session)
}

// Unwrap makes errors.Is(err, ErrInUse) true.
func (e *InUseError) Unwrap() error { return ErrInUse }
