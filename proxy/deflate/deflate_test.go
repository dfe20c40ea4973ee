package deflate

import (
	"bytes"
	"compress/flate"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// answers are FETCH responses as a server sends them.
func answers(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "* %d FETCH (UID %d FLAGS (\\Seen) ENVELOPE (\"Mon, %d Nov 2026 08:%02d:11 +0000\" \"Re: report %d\" ((\"Ann\" NIL \"ann%d\" \"example.org\"))))\r\n",
			i+1, 1000+3*i, i%28+1, i%60, i*7919%1000, i*31%17)
	}
	return b.String()
}

func noise(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return string(b)
}

var texts = map[string][]string{
	"nothing":      {},
	"one octet":    {"a"},
	"short lines":  {"* OK Still here\r\n", "* 5 EXISTS\r\n", "+ idling\r\n"},
	"answers":      {answers(1), answers(40), "a1 OK Fetch completed\r\n", answers(700), "a2 OK Fetch completed\r\n"},
	"umlauts":      {"* LIST () \"/\" Entw\xfcrfe\r\n", "\x00\x8f\x90\xff", "\xff"},
	"few commands": {answers(2), "a1 NOOP\r\n", answers(9)},
	"random":       {noise(70_000), "a1 OK\r\n", noise(200_000), noise(1023), noise(1024), noise(4000)},
	"base64":       {base64.StdEncoding.EncodeToString([]byte(noise(100_000)))},
	"mixed":        {answers(100), noise(66_000), answers(100), strings.Repeat("a", 300_000), answers(1)},
	"block limits": {noise(65_534), noise(65_535), noise(65_536), noise(131_071), strings.Repeat("b", 65_536)},
}

// TestAPeerReadsEachTextAtOnce has Go's own inflater read what a Deflater writes: after each text the peer has all of it.
func TestAPeerReadsEachTextAtOnce(t *testing.T) {
	for name, list := range texts {
		for _, keeps := range []int{0, 100, MaxHistory} {
			t.Run(fmt.Sprint(name, keeps), func(t *testing.T) {
				r, w := io.Pipe()
				peer := flate.NewReader(r)
				d := NewDeflater(keeps)
				var o Output
				for i, text := range list {
					if i == len(list)/2 {
						d.Rest() // the peer doesn't have to know
					}
					out := d.Deflate(&o, []byte(text))
					go func() { _, _ = w.Write(out) }()
					got := make([]byte, len(text))
					if _, err := io.ReadFull(peer, got); err != nil || string(got) != text {
						t.Fatalf("text %d: %d octets, %v", i, len(got), err)
					}
					if d.History() > keeps || i >= len(list)/2 && d.History() > 0 {
						t.Errorf("history of %d octets, want at most %d", d.History(), keeps)
					}
				}
			})
		}
	}
}

// TestWhatIsSmall has the sizes that the documentation promises.
func TestWhatIsSmall(t *testing.T) {
	var o Output
	d := NewDeflater(MaxHistory)
	size := func(text string) int { return len(d.Deflate(&o, []byte(text))) }
	if line := "* OK Still here\r\n"; size(line) != len(line)+6 {
		t.Errorf("a line of %d octets is sent as %d", len(line), size(line))
	}
	if text := noise(100_000); size(text) > len(text)+15 {
		t.Errorf("random octets grow by %d", size(text)-len(text))
	}
	if text := answers(500); size(text)*4 > len(text) {
		t.Errorf("answers of %d octets are sent as %d", len(text), size(text))
	}
	if text := base64.StdEncoding.EncodeToString([]byte(noise(48_000))); size(text)*5 > len(text)*4 {
		t.Errorf("base64 of %d octets is sent as %d", len(text), size(text))
	}
	alone := NewDeflater(0)
	d.Deflate(&o, []byte(answers(50)))
	with, without := size(answers(3)), len(alone.Deflate(&o, []byte(answers(3))))
	if with >= without {
		t.Errorf("with the history %d octets, without it %d", with, without)
	}
}

// peers are ways to write a stream, as clients do.
func peers(t testing.TB, level int, list []string) []byte {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, level)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range list {
		_, _ = io.WriteString(w, text)
		_ = w.Flush()
	}
	return b.Bytes()
}

