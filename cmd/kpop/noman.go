//go:build !man

package main

import "github.com/spf13/cobra"

// document does nothing: only a build with the tag man writes manual pages.
func document(*cobra.Command) {}
