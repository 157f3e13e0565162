package bodycache_test

import (
	"bytes"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kpopd/kpopd/mailstore/cyrus/bodycache"
)

var itemNames = []string{
	"ENVELOPE", "BODYSTRUCTURE", "BODY", "SECTION", "HEADERS", "FROM", "TO", "CC", "BCC", "SUBJECT",
}

// split takes a record apart.
func split(record []byte) (items []string) {
	for len(record) >= 4 {
		n := int(binary.BigEndian.Uint32(record))
		items = append(items, string(record[4:4+n]))
		record = record[4+(n+3)&^3:]
	}
	return items
}

func diffItems(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if bytes.Equal(got, want) {
		return
	}
	ours, theirs := split(got), split(want)
	if len(ours) != 10 || len(theirs) != 10 {
		t.Errorf("%s: %d items, want %d", what, len(ours), len(theirs))
		return
	}
	for i, name := range itemNames {
		if ours[i] != theirs[i] {
			t.Errorf("%s\n%s:\n got %q\nwant %q", what, name, ours[i], theirs[i])
		}
	}
}

// samples are the messages of testdata, their lines ended by CRLF.
func samples(t *testing.T) [][]byte {
	t.Helper()
	var list [][]byte
	for _, path := range sampleFiles(t) {
		list = append(list, readSample(t, path))
	}
	return list
}

func sampleFiles(t testing.TB) []string {
	t.Helper()
	paths, err := filepath.Glob("testdata/*.eml")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no samples: %v", err)
	}
	slices.Sort(paths)
	return paths
}

func readSample(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.ReplaceAll(data, []byte("\n"), []byte("\r\n"))
}

// utc is how the records of testdata were made.
var (
	received = time.Unix(1700000000, 0)
	utc      = bodycache.Options{Received: received, Location: time.UTC}
)

// fields are the parts of a record that stand in the index.
func fields(r bodycache.Record) string {
	return fmt.Sprintf("GUID %x, size %d, header size %d, sent %d, gmtime %d",
		r.GUID, r.Size, r.HeaderSize, r.SentDate, r.GMTime)
}

// describe is a record as text, for the eye and for comparison.
func describe(r bodycache.Record) string {
	var b strings.Builder
	fmt.Fprintln(&b, fields(r))
	for i, item := range split(r.Cache) {
		fmt.Fprintf(&b, "%s %q\n", itemNames[i], item)
	}
	return b.String()
}

func goldenFile(sample string) string { return strings.TrimSuffix(sample, ".eml") + ".record" }

// TestRecordsOfCyrus compares with what Cyrus 3.6.1 made of the same
// messages, received at the same time, in UTC.
func TestRecordsOfCyrus(t *testing.T) {
	t.Parallel()
	for _, path := range sampleFiles(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			want, err := os.ReadFile(goldenFile(path))
			if err != nil {
				t.Fatal(err)
			}
			got, err := bodycache.Build(readSample(t, path), utc)
			if err != nil && !errors.Is(err, bodycache.ErrDistrusted) {
				t.Fatal(err)
			}
			text := string(want)
			if err != nil { // what the index needs is right even so
				text, _, _ = strings.Cut(text, "\n")
				text += "\n"
			}
			if diff := cmp.Diff(text, describe(got)); diff != "" {
				t.Errorf("(-Cyrus +ours)\n%s", diff)
			}
			if err == nil && got.CRC != crc32.ChecksumIEEE(got.Cache) {
				t.Error("the checksum is not that of the record")
			}
		})
	}
}