// inflated reads a stream in pieces of at most piece octets into pieces of at most room octets, each with a scratch that
// another stream has used.
func inflated(stream []byte, piece, room int) (out []byte, z *Inflater, err error) {
	z = new(Inflater)
	s := new(Scratch)
	dst := make([]byte, room)
	for {
		src := stream[:min(piece, len(stream))]
		if len(stream)%13 == 0 {
			*s = Scratch{}
		}
		n, m, err := z.Inflate(s, dst, src)
		out = append(out, dst[:n]...)
		stream = stream[m:]
		if err != nil {
			return out, z, err
		}
		if n < room && len(stream) == 0 {
			return out, z, nil
		}
		if n < room && m < len(src) {
			return out, z, fmt.Errorf("neither side is used up: %d of %d, %d of %d", n, room, m, len(src))
		}
	}
}

func TestInflateTakesAnyPieces(t *testing.T) {
	for name, list := range texts {
		whole := strings.Join(list, "")
		for _, level := range []int{flate.HuffmanOnly, flate.NoCompression, 1, 6, 9} {
			stream := peers(t, level, list)
			for _, size := range [][2]int{{1 << 20, 1 << 20}, {1, 1 << 16}, {7, 3}, {1000, 1}, {1 << 20, 100}, {3, 258}} {
				if len(whole) > 20_000 && size[0]*size[1] < 1_000_000 {
					continue
				}
				got, z, err := inflated(stream, size[0], size[1])
				if err != nil || string(got) != whole {
					t.Fatalf("%s, level %d, pieces %v: %d of %d octets, %v", name, level, size, len(got), len(whole), err)
				}
				if z.History() != min(len(whole), Window) {
					t.Errorf("%s: %d octets are kept of %d", name, z.History(), len(whole))
				}
			}
		}
	}
}

// TestACommandIsReadAsSoonAsItIsWhole covers flushes of both kinds: after Z_PARTIAL_FLUSH the stream stands within an octet.
func TestACommandIsReadAsSoonAsItIsWhole(t *testing.T) {
	script := `
import sys, zlib
kind = getattr(zlib, sys.argv[1])
z = zlib.compressobj(int(sys.argv[2]), zlib.DEFLATED, -15)
for i in range(300):
    b = z.compress(b"a%d UID FETCH %d (FLAGS BODY.PEEK[])\r\n" % (i, i * 7)) + z.flush(kind)
    sys.stdout.buffer.write(len(b).to_bytes(4, "big") + b)
`
	for _, kind := range []string{"Z_SYNC_FLUSH", "Z_PARTIAL_FLUSH", "Z_FULL_FLUSH"} {
		for _, level := range []string{"6"} {
			out := python(t, script, nil, kind, level)
			var z Inflater
			var s Scratch
			dst := make([]byte, 1000)
			for i := range 300 {
				size := int(out[0])<<24 | int(out[1])<<16 | int(out[2])<<8 | int(out[3])
				n, m, err := z.Inflate(&s, dst, out[4:4+size])
				want := fmt.Sprintf("a%d UID FETCH %d (FLAGS BODY.PEEK[])\r\n", i, i*7)
				if string(dst[:n]) != want || m != size || err != nil {
					t.Fatalf("%s, level %s: %q, want %q; %d of %d octets, %v", kind, level, dst[:n], want, m, size, err)
				}
				z.Trim()
				out = out[4+size:]
			}
		}
	}
}

