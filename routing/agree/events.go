package agree

import "time"

// Tick tells the Member the time. It is called ten times a second, and at Deadline.
func (m *Member) Tick(now time.Time) {
	m.at(now)
	m.pump()
}

// Read takes an answer to the watch of the whole prefix. A reading older than the last one is ignored, so
// that any server may be asked (Consul's mode `stale`); if Consul's index really has gone back, one
// consistent reading has to show it.
func (m *Member) Read(r *Reading, now time.Time) {
	m.at(now)
	m.read(r)
	m.pump()
}

// Unreachable tells the Member which backends this proxy can't reach. A login there isn't sent elsewhere
// because of one proxy's report.
func (m *Member) Unreachable(backends []string, now time.Time) {
	m.at(now)
	m.unreachable = sortedCopy(backends)
	m.pump()
}

// Leave begins a clean stop: claims are refused from now on. When no connection is left, the key is removed
// and the session destroyed.
func (m *Member) Leave(now time.Time) {
	m.at(now)
	if m.phase != left {
		m.phase = map[phase]phase{outside: left, inside: leaving, leaving: leaving}[m.phase]
	}
	m.pump()
}

// Reconfigure changes the settings. On an error the old ones stay. If a proxy is isolated and the mode
// becomes Hold, it lets go of all users.
func (m *Member) Reconfigure(s Settings, now time.Time) error {
	m.at(now)
	o := m.o
	o.AgreeWithin, o.Isolated, o.Policy = s.AgreeWithin, s.Isolated, s.Policy
	o, err := o.withDefaults()
	if err != nil {
		return err
	}
	was := m.o.Isolated
	m.o = o
	m.o.About.Settings = o.words()
	if m.isolated && was == Serve && o.Isolated == Hold {
		m.effect(Effect{Kind: CloseAll, Text: "this proxy is isolated, and was told to hold"})
	}
	m.changed()
	m.pump()
	return nil
}
