package wire

import "testing"

func TestHowLongACommandIs(t *testing.T) {
	for _, c := range []struct {
		in    string
		n     int
		whole bool
	}{
		{"a NOOP\r\nb NOOP\r\n", 8, true},
		{"a NOOP\r\n", 8, true},
		{"a NOO", 5, false},
		{"", 0, false},
		{"a SELECT {5+}\r\nINBOX\r\nb", 22, true},
		{"a SELECT {5+}\r\nINBOX", 20, false},
		{"a SELECT {5}\r\nINB", 17, false},
	} {
		if n, whole := UnitLen([]byte(c.in)); n != c.n || whole != c.whole {
			t.Errorf("%q: %d %v", c.in, n, whole)
		}
	}
}
