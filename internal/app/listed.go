package app

import "strings"

// listed takes the capabilities before login that discovery's probe of a backend has read.
func (a *App) listed(backend, capabilities string) {
	a.server.Listed(backend, strings.Fields(capabilities))
}
