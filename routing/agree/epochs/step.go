package main

import "fmt"

// did is a step that was made: the proxy and the user (each -1 if there is none), and what was done.
type did struct {
	proxy, user int8
	what        string
}

func (d did) String() string {
	text := d.what
	if d.proxy >= 0 {
		text = fmt.Sprintf("proxy %d %s", d.proxy, text)
	}
	if d.user >= 0 {
		text += fmt.Sprintf(" (user %d)", d.user)
	}
	return text
}

// give is called with each state that one step leads to.
type give func(step did, t state)

// step records a step of a proxy: its name, its user, and how it changes the state, the proxy and the
// proxy's key.
type step func(what string, user int, change func(t *state, p *proxy, own *record))
