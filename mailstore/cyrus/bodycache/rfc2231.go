package bodycache

import (
	"fmt"
	"strconv"
	"strings"
)

// maxSections is how many continuations of a parameter Cyrus joins.
const maxSections = 100

// fold joins the continuations of parameters (RFC 2231 section 3): NAME*0,
// NAME*1 become NAME, and NAME* when one of them is encoded.
func fold(list []param) ([]param, error) {
	for i := 0; i < len(list); i++ {
		name, section, found := strings.Cut(list[i].name, "*")
		if !found || section != "0" && section != "0*" {
			continue
		}
		for _, other := range list[:i] {
			if strings.HasPrefix(other.name, name+"*") {
				return nil, distrust("parameter sections out of order")
			}
		}
		joined := param{name, list[i].value}
		encoded := section == "0*"
		rest := list[i+1:]
		for n := 1; n < maxSections; n++ {
			at, extended := findSection(rest, name, n)
			if at < 0 {
				break
			}
			value := rest[at].value
			switch {
			case encoded && !extended:
				value = percent(value)
			case extended && !encoded:
				joined.value = "''" + percent(joined.value)
				encoded = true
			}
			joined.value += value
			rest = append(rest[:at], rest[at+1:]...)
		}
		if encoded {
			joined.name += "*"
		}
		list = append(append(list[:i], joined), rest...)
	}
	return list, nil
}

// findSection finds NAME*n or NAME*n*.
func findSection(list []param, name string, n int) (at int, extended bool) {
	simple := name + "*" + strconv.Itoa(n)
	for i := range list {
		switch list[i].name {
		case simple:
			return i, false
		case simple + "*":
			return i, true
		}
	}
	return -1, false
}

// percent encodes a value (RFC 2231 section 4).
func percent(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte("*'%"+tspecials, c) >= 0 {
			fmt.Fprintf(&b, "%%%02X", c)
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}