func TestDistrusted(t *testing.T) {
	t.Parallel()
	nest := func(n int) string {
		var b strings.Builder
		for range n {
			b.WriteString("Content-Type: message/rfc822\r\n\r\n")
		}
		return b.String()
	}
	for name, message := range map[string]string{
		"NUL":               "Subject: a\r\n\r\n\x00",
		"bare LF":           "Subject: a\nTo: b\r\n\r\nc",
		"bare CR":           "Subject: a\rb\r\n\r\nc",
		"too deep":          nest(100),
		"too many parts":    "Content-Type: multipart/mixed; boundary=b\r\n\r\n" + strings.Repeat("--b\r\n\r\n", 5000),
		"long header":       "Subject: " + strings.Repeat("x", 2<<20) + "\r\n\r\n",
		"many header lines": strings.Repeat("X: y\r\n", 1001) + "\r\n",
		"unknown charset":   "Content-Type: text/plain; charset=x-klingon\r\n\r\n",
		"unknown word":      "Subject: =?x-klingon?q?a?=\r\n\r\n",
		"bad UTF-8":         "To: =?utf-8?q?=FF?= <a@b.test>\r\n\r\n",
		"encoded NUL":       "Subject: =?utf-8?q?=00?=\r\n\r\n",
		"open quotes":       "Content-Type: text/plain; name=\"abc\r\n\r\n",
		"encoded type":      "Content-Type: =?utf-8?q?text/plain?=\r\n\r\n",
		"encoded boundary":  "Content-Type: multipart/mixed; boundary*=us-ascii''a\r\n\r\n--a--\r\n",
	} {
		message += "Date: Thu, 02 Jan 2020 03:04:05 +0000\r\n"
		r, err := bodycache.Build([]byte(message), utc)
		if !errors.Is(err, bodycache.ErrDistrusted) {
			t.Errorf("%s: %v", name, err)
		}
		if r.Cache != nil || r.CRC != 0 || r.Size != uint32(len(message)) || r.GUID != sha1.Sum([]byte(message)) {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if _, err := bodycache.Build(nil, utc); err == nil {
		t.Error("an empty message was accepted")
	}
}

func TestDates(t *testing.T) {
	t.Parallel()
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	internal := time.Date(2023, 11, 14, 23, 30, 0, 0, time.UTC) // in Berlin it is the 15th
	fallback := time.Date(2023, 11, 15, 0, 0, 0, 0, berlin)
	for date, want := range map[string][2]time.Time{
		"Thu, 02 Jan 2020 03:04:05 +0100": {time.Date(2020, 1, 2, 0, 0, 0, 0, berlin), time.Date(2020, 1, 2, 2, 4, 5, 0, time.UTC)},
		"2 Jan 20 03:04 EST":              {time.Date(2020, 1, 2, 0, 0, 0, 0, berlin), time.Date(2020, 1, 2, 8, 4, 0, 0, time.UTC)},
		"2-jul-1999 23.59.59 pdt":         {time.Date(1999, 7, 2, 0, 0, 0, 0, berlin), time.Date(1999, 7, 3, 6, 59, 59, 0, time.UTC)},
		"2 Jan 2020":                      {time.Date(2020, 1, 2, 0, 0, 0, 0, berlin), internal},
		"2 Jan 2020 03:04:05":             {time.Date(2020, 1, 2, 0, 0, 0, 0, berlin), time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)},
		"31 Feb 2020 24:00:00 Z":          {time.Date(2020, 3, 2, 0, 0, 0, 0, berlin), time.Date(2020, 3, 3, 0, 0, 0, 0, time.UTC)},
		"Thursday, 2 Jan 2020 03:04:05":   {fallback, internal},
		"2 Jan 1899 03:04:05":             {fallback, internal},
		"2 Foo 2020":                      {fallback, internal},
		"2":                               {fallback, internal},
		"2 Jan":                           {fallback, internal},
		"":                                {fallback, internal},
	} {
		message := "Date: " + date + "\r\n\r\nbody\r\n"
		r, err := bodycache.Build([]byte(message), bodycache.Options{Received: internal, Location: berlin})
		if err != nil {
			t.Fatal(err)
		}
		if r.SentDate != uint32(want[0].Unix()) || r.GMTime != uint32(want[1].Unix()) {
			t.Errorf("%q: %v, %v; want %v, %v", date,
				time.Unix(int64(r.SentDate), 0).In(berlin), time.Unix(int64(r.GMTime), 0).UTC(), want[0], want[1])
		}
	}
}

func TestMaxHeaderLines(t *testing.T) {
	t.Parallel()
	message := []byte("A: b\r\nC: d\r\nE: f\r\n\r\nbody\r\n")
	o := utc
	o.MaxHeaderLines = 4
	if _, err := bodycache.Build(message, o); err != nil {
		t.Error(err)
	}
	o.MaxHeaderLines = 3
	if _, err := bodycache.Build(message, o); !errors.Is(err, bodycache.ErrDistrusted) {
		t.Errorf("%v", err)
	}
}

// FuzzBuild wants ten items of any message, or distrust, and no panic.
func FuzzBuild(f *testing.F) {
	for _, path := range sampleFiles(f) {
		f.Add(readSample(f, path))
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		r, err := bodycache.Build(message, utc)
		if len(message) == 0 {
			return
		}
		if int(r.HeaderSize) > len(message) || int(r.Size) != len(message) {
			t.Errorf("header size %d, size %d of %d octets", r.HeaderSize, r.Size, len(message))
		}
		if err != nil {
			if !errors.Is(err, bodycache.ErrDistrusted) || r.Cache != nil {
				t.Errorf("%v, with a record of %d octets", err, len(r.Cache))
			}
			return
		}
		if n := len(split(r.Cache)); n != 10 || len(r.Cache)%4 != 0 {
			t.Errorf("%d items in %d octets", n, len(r.Cache))
		}
	})
}

func BenchmarkBuild(b *testing.B) {
	body := strings.Repeat(strings.Repeat("x", 70)+"\r\n", 1<<14)
	for _, message := range [][]byte{
		readSample(b, "testdata/nested.eml"), []byte("From: a@b.test\r\nSubject: large\r\n\r\n" + body),
	} {
		b.Run(fmt.Sprint(len(message)), func(b *testing.B) {
			b.SetBytes(int64(len(message)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := bodycache.Build(message, utc); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
