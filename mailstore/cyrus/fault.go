package cyrus

import (
	"fmt"

	"github.com/kpopd/kpopd/mailstore"
)

// A FaultError is damage: what is wrong, and where. It is a
// mailstore.ErrDamaged.
type FaultError struct {
	Path   string `json:"path"`   // the file
	Offset int64  `json:"offset"` // where in it; negative: the file as a whole
	What   string `json:"what"`
}

func (e *FaultError) Error() string {
	if e.Offset < 0 {
		return fmt.Sprintf("cyrus: %s: %s", e.Path, e.What)
	}
	return fmt.Sprintf("cyrus: %s at octet %d: %s", e.Path, e.Offset, e.What)
}

// Unwrap makes errors.Is(err, mailstore.ErrDamaged) true.
func (e *FaultError) Unwrap() error { return mailstore.ErrDamaged }

// fault is a FaultError with a formatted text.
func fault(path string, offset int64, format string, args ...any) *FaultError {
	return &FaultError{Path: path, Offset: offset, What: fmt.Sprintf(format, args...)}
}
