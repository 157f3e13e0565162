package krb5

// derLength reads the length that follows a one-octet tag (ITU-T X.690 section
// 8.1.3, definite form only). rest is what follows it.
func derLength(b []byte) (n int, rest []byte, ok bool) {
	if len(b) == 0 {
		return 0, nil, false
	}
	first := int(b[0])
	b = b[1:]
	if first < 0x80 {
		return first, b, true
	}
	octets := first & 0x7f
	if octets == 0 || octets > 3 || len(b) < octets {
		return 0, nil, false
	}
	for _, c := range b[:octets] {
		n = n<<8 | int(c)
	}
	return n, b[octets:], true
}

// wholeDER says whether b is exactly one element, with nothing behind it.
func wholeDER(b []byte) bool {
	if len(b) < 2 {
		return false
	}
	n, rest, ok := derLength(b[1:])
	return ok && n == len(rest)
}

func appendDERLength(b []byte, n int) []byte {
	switch {
	case n < 0x80:
		return append(b, byte(n))
	case n < 0x100:
		return append(b, 0x81, byte(n))
	case n < 0x10000:
		return append(b, 0x82, byte(n>>8), byte(n))
	default:
		return append(b, 0x83, byte(n>>16), byte(n>>8), byte(n))
	}
}
