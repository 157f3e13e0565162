//go:build integration

package chaos_test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"

	"github.com/kpopd/kpopd/integration/network"
)

// apart says in the environment what this process has for itself, as flags of
// unshare(1).
const apart = "KPOPD_APART"

// alone reports whether this process has mounts (-m), a network (-n) for itself.
func alone(with string) bool { return slices.Contains(strings.Fields(os.Getenv(apart)), with) }

// enterAlone begins this program anew with mounts that nobody else sees, and with a
// network of its own. What is not allowed it goes on without.
func enterAlone() error {
	if alone("-n") {
		return network.Raise()
	}
	unshare, err := exec.LookPath("unshare")
	if _, entered := os.LookupEnv(apart); err != nil || entered {
		return nil
	}
	var flags []string
	for flag, probe := range map[string]string{
		"-m": "d=$(mktemp -d) && mount -t tmpfs tmpfs $d && umount $d && rmdir $d",
		"-n": "test -c /dev/net/tun",
	} {
		if exec.Command(unshare, flag, "sh", "-c", probe).Run() == nil { //nolint:gosec // G204: constants
			flags = append(flags, flag)
		}
	}
	program, err := os.Executable()
	if err != nil || len(flags) == 0 {
		return err
	}
	arguments := append(append([]string{"unshare"}, flags...), append([]string{program}, os.Args[1:]...)...)
	return syscall.Exec(unshare, arguments, append(os.Environ(), apart+"="+strings.Join(flags, " "))) //nolint:gosec // G204: ourselves
}
