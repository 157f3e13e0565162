package loopback_test

import (
	"testing"

	"github.com/kpopd/kpopd/integration/loopback"
)

// TestNoPortTwice: whoever asked has not bound his port when the next one asks.
func TestNoPortTwice(t *testing.T) {
	t.Parallel()
	seen := map[int]bool{}
	for range 150 { // some would come twice by chance alone
		ports, err := loopback.Free(2)
		if err != nil {
			t.Fatal(err)
		}
		for _, port := range ports {
			if seen[port] {
				t.Fatalf("port %d was given twice", port)
			}
			seen[port] = true
		}
	}
}
