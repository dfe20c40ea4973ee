//go:build race

package track

// raceEnabled: the tests run under the race detector.
const raceEnabled = true
