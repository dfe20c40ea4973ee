package config

import (
	"fmt"
	"strconv"
	"strings"
)

// Size is a number of bytes, written as "4MiB" or "4MB".
type Size int64

// String is the number as it is written: with the largest unit that divides it.
func (s Size) String() string {
	for _, u := range sizeUnits() {
		if s != 0 && s%u.bytes == 0 {
			return strconv.FormatInt(int64(s/u.bytes), 10) + u.name
		}
	}
	return "0B"
}

// sizeUnit is a unit of a Size.
type sizeUnit struct {
	name  string
	bytes Size
}

// sizeUnits returns the units of a Size, the largest first.
func sizeUnits() []sizeUnit {
	return []sizeUnit{{"TiB", 1 << 40}, {"TB", 1e12}, {"GiB", 1 << 30}, {"GB", 1e9}, {"MiB", 1 << 20}, {"MB", 1e6}, {"KiB", 1 << 10}, {"kB", 1e3}, {"B", 1}}
}

// parseSize reads a Size.
func parseSize(text string) (Size, error) {
	for _, u := range sizeUnits() {
		digits, ok := strings.CutSuffix(text, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
		if err != nil || !(n >= 0 && n*float64(u.bytes) < 1<<62) {
			break
		}
		return Size(n * float64(u.bytes)), nil
	}
	return 0, fmt.Errorf("%q isn't a number of bytes", text)
}
