package main

import "testing"

// TestMemoryGivenBack: memory is given back when work has ended and there is
// something to give, be it that sessions were parked and nothing was allocated.
func TestMemoryGivenBack(t *testing.T) {
	t.Parallel()
	given := usage{allocated: 100 << 20, free: 1 << 20, goroutines: 1000}
	for name, test := range map[string]struct {
		now  usage
		want bool
	}{
		"nothing happened":  {given, false},
		"was allocated":     {usage{allocated: 105 << 20, free: 1 << 20, goroutines: 1000}, true},
		"lies unused":       {usage{allocated: 100 << 20, free: 6 << 20, goroutines: 1000}, true},
		"goroutines ended":  {usage{allocated: 100 << 20, free: 1 << 20, goroutines: 700}, true},
		"some have":         {usage{allocated: 100 << 20, free: 1 << 20, goroutines: 900}, false},
		"goroutines are up": {usage{allocated: 100 << 20, free: 1 << 20, goroutines: 5000}, false},
	} {
		if got := test.now.worthGiving(&given); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if now := measureUsage(); now.allocated == 0 || now.goroutines == 0 {
		t.Errorf("the runtime does not tell: %+v", now)
	}
	if busy := (&usage{allocated: 120 << 20}); busy.quietSince(&given) {
		t.Error("20 MiB in a look are no quiet")
	}
}