// TestZlibReadsIt has zlib read what a Deflater writes, text by text.
func TestZlibReadsIt(t *testing.T) {
	script := `
import sys, zlib
z = zlib.decompressobj(-15)
while True:
    n = sys.stdin.buffer.read(4)
    if not n: break
    out = z.decompress(sys.stdin.buffer.read(int.from_bytes(n, "big")))
    sys.stdout.buffer.write(len(out).to_bytes(4, "big") + out)
    assert not z.eof and not z.unused_data
`
	for name, list := range texts {
		d := NewDeflater(MaxHistory)
		var o Output
		var in, want bytes.Buffer
		for _, text := range list {
			if text == "" {
				continue
			}
			b := d.Deflate(&o, []byte(text))
			in.Write([]byte{byte(len(b) >> 24), byte(len(b) >> 16), byte(len(b) >> 8), byte(len(b))})
			in.Write(b)
			want.Write([]byte{byte(len(text) >> 24), byte(len(text) >> 16), byte(len(text) >> 8), byte(len(text))})
			want.WriteString(text)
		}
		if got := python(t, script, in.Bytes()); !bytes.Equal(got, want.Bytes()) {
			t.Errorf("%s: zlib read %d octets, want %d", name, len(got), want.Len())
		}
	}
}

// python runs a script. Debian's base installation has Python, and Python has zlib.
func python(t *testing.T, script string, in []byte, args ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath("python3"); err != nil && os.Getenv("IMAPPROXY_REAL") == "" {
		t.Skip("needs python3, whose zlib is the peer")
	}
	cmd := exec.Command("python3", append([]string{"-c", script}, args...)...)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestWhatIsNoStream(t *testing.T) {
	for _, c := range []struct {
		name, stream string
		want         error
	}{
		{"plain text", "a1 NOOP\r\n", ErrCorrupt},
		{"plain text that begins as a block", "t1 SELECT INBOX\r\n", ErrCorrupt},
		{"a block of the reserved type", "\x06", ErrCorrupt},
		{"a stored block with a wrong check", "\x00\x05\x00\x00\x00hello", ErrCorrupt},
		{"a reference before the beginning", "\x4b\x04\x62\x00", ErrCorrupt},
		{"data behind the last block", "\x01\x01\x00\xfe\xffax", ErrEnded},
		{"a zlib header", "\x78\x9c\x4b\x04\x00", ErrCorrupt},
	} {
		for _, piece := range []int{1, 100} {
			if out, _, err := inflated([]byte(c.stream), piece, 100); !errors.Is(err, c.want) {
				t.Errorf("%s: %q, %v; want %v", c.name, out, err, c.want)
			}
		}
	}
}

// TestABombComesInPieces checks that output is made only as there is room for it.
func TestABombComesInPieces(t *testing.T) {
	stream := peers(t, 9, []string{strings.Repeat("\x00", 10<<20)})
	if len(stream) > 60_000 {
		t.Fatalf("a bomb of %d octets", len(stream))
	}
	var z Inflater
	var s Scratch
	dst := make([]byte, 1000)
	total, src := 0, stream
	for {
		n, m, err := z.Inflate(&s, dst, src)
		if err != nil {
			t.Fatal(err)
		}
		if src = src[m:]; n < len(dst) && len(src) == 0 {
			total += n
			break
		}
		total += n
	}
	if total != 10<<20 || cap(z.history) > Window || z.History() > Window {
		t.Errorf("%d octets, a history of %d", total, cap(z.history))
	}
}

func TestInflateAllocatesNothing(t *testing.T) {
	commands := make([]string, 2000)
	for i := range commands {
		commands[i] = fmt.Sprintf("a%d UID FETCH %d (FLAGS)\r\n", i, i*7)
	}
	var z Inflater
	var s Scratch
	dst := make([]byte, 100)
	next := 0
	var ends []int
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, 6)
	for _, c := range commands {
		_, _ = io.WriteString(w, c)
		_ = w.Flush()
		ends = append(ends, b.Len())
	}
	stream, at := b.Bytes(), 0
	step := func() {
		n, _, err := z.Inflate(&s, dst, stream[at:ends[next]])
		if err != nil || string(dst[:n]) != commands[next] {
			t.Fatalf("%q, %v", dst[:n], err)
		}
		at = ends[next]
		next++
	}
	for range 1500 {
		step()
	}
	if n := testing.AllocsPerRun(400, step); n > 0 {
		t.Errorf("%v allocations for a command", n)
	}
}

