// Package page writes what a program has found out into the document that tells
// of it.
package page

import (
	"fmt"
	"os"
	"strings"
)

// Insert puts text into a document in place of what lies between its lines
// `<!-- NAME: begin -->` and `<!-- NAME: end -->`, which must both be there.
func Insert(document, name, text string) error {
	b, err := os.ReadFile(document) //nolint:gosec // G304: the caller's
	if err != nil {
		return err
	}
	begin, end := "<!-- "+name+": begin -->", "<!-- "+name+": end -->"
	before, rest, begun := strings.Cut(string(b), begin)
	_, after, ended := strings.Cut(rest, end)
	if !begun || !ended {
		return fmt.Errorf("%s does not have the lines %s and %s", document, begin, end)
	}
	text = before + begin + "\n\n" + strings.TrimSpace(text) + "\n\n" + end + after
	return os.WriteFile(document, []byte(text), 0o644) //nolint:gosec // G306: a document
}
