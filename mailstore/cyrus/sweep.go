package cyrus

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kpopd/kpopd/mailstore"
)

// stagedName begins the names of our staged messages; others are Cyrus's.
const stagedName = "kpop-"

// stagedAge is how old a staged message must be for its delivery to be over:
// no delivery takes a day.
const stagedAge = 24 * time.Hour

// SweepStaged removes what killed deliveries have left on the partitions, and
// tells the number of files. None of it was ever accepted.
func (s *Store) SweepStaged() (int, error) {
	if s.mode == ReadOnly {
		return 0, fmt.Errorf("cyrus: %w: the spool is served read-only", mailstore.ErrReadOnly)
	}
	swept := 0
	for _, name := range slices.Sorted(maps.Keys(s.conf.Layout.Partitions)) {
		dir := filepath.Join(s.conf.Layout.Partitions[name].Root, "stage.")
		files, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return swept, told(err)
		}
		for _, f := range files {
			info, err := f.Info()
			if err != nil || !info.Mode().IsRegular() || !strings.HasPrefix(f.Name(), stagedName) || s.now().Sub(info.ModTime()) < stagedAge {
				continue // gone meanwhile, or not ours to remove
			}
			if err := s.disk.remove(filepath.Join(dir, f.Name())); err != nil {
				return swept, told(err)
			}
			swept++
		}
	}
	return swept, nil
}
