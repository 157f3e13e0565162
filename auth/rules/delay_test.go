package rules_test

import (
	"testing"
	"time"

	"github.com/kpopd/kpopd/auth/rules"
)

func TestParseDelay(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{"0": 0, "90": 90 * time.Second, "2m": 2 * time.Minute, "1m30s": 90 * time.Second} {
		if got, err := rules.ParseDelay(text); got != want || err != nil {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "-1", "-1m", "soon", "99999999999"} {
		if got, err := rules.ParseDelay(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}
