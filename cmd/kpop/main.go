// Command kpop is the operator's tool beside kpopd.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

// version is set by the linker.
var version = "devel"

func main() {
	root := &cobra.Command{
		Use: "kpop", Short: "look after kpopd", Version: version, SilenceUsage: true, SilenceErrors: true,
	}
	root.AddCommand(loginCommand(), explainCommand(), mapCommand(), doctorCommand(), spoolCommand(), deliverCommand())
	root.AddCommand(operatorCommands()...)
	document(root)
	if err := root.Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "kpop:", err)
		os.Exit(status(err))
	}
}
