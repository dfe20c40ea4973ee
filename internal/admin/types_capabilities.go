package admin

import (
	"slices"
	"strings"
)

// Where a backend's Capabilities are known from.
const (
	FromLogin    = "login"    // from users' logins: what all of them have
	FromGreeting = "greeting" // from the list before login; there may be more
)

// Differences returns the capabilities in which backends differ that aren't down, by name. Only what is known from logins is compared: before login a
// backend may list a part.
func Differences(backends []Backend) []Difference {
	all := []Difference{}
	at := map[string]int{}
	known := slices.DeleteFunc(slices.Clone(backends), func(b Backend) bool { return b.CapabilitiesFrom != FromLogin || b.State == "down" })
	for _, b := range known {
		for _, name := range b.Capabilities {
			if name = strings.ToUpper(name); at[name] == 0 {
				all = append(all, Difference{Capability: name, Have: []string{}, Lack: []string{}})
				at[name] = len(all)
			}
		}
	}
	for i := range all {
		for _, b := range known {
			if slices.ContainsFunc(b.Capabilities, func(has string) bool { return strings.EqualFold(has, all[i].Capability) }) {
				all[i].Have = append(all[i].Have, b.ID)
			} else {
				all[i].Lack = append(all[i].Lack, b.ID)
			}
		}
	}
	all = slices.DeleteFunc(all, func(d Difference) bool { return len(d.Lack) == 0 })
	slices.SortFunc(all, func(a, b Difference) int { return strings.Compare(a.Capability, b.Capability) })
	return all
}
