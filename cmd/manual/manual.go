// Package manual writes the manual pages of a command tree. Only builds with the
// tag man have it: the programs that are installed do without.
package manual

import (
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// Command is `man DIR`, hidden, which writes root's pages of a section into a
// directory. The date is that of SOURCE_DATE_EPOCH, so that a build can be done
// again.
func Command(root *cobra.Command, section string) *cobra.Command {
	return &cobra.Command{
		Use: "man DIR", Short: "write the manual pages", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			date := time.Now()
			if seconds, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64); err == nil {
				date = time.Unix(seconds, 0).UTC()
			}
			root.DisableAutoGenTag = true
			return doc.GenManTree(root, &doc.GenManHeader{Section: section, Date: &date, Source: root.Name() + " " + root.Version, Manual: "kpopd"}, args[0])
		},
	}
}