// FuzzInflate compares the Inflater with Go's own, in pieces that the input chooses. Go's isn't asked for what comes behind an error.
func FuzzInflate(f *testing.F) {
	for _, list := range texts {
		for _, level := range []int{flate.HuffmanOnly, 0, 1, 9} {
			if b := peers(f, level, list); len(b) < 20_000 {
				f.Add(b, uint16(3), uint16(500))
				f.Add(b[:len(b)/2], uint16(50), uint16(1))
			}
		}
	}
	f.Add([]byte("\x01\x01\x00\xfe\xffax"), uint16(1), uint16(1))
	f.Fuzz(func(t *testing.T, stream []byte, piece, room uint16) {
		if len(stream) > 1<<16 {
			return
		}
		source := bytes.NewReader(stream)
		want, err := io.ReadAll(io.LimitReader(flate.NewReader(source), 4<<20))
		if len(want) == 4<<20 {
			return
		}
		got, z, ours := inflated(stream, int(piece)+1, int(room)+1)
		ended := err == nil
		var corrupt flate.CorruptInputError
		switch {
		case ended && (ours != nil && !errors.Is(ours, ErrEnded) || errors.Is(ours, ErrEnded) != (source.Len() > 0)):
			t.Fatalf("%v; Go read it whole, with %d octets left", ours, source.Len())
		case errors.Is(err, io.ErrUnexpectedEOF) && ours != nil && len(got) < len(want):
			return // a block without an end: zlib refuses it, too, and Go doesn't
		case errors.As(err, &corrupt) && ours == nil && len(got) > len(want)+258:
			t.Fatalf("read %d octets; to Go it is %v after %d", len(got), err, len(want))
		}
		if n := min(len(got), len(want)); !bytes.Equal(got[:n], want[:n]) || ended && len(got) != len(want) || err == io.ErrUnexpectedEOF && ours == nil && len(got) < len(want) {
			t.Fatalf("%d octets, Go has %d", len(got), len(want))
		}
		if len(z.history) > Window || cap(z.history) > Window {
			t.Fatalf("a history of %d octets", len(z.history))
		}
	})
}

// FuzzBoth sends texts through a Deflater and an Inflater.
func FuzzBoth(f *testing.F) {
	f.Add(uint64(1), uint16(100), []byte("* 1 FETCH (FLAGS ())\r\n"))
	f.Fuzz(func(t *testing.T, seed uint64, keeps uint16, text []byte) {
		r := mathrand.New(mathrand.NewPCG(seed, 1))
		d := NewDeflater(int(keeps))
		var o Output
		var z Inflater
		var s Scratch
		dst := make([]byte, 1<<16)
		for range 8 {
			p := bytes.Repeat(text, r.IntN(20)+1)
			p = p[:min(len(p), len(dst)-1)]
			if r.IntN(5) == 0 {
				d.Rest()
			} else {
				d.Wake()
			}
			n, _, err := z.Inflate(&s, dst, d.Deflate(&o, p))
			if err != nil || !bytes.Equal(dst[:n], p) {
				t.Fatalf("%d octets of %d, %v", n, len(p), err)
			}
		}
	})
}

func BenchmarkDeflate(b *testing.B) {
	for name, text := range map[string]string{
		"envelopes": answers(250), "base64": base64.StdEncoding.EncodeToString([]byte(noise(24_000))), "random": noise(32_000), "line": "* OK Still here\r\n",
	} {
		b.Run(name, func(b *testing.B) {
			d := NewDeflater(MaxHistory)
			var o Output
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				d.Deflate(&o, []byte(text))
			}
			b.ReportMetric(float64(len(o.b))/float64(len(text)), "ratio")
		})
	}
}

func BenchmarkInflate(b *testing.B) {
	for name, text := range map[string]string{
		"message": answers(250), "base64": base64.StdEncoding.EncodeToString([]byte(noise(24_000))), "command": "a1 UID FETCH 17 (FLAGS)\r\n",
	} {
		b.Run(name, func(b *testing.B) {
			stream := peers(b, 6, []string{text})
			var s Scratch
			dst := make([]byte, len(text)+1)
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			history := make([]byte, 0, Window)
			for b.Loop() {
				z := Inflater{history: history}
				if n, _, err := z.Inflate(&s, dst, stream); n != len(text) || err != nil {
					b.Fatal(n, err)
				}
			}
		})
	}
}
