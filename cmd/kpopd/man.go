//go:build man

package main

import (
	"github.com/spf13/cobra"

	"github.com/kpopd/kpopd/cmd/manual"
)

// document adds the command that writes the manual pages.
func document(root *cobra.Command) { root.AddCommand(manual.Command(root, "8")) }
