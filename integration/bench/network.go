package bench

import (
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kpopd/kpopd/integration/network"
)

// EnterNetwork starts the program once more in a network of its own, in which there
// is the loopback device alone and TCP has the congestion control that is asked for.
// It returns nil when that has been done already. A process is in the network of the
// thread that started it, so a running program cannot move as a whole.
//
// A system's default may be bbr, which paces what it sends: on loopback a server then
// waits for timers and not for its client, and the kernel's work on them is most of
// what is measured. Debian's default, cubic, does not pace, nor does reno, which any
// network may have. Neither has a loss to react to on loopback.
func EnterNetwork(congestion string) error {
	if os.Getenv(networkEntered) != "" {
		return nil
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	runtime.LockOSThread() // for good: on success there is nothing after Exec
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("bench: a network of its own: %w; run as root, or with --congestion system", err)
	}
	if err := network.Raise(); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	if err := os.WriteFile(congestionFile, []byte(congestion), 0o600); err != nil {
		return fmt.Errorf("bench: congestion control: %w", err)
	}
	return fmt.Errorf("bench: %s: %w", program, unix.Exec(program, os.Args, append(os.Environ(), networkEntered+"=1")))
}

const (
	networkEntered = "KPOPD_BENCH_NETWORK"
	congestionFile = "/proc/sys/net/ipv4/tcp_congestion_control" // that of whoever opens it
)

// congestionControl is TCP's in this process's network.
func congestionControl() string {
	b, _ := os.ReadFile(congestionFile) // the text then has no name
	return "TCP " + strings.TrimSpace(string(b))
}
