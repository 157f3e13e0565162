package control

import (
	"fmt"
	"os"
	"path/filepath"
)

// longest is what fits into a socket's address.
const longest = 107

// shorten gives another name for path that fits into a socket's address, valid
// until done is called.
func shorten(path string) (short string, done func(), err error) {
	if len(path) <= longest {
		return path, func() {}, nil
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return "", nil, fmt.Errorf("control: %w", err)
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path)), func() { _ = dir.Close() }, nil
}
