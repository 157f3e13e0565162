package krb5

import (
	"os"

	"golang.org/x/sys/unix"
)

// lockFile takes an exclusive open-file-description lock without waiting.
func lockFile(f *os.File) error {
	return unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
}
