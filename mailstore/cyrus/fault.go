package cyrus

import (
	"fmt"

	"github.com/kpopd/kpopd/mailstore"
)

// A FaultError is damage found in a spool: where, and what is wrong there. It
// is a mailstore.ErrDamaged.
type FaultError struct {
	Path   string
	Offset int64 // in octets from the file's start
	What   string
}

func (e *FaultError) Error() string {
	return fmt.Sprintf("cyrus: %s at offset %d: %s", e.Path, e.Offset, e.What)
}

// Unwrap makes errors.Is(err, mailstore.ErrDamaged) true.
func (e *FaultError) Unwrap() error { return mailstore.ErrDamaged }
