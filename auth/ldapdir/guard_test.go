package ldapdir

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

const done = "\x30\x0c\x02\x01\x01\x65\x07\x0a\x01\x00\x04\x00\x04\x00"

func TestReadMessage(t *testing.T) {
	t.Parallel()
	nested := func(n int) string {
		inner := ""
		for range n {
			inner = "\x30" + string(rune(len(inner))) + inner
		}
		return inner
	}
	tests := map[string]struct {
		in   string
		good bool
	}{
		"search done":       {done, true},
		"long form":         {"\x30\x84\x00\x00\x00\x0c" + done[2:], true},
		"long form, longer": {"\x30\x88\x00\x00\x00\x00\x00\x00\x00\x0c" + done[2:], false},
		"4 GiB":             {"\x30\x84\xff\xff\xff\xff", false},
		"2 GiB inside":      {"\x30\x09\x04\x84\x7f\xff\xff\xff\x00\x00\x00", false},
		"indefinite":        {"\x30\x80\x00\x00", false},
		"indefinite inside": {"\x30\x04\x30\x80\x00\x00", false},
		"high tag inside":   {"\x30\x03\x1f\x81\x00", false},
		"cut inside":        {"\x30\x01\x02", false},
		"no sequence":       {"HTTP/1.1 400 Bad Request\r\n\r\n", false},
		"deep":              {nested(maxDepth + 1), true},
		"too deep":          {nested(maxDepth + 2), false},
		"many":              {"\x30\x83\x01\x00\x00" + strings.Repeat("\x05\x00", 32768), false},
		"cut":               {done[:5], false},
		"reserved length":   {"\x30\xff", false},
	}
	for name, tt := range tests {
		message, err := readMessage(strings.NewReader(tt.in + "rest"))
		if tt.good != (err == nil) {
			t.Errorf("%s: %v", name, err)
		}
		if tt.good && string(message) != tt.in {
			t.Errorf("%s: got %x", name, message)
		}
	}
	if _, err := readMessage(strings.NewReader("\x30\x84\x7f\xff\xff\xff")); !errors.Is(err, errMessage) {
		t.Errorf("a length of 2 GiB: %v", err)
	}
}

func FuzzMessage(f *testing.F) {
	f.Add([]byte(done))
	f.Add([]byte("\x30\x84\xff\xff\xff\xff"))
	f.Add([]byte("\x30\x05\x30\x03\x04\x01a"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		message, err := readMessage(r)
		if err != nil {
			return
		}
		rest, _ := io.ReadAll(r)
		if len(message) > maxMessage+6 || !bytes.Equal(append(message, rest...), in) {
			t.Fatalf("%x was read as %x", in, message)
		}
		if code, err := extendedResult(message); err == nil && !bytes.Contains(message, []byte{0x0a, 0x01, code}) {
			t.Fatalf("result code %d out of %x", code, message)
		}
	})
}

func TestBreaker(t *testing.T) {
	t.Parallel()
	var b breaker
	now := time.Unix(1000, 0)
	b.fail(now)
	if !b.allow(now) {
		t.Error("one failure is enough to rest")
	}
	b.fail(now)
	if b.allow(now) || !b.resting(now) {
		t.Error("two failures are not enough")
	}
	now = now.Add(shortRest)
	if !b.allow(now) || b.allow(now) {
		t.Error("after its rest it is not tried once")
	}
	b.fail(now)
	if b.allow(now.Add(shortRest)) || !b.allow(now.Add(2*shortRest)) {
		t.Error("the second rest is not twice as long")
	}
	for range 100 {
		b.fail(now)
	}
	if b.allow(now.Add(longRest-1)) || !b.allow(now.Add(longRest)) {
		t.Error("the longest rest is another")
	}
	b.succeed()
	if !b.allow(now) || b.failing() != 0 {
		t.Error("a success does not close it")
	}
}
