package ofd

import (
	"errors"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// A File is an open regular file: a descriptor and a name. It is an os.File
// without what serves pipes, terminals and sharing between goroutines. A login
// opens five, and each saves a system call and five allocations
// (BenchmarkOpenSpool). Nothing closes it but Close, which ends its locks too;
// like the rest, that is for one goroutine at a time.
type File struct {
	fd   int
	name string
}

// Open opens a regular file as os.OpenFile does.
func Open(path string, flags int, mode fs.FileMode) (*File, error) {
	for {
		fd, err := open(path, flags|unix.O_CLOEXEC, uint32(mode.Perm()))
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return nil, &fs.PathError{Op: "open", Path: path, Err: err}
		}
		return &File{fd, path}, nil
	}
}

func open(path string, flags int, mode uint32) (int, error) {
	if flags&(unix.O_CREAT|unix.O_TRUNC) != 0 {
		return unix.Open(path, flags, mode)
	}
	return OpenAt(unix.AT_FDCWD, path, flags)
}

// Name is the path that the file was opened by.
func (f *File) Name() string { return f.name }

// Close closes the file; a second time gives fs.ErrClosed.
func (f *File) Close() error {
	fd := f.fd
	if fd < 0 {
		return f.failed("close", fs.ErrClosed)
	}
	f.fd = -1
	if err := unix.Close(fd); err != nil && err != unix.EINTR { // Linux has closed it all the same
		return f.failed("close", err)
	}
	return nil
}

func (f *File) failed(op string, err error) error {
	if f.fd < 0 {
		err = fs.ErrClosed
	}
	return &fs.PathError{Op: op, Path: f.name, Err: err}
}

// ReadAt implements io.ReaderAt.
func (f *File) ReadAt(b []byte, at int64) (n int, err error) {
	for n < len(b) {
		m, err := Pread(f.fd, b[n:], at+int64(n))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return n, f.failed("read", err)
		case m == 0:
			return n, io.EOF
		default:
			n += m
		}
	}
	return n, nil
}

// WriteAt implements io.WriterAt.
func (f *File) WriteAt(b []byte, at int64) (n int, err error) {
	return f.writeAll(b, func(b []byte, done int) (int, error) { return unix.Pwrite(f.fd, b, at+int64(done)) })
}

// Write implements io.Writer.
func (f *File) Write(b []byte) (n int, err error) {
	return f.writeAll(b, func(b []byte, _ int) (int, error) { return unix.Write(f.fd, b) })
}

func (f *File) writeAll(b []byte, write func(b []byte, done int) (int, error)) (n int, err error) {
	for n < len(b) {
		m, err := write(b[n:], n)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return n, f.failed("write", err)
		case m == 0:
			return n, f.failed("write", io.ErrUnexpectedEOF)
		default:
			n += m
		}
	}
	return n, nil
}

// Sync puts the file's octets and size on disk. Other goroutines run meanwhile.
func (f *File) Sync() error { return f.again("sync", func() error { return fsync(f.fd) }) }

// Truncate sets the file's size.
func (f *File) Truncate(size int64) error {
	return f.again("truncate", func() error { return unix.Ftruncate(f.fd, size) })
}

// Chmod sets the file's permissions.
func (f *File) Chmod(mode fs.FileMode) error {
	return f.again("chmod", func() error { return unix.Fchmod(f.fd, uint32(mode.Perm())) })
}

func (f *File) again(op string, do func() error) error {
	for {
		switch err := do(); err {
		case unix.EINTR:
		case nil:
			return nil
		default:
			return f.failed(op, err)
		}
	}
}

// An Info is what can be asked of a file. Two that are equal are of one file that was
// not changed in between, if the first was taken some time after the last change before.
type Info struct {
	Size    int64
	Perm    fs.FileMode
	Regular bool
	ID      ID
	Changed int64 // the last change of the file or what is noted of it (ctime), in ns since 1970
}

// An ID tells files apart that are there at the same time.
type ID struct{ device, inode uint64 }

func infoOf(s *unix.Stat_t) Info {
	return Info{
		Size: s.Size, Perm: fs.FileMode(s.Mode) & fs.ModePerm, Regular: s.Mode&unix.S_IFMT == unix.S_IFREG,
		ID: ID{uint64(s.Dev), s.Ino}, Changed: s.Ctim.Nano(), //nolint:unconvert // other widths on other machines
	}
}

// Stat describes the file as it is now.
func (f *File) Stat() (Info, error) {
	var s unix.Stat_t
	if err := f.again("stat", func() error { return unix.Fstat(f.fd, &s) }); err != nil {
		return Info{}, err
	}
	return infoOf(&s), nil
}

// Named is Stat, and tells whether a path names this very file. One that names
// nothing is no error.
func (f *File) Named(path string) (info Info, same bool, err error) {
	if info, err = f.Stat(); err != nil {
		return info, false, err
	}
	var s unix.Stat_t
	for {
		err = unix.Stat(path, &s)
		if err != unix.EINTR {
			break
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return info, false, nil
	case err != nil:
		return info, false, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return info, infoOf(&s).ID == info.ID, nil
}

// The methods must do what those of os.File do.
var (
	_ io.ReaderAt = (*os.File)(nil)
	_ io.ReaderAt = (*File)(nil)
	_ io.WriterAt = (*File)(nil)
	_ io.Writer   = (*File)(nil)
)
