package ofd

import (
	"syscall"
	_ "unsafe" // for go:linkname
)

// fsync is fsync(2) of a thread that has said beforehand that it will wait.
//
// Any other system call keeps the processor it has from the Go scheduler until the
// runtime's monitor takes it away, which looks around every few milliseconds (kpopd's
// slack.go). With two processors and two deliveries that wait for the disk nobody else
// would be served in between: "LMTP, 4 KiB, 8 clients" of make bench loses a quarter of
// its rate. So the processor is handed over at once, as the runtime does it around its
// own waits. gVisor calls the same two functions, and the runtime says that they will
// stay for it (go.dev/issue/67401); without them this would not link.
//
// Between the two there is no Go: no stack may grow, and nothing be noted for the race
// detector.
//
//go:nosplit
//go:norace
func fsync(fd int) error {
	entersyscallblock()
	_, _, errno := syscall.RawSyscall(syscall.SYS_FSYNC, uintptr(fd), 0, 0)
	exitsyscall()
	if errno != 0 {
		return errno
	}
	return nil
}

//go:linkname entersyscallblock runtime.entersyscallblock
func entersyscallblock()

//go:linkname exitsyscall runtime.exitsyscall
func exitsyscall()
