package confine

import (
	"context"
	"net"
	"os"
	"slices"
	"strings"
)

// A Dial is a net.Resolver's.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// KeepNameservers gives a resolver's Dial that goes on with the nameservers of
// file (resolv.conf) as it is now when it can be read no more: a DHCP client
// puts a new one in its place, and that is no file of ours. Go's resolver would
// ask 127.0.0.1 then.
func KeepNameservers(file string) Dial {
	var known []string
	if b, err := os.ReadFile(file); err == nil { //nolint:gosec // G304: resolv.conf
		known = nameservers(string(b))
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		var d net.Dialer
		if nth := slices.Index([]string{"127.0.0.1:53", "[::1]:53"}, address); nth >= 0 && len(known) > 0 {
			f, err := os.Open(file) //nolint:gosec // G304: resolv.conf
			if err != nil {
				return d.DialContext(ctx, network, known[min(nth, len(known)-1)])
			}
			_ = f.Close()
		}
		return d.DialContext(ctx, network, address)
	}
}

func nameservers(text string) (out []string) {
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "nameserver" {
			out = append(out, net.JoinHostPort(f[1], "53"))
		}
	}
	return out
}
