// Package arrows holds one test and nothing else: which room may import which,
// and which library stays in which room. Nobody imports it.
package arrows
