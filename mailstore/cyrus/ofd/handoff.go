package ofd

import (
	"runtime"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Calls that wait for the disk say so beforehand.
//
// Any system call keeps the processor that it has from the Go scheduler until the
// runtime's monitor takes it away, which looks around every few milliseconds (kpopd's
// slack.go). With two processors and two deliveries that wait for the disk nobody else
// would be served in between: "LMTP, 4 KiB, 8 clients" of make bench loses a quarter of
// its rate. So the processor is handed over at once, as the runtime does it around its
// own waits. That is not free either. What is in memory is therefore asked for first in
// the way that never waits: nearly all of it is, and then nothing is handed over.

// waiting makes a system call that is expected to wait. One of its arguments may be a
// pointer, p.
//
// gVisor calls the same two functions of the runtime, which says that they will stay for
// it (go.dev/issue/67401); without them this would not link. Between the two there is no
// Go: no stack may grow, and nothing be noted for the race detector. The stack that p may
// point to does not move meanwhile.
//
//go:nosplit
//go:norace
func waiting(trap, a1 uintptr, p unsafe.Pointer, a3, a4 uintptr) (int, error) {
	entersyscallblock()
	r, _, errno := syscall.RawSyscall6(trap, a1, uintptr(p), a3, a4, 0, 0)
	exitsyscall()
	runtime.KeepAlive(p)
	if errno != 0 {
		return -1, errno
	}
	return int(r), nil
}

//go:linkname entersyscallblock runtime.entersyscallblock
func entersyscallblock()

//go:linkname exitsyscall runtime.exitsyscall
func exitsyscall()

// fsync is fsync(2).
func fsync(fd int) error {
	_, err := waiting(unix.SYS_FSYNC, uintptr(fd), nil, 0, 0)
	return err
}

// Pread is pread(2).
func Pread(fd int, b []byte, at int64) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	into := unix.Iovec{Base: &b[0]}
	into.SetLen(len(b))
	n, _, errno := unix.Syscall6(unix.SYS_PREADV2, uintptr(fd), uintptr(unsafe.Pointer(&into)), 1, uintptr(at), 0, unix.RWF_NOWAIT) // #nosec G103 -- as package unix does
	switch errno {
	case 0:
		if n > 0 {
			return int(n), nil
		}
		// The end of the file, or what Linux 5.9 and 5.10 say of what is not in memory
		// (preadv2(2), BUGS).
		return unix.Pread(fd, b, at)
	case unix.EAGAIN:
		return waiting(unix.SYS_PREADV, uintptr(fd), unsafe.Pointer(&into), 1, uintptr(at)) // #nosec G103 -- as package unix does
	case unix.EOPNOTSUPP, unix.ENOSYS, unix.EPERM: // a file system or a filter that does not know it
		return unix.Pread(fd, b, at)
	}
	return -1, errno
}

// resolveCached is openat2(2)'s RESOLVE_CACHED: open what needs no wait, or EAGAIN.
const resolveCached = 0x20

// OpenAt opens what is there: openat(2) without O_CREAT.
func OpenAt(dir int, path string, flags int) (int, error) {
	if strings.IndexByte(path, 0) >= 0 {
		return -1, unix.EINVAL
	}
	var buf [256]byte
	return OpenName(dir, append(append(buf[:0], path...), 0), flags)
}

// OpenName is OpenAt for a name that ends in an octet 0.
func OpenName(dir int, name []byte, flags int) (int, error) {
	p := unsafe.Pointer(&name[0]) // #nosec G103 -- as package unix does
	how := unix.OpenHow{Flags: uint64(flags), Resolve: resolveCached}
	fd, _, errno := unix.Syscall6(unix.SYS_OPENAT2, uintptr(dir), uintptr(p), uintptr(unsafe.Pointer(&how)), unix.SizeofOpenHow, 0, 0) // #nosec G103 -- as package unix does
	switch errno {
	case unix.EAGAIN:
		return waiting(unix.SYS_OPENAT, uintptr(dir), p, uintptr(flags), 0)
	case unix.ENOSYS, unix.EINVAL, unix.EPERM: // a kernel before 5.12, or a filter, that does not know it
		fd, _, errno = unix.Syscall6(unix.SYS_OPENAT, uintptr(dir), uintptr(p), uintptr(flags), 0, 0, 0)
	}
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}
