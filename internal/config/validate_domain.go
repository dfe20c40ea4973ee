package config

import (
	"fmt"
	"slices"
	"strings"
)

// domains checks the names of domains, and makes them lower-case.
func (d *decoder) domains(c *Config) {
	line := map[string]int{}
	for i, domain := range c.Domains {
		path := "domain." + domain.Name
		switch {
		case strings.HasPrefix(domain.Name, "@"):
			d.fail(d.at(path), path+": write the domain without @", "write domain %q { … }", domain.Name[1:])
			continue
		case strings.ContainsAny(domain.Name, "@*\"\\") || strings.ContainsFunc(domain.Name, func(r rune) bool { return r <= ' ' || r == 0x7f }):
			d.fail(d.at(path), fmt.Sprintf("%s: %q isn't a domain", path, domain.Name), "write each domain whole, such as domain \"example.org\" { … }")
			continue
		}
		name := strings.ToLower(domain.Name)
		if before, again := line[name]; again {
			d.fail(d.at(path), fmt.Sprintf("a second domain.%s, after the one in line %d", name, before), "keep one of them")
			continue
		}
		line[name] = d.at(path).Start.Line
		c.Domains[i].Name = name
		if domain.Placement == "" {
			if !d.failed[path+".placement"] {
				d.fail(d.at(path+".placement"), path+".placement is empty", "write a backend's name, or remove the block")
			}
			continue
		}
		d.oneWord(path+".placement", domain.Placement)
		if s := c.Discovery.Static; s != nil && !d.failed[path+".placement"] && !slices.ContainsFunc(s.Backends, func(b StaticBackend) bool {
			return b.ID == domain.Placement || b.Address == domain.Placement
		}) {
			d.warn(d.at(path+".placement"), fmt.Sprintf("%s.placement: there is no backend %q", path, domain.Placement), "write the name of one of discovery's backends")
		}
	}
}
