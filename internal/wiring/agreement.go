package wiring

import (
	"fmt"

	"imapproxy/internal/config"
	"imapproxy/routing"
	"imapproxy/routing/agree"
	"imapproxy/routing/cluster"
	"imapproxy/telemetry"
)

// Agrees reports whether the proxies agree with each other on where users are: there is a block cluster, and discovery
// "consul".
func Agrees(c *config.Config) bool { return c.Cluster != nil && c.Discovery.Consul != nil }

// Agreement returns the options of the agreement with other proxies, except this proxy's identity and callbacks. Call it only if
// Agrees returns true.
func Agreement(c *config.Config, tel *telemetry.Telemetry) cluster.Options {
	storage, _ := routing.ParseStorage(c.Routing.Storage) // config has checked it
	s := AgreementSettings(c)
	return cluster.Options{
		Consul: Consul(c.Discovery.Consul), Service: c.Cluster.Service, Telemetry: tel,
		Member: agree.Options{
			Storage: storage, Users: usersInWords(c), TTL: c.Cluster.SessionTTL,
			AgreeWithin: s.AgreeWithin, Isolated: s.Isolated, Policy: s.Policy,
		},
	}
}

// AgreementSettings returns the settings of the agreement that a reload can change.
func AgreementSettings(c *config.Config) agree.Settings {
	mode := agree.Serve
	if c.Cluster.Isolated == "hold" {
		mode = agree.Hold
	}
	return agree.Settings{
		AgreeWithin: c.Cluster.AgreeWithin, Isolated: mode,
		Policy: agree.Policy{
			PanicThreshold: float64(c.Routing.PanicThreshold), FailoverAfter: None(c.Routing.FailoverAfter), FlapDamp: None(c.Routing.FlapDamp),
			MoveRate: float64(c.Cluster.MoveRate), RebalanceRate: noneOf(c.Cluster.RebalanceRate),
		},
	}
}

// noneOf is a rate for a package whose zero value means its default.
func noneOf(rate int) float64 {
	if rate == 0 {
		return -1
	}
	return float64(rate)
}

// usersInWords says how a client's name for a user becomes the canonical one: two proxies with the same words have the same names. Which names are
// refused makes no difference.
func usersInWords(c *config.Config) string {
	n := Names(c)
	return fmt.Sprintf("lowercase=%t default_domain=%q", n.Lowercase, n.DefaultDomain)
}

// AdminAddress returns the address at which other proxies reach the admin API, as the registration has it; "":
// it has none.
func AdminAddress(c *config.Config, bound string) string {
	for _, address := range adminMeta(c, bound) {
		return address
	}
	return ""
}
