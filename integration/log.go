package integration

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// A LogMark is a place in kpopd's log.
type LogMark struct {
	path string
	from int64
}

// LogMark marks the log's present end.
func (r *Realm) LogMark() (LogMark, error) {
	info, err := os.Stat(r.Path("kpopd.log"))
	if err != nil {
		return LogMark{}, err
	}
	return LogMark{path: r.Path("kpopd.log"), from: info.Size()}, nil
}

// Since gives the whole lines written after the mark.
func (m LogMark) Since() (string, error) {
	b, err := os.ReadFile(m.path)
	if err != nil {
		return "", err
	}
	text := string(b[min(m.from, int64(len(b))):])
	return text[:strings.LastIndexByte(text, '\n')+1], nil
}

// Until waits for a line that has all the words and gives the lines since the
// mark.
func (m LogMark) Until(words string, d time.Duration) (string, error) {
	var lines string
	var err error
	found := Within(d, func() bool {
		lines, err = m.Since()
		return err != nil || strings.Contains(lines, words)
	})
	if err == nil && !found {
		err = fmt.Errorf("integration: kpopd did not log %q within %s, but:\n%s", words, d, lines)
	}
	return lines, err
}
